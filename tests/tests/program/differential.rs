//! Random frames: the kernel's programs and the host model must agree on each.

use std::collections::BTreeSet;

use anyhow::{Context as _, ensure};
use doorstep_datapath::slice::SliceFrame;
use doorstep_datapath::trace;
use doorstep_gateway_common::Reason;
use doorstep_gateway_common::globals::Globals;
use doorstep_gateway_common::trace::{Point, SNAP, TraceEvent, TraceFilter};
use doorstep_tests::frames::{
    Ether, GATEWAY_V4, WORLD_V4, WORLD_V6, arp_request, dhcp_v4, neighbour_solicitation, udp_v4,
    udp_v6, udp_v6_to,
};
use doorstep_tests::model::Model;
use doorstep_tests::programs::{IFINDEX, Loaded, Side, model};
use doorstep_tests::suite::CaseResult;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rand::{Rng as _, SeedableRng as _};

use crate::fixture::{self, BLOCKED_TAGS, FROM_WORLD};
use crate::probes;

/// Frames of the short run, and what they follow from; `cargo xtask fuzz` sets others.
const FRAMES: u64 = 200_000;
const SEED: u64 = 0xd005;

/// Frames that are right, from which the random ones are made.
fn corpus() -> Vec<(Side, Vec<u8>)> {
    let mut frames = Vec::new();
    for home in fixture::homes() {
        let up = home.up();
        let multicast = Ether {
            destination: [0x33, 0x33, 0xff, 0, 0, 1],
            ..up
        };
        let broadcast = Ether {
            destination: [0xff; 6],
            ..up
        };
        let link_local = {
            let mut address = [0; 16];
            address[..2].copy_from_slice(&[0xfe, 0x80]);
            address[15] = 0x11;
            address
        };
        let gateway = doorstep_datapath::nd::GATEWAY_LINK_LOCAL;
        for frame in [
            udp_v4(up, home.v4, WORLD_V4, 64),
            udp_v4(up, home.v4, GATEWAY_V4, 64),
            udp_v4(up, home.v4, WORLD_V4, 1),
            udp_v6(up, home.v6, WORLD_V6, 64),
            udp_v6(up, home.v6, WORLD_V6, 1),
            arp_request(broadcast, home.v4, GATEWAY_V4),
            dhcp_v4(broadcast, [0; 4], [255; 4]),
            dhcp_v4(up, home.v4, GATEWAY_V4),
            neighbour_solicitation(multicast, link_local, gateway),
            udp_v6_to(up, link_local, gateway, 255, 52525),
            probes::question(&home, 1),
        ] {
            frames.push((Side::Access, frame));
        }
        frames.push((Side::Uplink, udp_v4(FROM_WORLD, WORLD_V4, home.v4, 64)));
        frames.push((Side::Uplink, udp_v6(FROM_WORLD, WORLD_V6, home.v6, 64)));
        frames.push((Side::Uplink, udp_v6(FROM_WORLD, WORLD_V6, home.v6, 1)));
    }
    let blocked = Ether {
        tags: BLOCKED_TAGS,
        ..fixture::homes()[0].up()
    };
    frames.push((
        Side::Access,
        udp_v4(blocked, fixture::homes()[0].v4, WORLD_V4, 64),
    ));
    frames
}

/// Changes up to four places of the headers, sometimes the length.
fn mutate(rng: &mut StdRng, frame: &mut Vec<u8>) {
    for _ in 0..rng.random_range(0..=4u32) {
        let at = rng.random_range(0..frame.len().min(96));
        match rng.random_range(0..4u32) {
            0 => frame[at] = rng.random(),
            1 => frame[at] ^= 1 << rng.random_range(0..8u32),
            2 => {
                frame[at] = *[0, 1, 4, 0x45, 0x60, 0x81, 0x88, 0xa8, 0xff]
                    .choose(rng)
                    .unwrap()
            }
            _ => {
                let from = rng.random_range(0..frame.len());
                frame[at] = frame[from];
            }
        }
    }
    match rng.random_range(0..10u32) {
        0 => frame.truncate(rng.random_range(14..=frame.len())),
        1 => frame.extend(std::iter::repeat_n(0, rng.random_range(1..1700usize))),
        2 => {
            // One tag more, of either kind.
            let tpid: u16 = if rng.random() { 0x8100 } else { 0x88a8 };
            let mut tag = tpid.to_be_bytes().to_vec();
            tag.extend(rng.random::<u16>().to_be_bytes());
            frame.splice(12..12, tag);
        }
        _ => {}
    }
}

/// Frames that were made from right ones.
struct Mutants {
    corpus: Vec<(Side, Vec<u8>)>,
    rng: StdRng,
}

impl Mutants {
    fn new(seed: u64) -> Self {
        Self {
            corpus: corpus(),
            rng: StdRng::seed_from_u64(seed),
        }
    }

