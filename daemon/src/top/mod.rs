//! `top`: what goes on at a daemon, drawn anew every few seconds.
//!
//! A [`Screen`] works out what is to be seen from the looks at its daemon, and draws it; here is what all have in
//! common: the terminal, the keys, and one frame as text for pipes.

mod rates;
mod table;

use std::io::{IsTerminal as _, stdout};
use std::pin::pin;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use clap::Args;
use ratatui::backend::TestBackend;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use ratatui::layout::Rect;
use ratatui::style::Modifier;
use ratatui::text::Line;
use ratatui::widgets::Clear;
use ratatui::{DefaultTerminal, Frame, Terminal};
use tokio::sync::mpsc;
use tokio::time::error::Elapsed;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

pub use rates::{Between, bits, count};
pub use table::{Cell, Column, Sorted, plain};

use crate::output;

/// The frame of `--once`, unless the environment has the terminal's size.
const COLUMNS: u16 = 120;
const LINES: u16 = 50;
/// How long a daemon may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long a thread that waits for keys may take to notice that nobody does any more.
const LOOK: Duration = Duration::from_millis(200);

/// What all daemons' commands take.
#[derive(Clone, Debug, Args)]
pub struct Options {
    /// Seconds between two looks
    #[arg(long, value_name = "SECONDS", default_value_t = 2, value_parser = clap::value_parser!(u16).range(1..=3600))]
    pub interval: u16,
    /// Look twice, print one frame as text, and end
    #[arg(long)]
    pub once: bool,
}

impl Options {
    fn pause(&self) -> Duration {
        Duration::from_secs(self.interval.into())
    }
}

/// What is seen of a daemon.
pub trait Screen {
    /// What the daemon has answered.
    type Look;

    fn take(&mut self, look: Self::Look);

    fn draw(&self, frame: &mut Frame<'_>);

    /// A key that does not end it.
    fn key(&mut self, key: KeyCode);
}

/// Shows until `q` what is seen by `look`, which asks the daemon; or prints it once.
pub async fn run<S: Screen>(
    mut look: impl AsyncFnMut() -> Result<S::Look>,
    screen: &mut S,
    options: &Options,
    stop: CancellationToken,
) -> Result<()> {
    screen.take(look().await?);
    if options.once {
        sleep(options.pause()).await;
        screen.take(look().await?);
        return output::print(&text(&*screen, size())?);
    }
    ensure!(
        stdout().is_terminal(),
        "standard output is no terminal; --once prints one frame as text"
    );
    let mut window = Window {
        screen,
        terminal: Restored::new()?,
        keys: keys(stop.clone()),
        stop,
        lost: None,
    };
    loop {
        if window.until(sleep(options.pause())).await?.is_none() {
            return Ok(());
        }
        let Some(looked) = window.until(timeout(PATIENCE, look())).await? else {
            return Ok(());
        };
        window.take(answered(looked));
    }
}

/// A screen in a terminal.
struct Window<'a, S> {
    screen: &'a mut S,
    terminal: Restored,
    keys: mpsc::Receiver<Event>,
    stop: CancellationToken,
    /// Why the last look saw nothing.
    lost: Option<String>,
}

impl<S: Screen> Window<'_, S> {
    /// Shows it and hears keys until this is done; nothing when it is to end.
    async fn until<T>(&mut self, awaited: impl Future<Output = T>) -> Result<Option<T>> {
        let mut awaited = pin!(awaited);
        loop {
            self.draw()?;
            tokio::select! {
                () = self.stop.cancelled() => return Ok(None),
                done = &mut awaited => return Ok(Some(done)),
                event = self.keys.recv() => match event {
                    None => return Ok(None),
                    Some(Event::Key(key)) if key.kind == KeyEventKind::Release => {}
                    Some(Event::Key(key)) if ends(key) => return Ok(None),
                    Some(Event::Key(key)) => self.screen.key(key.code),
                    Some(_) => {}
                },
            }
        }
    }

    fn draw(&mut self) -> Result<()> {
        let drawn = self.terminal.0.draw(|frame| {
            self.screen.draw(frame);
            if let Some(why) = &self.lost {
                notice(frame, why);
            }
        });
        drawn.context("cannot draw")?;
        Ok(())
    }

    fn take(&mut self, looked: Result<S::Look, String>) {
        match looked {
            Ok(look) => {
                self.screen.take(look);
                self.lost = None;
            }
            // A daemon that is started again is found again.
            Err(why) => self.lost = Some(why),
        }
    }
}

/// What a look saw, or why nothing.
fn answered<L>(look: Result<Result<L>, Elapsed>) -> Result<L, String> {
    match look {
        Ok(look) => look.map_err(|error| format!("{error:#}")),
        Err(_) => Err(format!("none within {} s", PATIENCE.as_secs())),
    }
}

