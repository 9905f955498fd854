//! What the eBPF programs hand to the gateway's daemon through ring buffers.

use doorstep_establish::frame;
use doorstep_gateway::dataplane::Punt;
use doorstep_gateway::trace::{self, Frame, Names};
use doorstep_gateway_common::punt::PuntHeader;
use doorstep_gateway_common::trace::{Entry, SNAP, TraceEvent};
use doorstep_gateway_common::{OperatorIndex, Reason, record};

use super::establish::frame_seeds;
use crate::Target;
use crate::mutate::Shape;

pub const PUNT: Target = Target {
    name: "punt_record",
    about: "records of PUNT: as much of a frame as the header says, for a reason that exists",
    check: check_punt,
    seeds: punt_seeds,
    shape: Shape::Bytes,
    words: &[],
    inputs: 10_000,
};

pub const TRACE: Target = Target {
    name: "trace_record",
    about: "records of TRACE, and the beginnings of frames in them",
    check: check_trace,
    seeds: trace_seeds,
    shape: Shape::Bytes,
    words: &[],
    inputs: 10_000,
};

fn punt_seeds() -> Vec<Vec<u8>> {
    frame_seeds()
        .into_iter()
        .map(|frame| {
            let len = u32::try_from(frame.len()).expect("short").to_ne_bytes();
            let reason = Reason::PuntEstablish.number().to_ne_bytes();
            let line = [7, 0, 0, 0, 101, 0, 236, 3];
            [&line[..], &len, &reason, &[0; 2], &frame].concat()
        })
        .collect()
}

fn check_punt(data: &[u8]) {
    let Some(punt) = Punt::parse(data) else {
        return;
    };
    let frame = &data[size_of::<PuntHeader>()..];
    assert!(frame.starts_with(&punt.frame));
    assert_eq!(Reason::from_number(punt.reason.number()), Some(punt.reason));
    let _ = frame::parse(&punt.frame);
}

fn trace_seeds() -> Vec<Vec<u8>> {
    let record = |entry: Entry, frame: &[u8]| {
        let snapped = frame.len().min(SNAP);
        let mut record = vec![0; size_of::<TraceEvent>()];
        let offsets = [
            (std::mem::offset_of!(TraceEvent, snapped), snapped as u16),
            (std::mem::offset_of!(TraceEvent, entry), entry as u16),
        ];
        for (offset, value) in offsets {
            record[offset..offset + 2].copy_from_slice(&value.to_ne_bytes());
        }
        let frame_at = std::mem::offset_of!(TraceEvent, frame);
        record[frame_at..frame_at + snapped].copy_from_slice(&frame[..snapped]);
        record
    };
    let entries = [
        Entry::UpstreamV4,
        Entry::UpstreamV6,
        Entry::DownstreamV4,
        Entry::DownstreamV6,
        Entry::Line,
        Entry::Uplink,
    ];
    let frames = frame_seeds();
    entries
        .into_iter()
        .zip(frames.iter().rev())
        .map(|(entry, frame)| record(entry, frame))
        .collect()
}

struct Host;

impl Names for Host {
    fn port(&self, ifindex: u32) -> String {
        format!("port{ifindex}")
    }

    fn operator(&self, index: OperatorIndex) -> String {
        format!("operator{index}")
    }

    fn delegated_len(&self) -> u8 {
        56
    }
}

fn check_trace(data: &[u8]) {
    let Some((event, _)) = record::split::<TraceEvent>(data) else {
        return;
    };
    let frame = Frame::of(&event);
    assert!(
        frame
            .tags
            .iter()
            .all(|tag| tag.vid < 4096 && tag.priority < 8)
    );
    let text = frame.protocol;
    assert!(text.chars().all(|char| !char.is_control()), "{text:?}");
    for reason in Reason::ALL {
        if let Some(used) = trace::entry(&event, *reason, &Host) {
            assert!(!used.key.is_empty() && !used.map.is_empty());
        }
    }
    let has_none = event.source == [0; 16] && event.destination == [0; 16];
    assert_eq!(trace::addresses(&event).is_none(), has_none);
    assert!(["up", "down"].contains(&trace::direction(&event, |port| port == 1)));
}