    fn next(&mut self) -> (Side, Vec<u8>) {
        let (side, mut frame) = self.corpus.choose(&mut self.rng).expect("a corpus").clone();
        mutate(&mut self.rng, &mut frame);
        (side, frame)
    }
}

/// Runs a frame through a program, which must do with it what the model does; its reason.
fn agrees(loaded: &mut Loaded, tables: &Model, side: Side, frame: &[u8]) -> anyhow::Result<Reason> {
    let (expected, verdict, reason) = model(tables, side, frame);
    let before = loaded.count(reason)?;
    let fate = loaded.run(side, frame)?;
    let context = || format!("{verdict:?}");
    ensure!(
        fate.action == expected.action,
        "action {} != {}; {}",
        fate.action,
        expected.action,
        context()
    );
    ensure!(
        fate.operator == expected.operator,
        "operator {:?}; {}",
        fate.operator,
        context()
    );
    ensure!(
        fate.frame == expected.frame,
        "bytes {:02x?} != {:02x?}; {}",
        fate.frame,
        expected.frame,
        context()
    );
    ensure!(
        loaded.count(reason)? == before + 1,
        "not counted as {}; {}",
        reason.name(),
        context()
    );
    while loaded.next_punt().is_some() {}
    Ok(reason)
}

fn named(number: u64, seed: u64, side: Side, frame: &[u8]) -> String {
    format!("frame {number} of seed {seed}, {side:?}: {frame:02x?}")
}

/// What the environment sets a number to.
fn set(name: &str, default: u64) -> anyhow::Result<u64> {
    match std::env::var(name) {
        Ok(text) => text
            .parse()
            .with_context(|| format!("{name}={text}: not a number")),
        Err(_) => Ok(default),
    }
}

pub fn mutated_frames_agree_with_the_model() -> CaseResult {
    let frames = set("DOORSTEP_FRAMES", FRAMES)?;
    let seed = set("DOORSTEP_SEED", SEED)?;
    let tables = probes::model();
    let mut loaded = Loaded::new(&tables)?;
    let mut mutants = Mutants::new(seed);
    let mut seen = BTreeSet::new();
    for number in 0..frames {
        let (side, frame) = mutants.next();
        let reason = agrees(&mut loaded, &tables, side, &frame)
            .with_context(|| named(number, seed, side, &frame))?;
        seen.insert(reason);
    }
    ensure!(
        loaded.total()? == frames,
        "{} counted, {frames} sent",
        loaded.total()?
    );
    // A generator that reaches too little shows nothing.
    ensure!(
        seen.len() >= 24,
        "only {} reasons were reached: {seen:?}",
        seen.len()
    );
    Ok(())
}

/// Frames of the run in which each is followed.
const FOLLOWED: u64 = FRAMES / 10;

/// Programs that tell of packets do with them what the others do, and tell of each once what the
/// model knows of it.
pub fn followed_frames_are_told_of_once() -> CaseResult {
    let mut tables = fixture::model();
    tables.globals.flags = Globals::TRACE;
    let mut loaded = Loaded::new(&tables)?;
    let everything = TraceFilter {
        flags: TraceFilter::ENABLED,
        ..TraceFilter::default()
    };
    loaded.follow(3, everything)?;
    let mut mutants = Mutants::new(SEED);
    for number in 0..FOLLOWED {
        let (side, frame) = mutants.next();
        let told_of = |loaded: &mut Loaded| -> anyhow::Result<()> {
            let reason = agrees(loaded, &tables, side, &frame)?;
            let told = loaded.told()?;
            let [event] = told.as_slice() else {
                anyhow::bail!("told of {} times", told.len());
            };
            let expected = expected(&tables, side, &frame, reason, event);
            ensure!(*event == expected, "{event:?} != {expected:?}");
            Ok(())
        };
        told_of(&mut loaded).with_context(|| named(number, SEED, side, &frame))?;
    }
    Ok(())
}

/// What is to be told of a frame. What no model knows, its time, is what was told.
fn expected(
    tables: &Model,
    side: Side,
    frame: &[u8],
    reason: Reason,
    told: &TraceEvent,
) -> TraceEvent {
    let mut event = *told;
    let slice = SliceFrame::new(frame);
    let point = match side {
        Side::Access => {
            trace::from_line(&slice, tables, IFINDEX, &mut event);
            Point::Access
        }
        Side::Uplink => {
            trace::from_world(&slice, tables, IFINDEX, &mut event);
            Point::Uplink
        }
    };
    let snapped = frame.len().min(SNAP);
    event.frame[..snapped].copy_from_slice(&frame[..snapped]);
    TraceEvent {
        filters: 1 << 3,
        ifindex: IFINDEX,
        len: frame.len() as u32,
        snapped: snapped as u16,
        reason: reason.number(),
        point: point as u16,
        pad: 0,
        ..event
    }
}