/// Says in the last line that what is seen is no longer so.
fn notice(frame: &mut Frame<'_>, why: &str) {
    let area = frame.area();
    let last = Rect {
        y: area.bottom().saturating_sub(1),
        height: area.height.min(1),
        ..area
    };
    let text = Line::from(format!("no answer, this is what was last known: {why}"));
    frame.render_widget(Clear, last);
    frame.render_widget(text.style(Modifier::REVERSED), last);
}

fn ends(key: KeyEvent) -> bool {
    let interrupt = key.modifiers.contains(KeyModifiers::CONTROL) && key.code == KeyCode::Char('c');
    interrupt || matches!(key.code, KeyCode::Char('q') | KeyCode::Esc)
}

/// The terminal as it was, however this ends: also by a panic, whose text is then readable.
struct Restored(DefaultTerminal);

impl Restored {
    fn new() -> Result<Self> {
        ratatui::try_init()
            .map(Restored)
            .context("cannot prepare the terminal; --once prints one frame as text")
    }
}

impl Drop for Restored {
    fn drop(&mut self) {
        ratatui::restore();
    }
}

/// What is typed, from a thread of its own: reading waits.
fn keys(stop: CancellationToken) -> mpsc::Receiver<Event> {
    let (typed, keys) = mpsc::channel(16);
    std::thread::spawn(move || {
        while !stop.is_cancelled() && !typed.is_closed() {
            let event = match event::poll(LOOK) {
                Ok(false) => continue,
                Ok(true) => event::read(),
                Err(error) => Err(error),
            };
            // A terminal that is gone has no more keys, and `top` ends.
            let Ok(event) = event else { return };
            if typed.blocking_send(event).is_err() {
                return;
            }
        }
    });
    keys
}

/// One frame as lines of text.
pub fn text(screen: &impl Screen, (columns, lines): (u16, u16)) -> Result<String> {
    let mut terminal = Terminal::new(TestBackend::new(columns, lines))?;
    terminal.draw(|frame| screen.draw(frame))?;
    let buffer = terminal.backend().buffer();
    let Rect { width, height, .. } = buffer.area;
    let line = |y| {
        let cells: String = (0..width).map(|x| buffer[(x, y)].symbol()).collect();
        format!("{}\n", cells.trim_end())
    };
    let text: String = (0..height).map(line).collect();
    Ok(format!("{}\n", text.trim_end()))
}

fn size() -> (u16, u16) {
    let of = |name, default| {
        let given = std::env::var(name).ok().and_then(|text| text.parse().ok());
        given
            .filter(|size| (20..=1000).contains(size))
            .unwrap_or(default)
    };
    (of("COLUMNS", COLUMNS), of("LINES", LINES))
}

#[cfg(test)]
mod tests {
    use ratatui::text::Text;

    use super::*;

    struct Hello;

    impl Screen for Hello {
        type Look = ();

        fn take(&mut self, (): ()) {}

        fn draw(&self, frame: &mut Frame<'_>) {
            frame.render_widget(Text::from("hello\n  there"), frame.area());
        }

        fn key(&mut self, _: KeyCode) {}
    }

    #[test]
    fn a_frame_is_text() {
        assert_eq!(text(&Hello, (20, 5)).expect("drawn"), "hello\n  there\n");
    }

    #[test]
    fn a_daemon_that_is_gone_is_told_of() {
        let mut terminal = Terminal::new(TestBackend::new(60, 3)).expect("a terminal");
        let draw = |frame: &mut Frame<'_>| {
            Hello.draw(frame);
            notice(frame, "refused");
        };
        terminal.draw(draw).expect("drawn");
        let seen = terminal.backend().to_string();
        assert!(seen.contains("hello") && seen.contains("refused"), "{seen}");
    }

    #[test]
    fn keys_that_end_it() {
        for (code, modifiers, expected) in [
            (KeyCode::Char('q'), KeyModifiers::NONE, true),
            (KeyCode::Esc, KeyModifiers::NONE, true),
            (KeyCode::Char('c'), KeyModifiers::CONTROL, true),
            (KeyCode::Char('c'), KeyModifiers::NONE, false),
            (KeyCode::Down, KeyModifiers::NONE, false),
        ] {
            assert_eq!(ends(KeyEvent::new(code, modifiers)), expected, "{code:?}");
        }
    }

    #[tokio::test]
    async fn without_a_terminal_it_says_what_to_do() {
        if stdout().is_terminal() {
            return;
        }
        let options = Options {
            interval: 1,
            once: false,
        };
        let error = run(
            async || Ok(()),
            &mut Hello,
            &options,
            CancellationToken::new(),
        )
        .await;
        let error = error.expect_err("no terminal").to_string();
        assert!(error.contains("--once"), "{error}");
    }
}
