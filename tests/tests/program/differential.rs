//! Random frames: the kernel's programs and the host model must agree on each.

use anyhow::ensure;
use doorstep_gateway_common::Reason;
use doorstep_tests::frames::{
    Ether, GATEWAY_V4, WORLD_V4, WORLD_V6, arp_request, neighbour_solicitation, udp_v4, udp_v6,
    udp_v6_to,
};
use doorstep_tests::programs::{Loaded, Side, model};
use doorstep_tests::suite::CaseResult;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rand::{Rng as _, SeedableRng as _};

use crate::fixture::{self, BLOCKED_TAGS, FROM_WORLD};

/// Frames of the short run; `DOORSTEP_FRAMES` sets another number.
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
            neighbour_solicitation(multicast, link_local, gateway),
            udp_v6_to(up, link_local, gateway, 255, 52525),
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

pub fn mutated_frames_agree_with_the_model() -> CaseResult {
    let frames = match std::env::var("DOORSTEP_FRAMES") {
        Ok(text) => text.parse()?,
        Err(_) => FRAMES,
    };
    let tables = fixture::model();
    let mut loaded = Loaded::new(&tables)?;
    let corpus = corpus();
    let mut rng = StdRng::seed_from_u64(SEED);
    let mut seen = std::collections::BTreeMap::<Reason, u64>::new();
    for number in 0..frames {
        let (side, mut frame) = corpus.choose(&mut rng).expect("a corpus").clone();
        mutate(&mut rng, &mut frame);
        let (expected, verdict, reason) = model(&tables, side, &frame);
        let fate = loaded.run(side, &frame)?;
        let context =
            || format!("frame {number} of seed {SEED:#x}, {side:?}, {verdict:?}: {frame:02x?}");
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
        let count = seen.entry(reason).or_default();
        *count += 1;
        ensure!(
            loaded.count(reason)? == *count,
            "not counted as {}; {}",
            reason.name(),
            context()
        );
        while loaded.next_punt().is_some() {}
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
