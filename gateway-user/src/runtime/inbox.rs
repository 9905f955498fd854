//! What the loop is fed with, and in which order.
//!
//! Frames from lines wait in a queue of their own and are dropped when it is full: whoever floods
//! a line delays no server, no disconnect and no other answer of the fast path.

use std::time::{Duration, Instant};

use doorstep_gateway_common::LineKey;
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;
use tracing::warn;

use super::Input;
use crate::engine::Event;

/// Inputs that are decided on between two looks at the journal.
const BATCH: usize = 1024;
/// Frames that are looked at between two looks at everything else.
const FRAMES_BATCH: usize = 32;
const QUEUE: usize = 8192;
const FRAMES_QUEUE: usize = 256;
/// How often drops are told of at most.
const DROPS_INTERVAL: Duration = Duration::from_secs(1);

/// A frame of a line, for the daemon.
#[derive(Debug, PartialEq, Eq)]
pub struct Frame {
    pub line: LineKey,
    pub bytes: Vec<u8>,
}

/// The ends that feed the loop.
pub struct Feeds {
    pub inputs: mpsc::Sender<Input>,
    pub frames: FrameSender,
}

/// Takes frames for the loop and never waits for it.
pub struct FrameSender {
    queue: mpsc::Sender<Frame>,
    drops: Drops,
}

/// The loop's end.
pub struct Inbox {
    inputs: mpsc::Receiver<Input>,
    frames: mpsc::Receiver<Frame>,
}

pub fn inbox() -> (Feeds, Inbox) {
    let (input_sender, inputs) = mpsc::channel(QUEUE);
    let (frame_sender, frames) = mpsc::channel(FRAMES_QUEUE);
    let feeds = Feeds {
        inputs: input_sender,
        frames: FrameSender {
            queue: frame_sender,
            drops: Drops::default(),
        },
    };
    (feeds, Inbox { inputs, frames })
}

impl FrameSender {
    /// Queues a frame, or drops it. False once the loop has ended.
    pub fn offer(&mut self, frame: Frame, now: Instant) -> bool {
        match self.queue.try_send(frame) {
            Ok(()) => {}
            Err(TrySendError::Full(_)) => self.drops.count(),
            Err(TrySendError::Closed(_)) => return false,
        }
        if let Some((new, total)) = self.drops.take_news(now) {
            warn!(
                new,
                total, "frames from lines dropped: more come than are answered"
            );
        }
        true
    }
}

/// Counts drops, and says when it is time to tell of them.
#[derive(Debug, Default)]
struct Drops {
    total: u64,
    told: u64,
    told_at: Option<Instant>,
}

impl Drops {
    fn count(&mut self) {
        self.total += 1;
    }

    /// Drops that nobody was told of, and all.
    fn take_news(&mut self, now: Instant) -> Option<(u64, u64)> {
        let new = self.total - self.told;
        let rests = |at| now.saturating_duration_since(at) < DROPS_INTERVAL;
        if new == 0 || self.told_at.is_some_and(rests) {
            return None;
        }
        self.told = self.total;
        self.told_at = Some(now);
        Some((new, self.total))
    }
}

impl Inbox {
    /// What there is to do, at least one thing: what servers, the fast path and people say, then
    /// some frames. None once nobody can say anything any more.
    pub async fn next(&mut self) -> Option<Vec<Input>> {
        let mut batch = Vec::new();
        let first = tokio::select! {
            biased;
            input = self.inputs.recv() => {
                batch.push(input?);
                None
            }
            Some(frame) = self.frames.recv() => Some(frame),
        };
        while batch.len() < BATCH
            && let Ok(input) = self.inputs.try_recv()
        {
            batch.push(input);
        }
        let more = std::iter::from_fn(|| self.frames.try_recv().ok());
        let frames = first.into_iter().chain(more).take(FRAMES_BATCH);
        batch.extend(frames.map(Input::from));
        Some(batch)
    }
}

impl From<Frame> for Input {
    fn from(Frame { line, bytes }: Frame) -> Self {
        Self::Event(Event::Frame { line, frame: bytes })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::StreamEvent;

    fn frame() -> Frame {
        Frame {
            line: LineKey::default(),
            bytes: vec![0; 60],
        }
    }

    fn down() -> Input {
        Input::Stream(StreamEvent::Down { operator: 1 })
    }

    #[tokio::test]
    async fn a_flood_of_frames_holds_nothing_else_up() {
        let (mut feeds, mut inbox) = inbox();
        let now = Instant::now();
        for _ in 0..10_000 {
            assert!(feeds.frames.offer(frame(), now), "never waits");
        }
        assert_eq!(feeds.frames.drops.total, 10_000 - FRAMES_QUEUE as u64);
        // The flood takes no room of what counts.
        for _ in 0..QUEUE {
            feeds.inputs.try_send(down()).expect("has room");
        }
        let mut inputs = 0;
        while inputs < QUEUE {
            let batch = inbox.next().await.expect("more");
            let first = batch
                .iter()
                .take_while(|input| matches!(input, Input::Stream(_)))
                .count();
            assert_eq!(first, BATCH, "before every frame");
            assert_eq!(batch.len(), BATCH + FRAMES_BATCH, "frames go on as well");
            inputs += first;
        }
        drop(feeds);
        assert!(inbox.next().await.is_none());
    }

    #[tokio::test]
    async fn frames_alone_are_served() {
        let (mut feeds, mut inbox) = inbox();
        assert!(feeds.frames.offer(frame(), Instant::now()));
        let batch = inbox.next().await.expect("a frame");
        assert!(matches!(&batch[..], [Input::Event(Event::Frame { .. })]));
        drop(inbox);
        assert!(!feeds.frames.offer(frame(), Instant::now()), "ended");
    }

    #[test]
    fn drops_are_told_of_once_in_a_while() {
        let mut drops = Drops::default();
        let now = Instant::now();
        assert_eq!(drops.take_news(now), None);
        drops.count();
        assert_eq!(drops.take_news(now), Some((1, 1)));
        drops.count();
        drops.count();
        assert_eq!(drops.take_news(now + DROPS_INTERVAL / 2), None);
        assert_eq!(drops.take_news(now + DROPS_INTERVAL), Some((2, 3)));
        assert_eq!(drops.take_news(now + DROPS_INTERVAL * 3), None);
    }
}
