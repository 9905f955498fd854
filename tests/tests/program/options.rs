//! What an operator may switch on: turning round, clamping of MSS, priority by DSCP.

use std::net::IpAddr;

use anyhow::{Context as _, Result, ensure};
use doorstep_gateway_common::downstream::WireTag;
use doorstep_gateway_common::operator::{OperatorValue, UplinkKey, UplinkValue};
use doorstep_gateway_common::{Direction, Reason, flag};
use doorstep_tests::frames::{
    GATEWAY_MAC, HOME_MAC, WORLD_V4, WORLD_V6, offered_mss, priorities, syn, tags, udp_v4, udp_v6,
};
use doorstep_tests::model::Model;
use doorstep_tests::programs::{self, Fate, Loaded, Side, XDP_REDIRECT};
use doorstep_tests::suite::CaseResult;

use crate::fixture::{self, FROM_WORLD, Home, OPERATOR};

/// Runs a frame; the model and the counters say the same.
fn run(
    loaded: &mut Loaded,
    model: &Model,
    side: Side,
    bytes: &[u8],
    reason: Reason,
) -> Result<Fate> {
    let before = loaded.count(reason)?;
    let fate = loaded.run(side, bytes)?;
    let (expected, _, says) = programs::model(model, side, bytes);
    ensure!(says == reason, "the model says {}", says.name());
    ensure!(fate == expected, "{fate:02x?}, not {expected:02x?}");
    let counted = loaded.count(reason)? - before;
    ensure!(counted == 1, "not counted as {}", reason.name());
    Ok(fate)
}

fn operator(model: &mut Model) -> &mut OperatorValue {
    model.operators.get_mut(&OPERATOR).expect("the operator")
}

/// Makes the operator's port its uplink; in the fixture frames come in by another.
fn own_uplink(model: &mut Model, vid: u16) {
    let operator = operator(model);
    operator.vid = vid;
    let key = UplinkKey {
        ifindex: operator.ifindex,
        vid,
        pad: 0,
    };
    let value = UplinkValue {
        port_mac: operator.port_mac,
        operator: OPERATOR,
        pad: [0; 3],
    };
    model.uplinks.insert(key, value);
}

/// Packets from one home to another, of both families.
fn between(from: &Home, to: &Home) -> [Vec<u8>; 2] {
    [
        udp_v4(from.up(), from.v4, to.v4, 64),
        udp_v6(from.up(), from.v6, to.v6, 64),
    ]
}

pub fn turns_round_where_allowed() -> CaseResult {
    let [untagged, one, two] = fixture::homes();
    let mut allowed = fixture::model();
    operator(&mut allowed).flags |= OperatorValue::HAIRPIN;
    for (from, to) in [(untagged, two), (two, one), (one, one)] {
        let name = format!("{} to {}", from.name, to.name);
        let forbidden = fixture::model();
        let mut loaded = Loaded::new(&forbidden)?;
        for bytes in between(&from, &to) {
            let up = Reason::ForwardedUpstream;
            let fate = run(&mut loaded, &forbidden, Side::Access, &bytes, up);
            let fate = fate.with_context(|| name.clone())?;
            ensure!(tags(&fate.frame).is_empty(), "{name}: to a line");
        }
        let mut loaded = Loaded::new(&allowed)?;
        for bytes in between(&from, &to) {
            let round = Reason::ForwardedHairpin;
            let fate = run(&mut loaded, &allowed, Side::Access, &bytes, round);
            let fate = fate.with_context(|| name.clone())?;
            ensure!(fate.action == XDP_REDIRECT, "{name}: {}", fate.action);
            ensure!(tags(&fate.frame) == to.tags, "{name}: another line");
            ensure!(fate.frame[..6] == HOME_MAC && fate.frame[6..12] == GATEWAY_MAC);
        }
        // It counts for both.
        for (home, direction) in [(from, Direction::Upstream), (to, Direction::Downstream)] {
            let packets = loaded.tally(home.slot, direction)?.packets;
            ensure!(packets == 2, "{name}: {packets} counted {direction:?}");
        }
    }
    Ok(())
}

/// A home that is blocked, shaped or not within the hop limit is not reached around the corner.
pub fn turns_round_only_what_it_may() -> CaseResult {
    let [from, _, to] = fixture::homes();
    for (flags, ttl, reason) in [
        (flag::BLOCKED, 64, Reason::ForwardedUpstream),
        (flag::SHAPED, 64, Reason::ForwardedUpstream),
        (0, 1, Reason::KernelUpstream),
    ] {
        let mut model = fixture::model();
        operator(&mut model).flags |= OperatorValue::HAIRPIN;
        for home in model.sessions.downstream_v4.values_mut() {
            home.flags |= flags;
        }
        let mut loaded = Loaded::new(&model)?;
        let bytes = udp_v4(from.up(), from.v4, to.v4, ttl);
        run(&mut loaded, &model, Side::Access, &bytes, reason)?;
    }
    Ok(())
}

/// The MSS of both ends is lowered to what line and uplink take, whichever is less; never raised.
pub fn clamps_mss() -> CaseResult {
    const HEADERS: [u16; 2] = [40, 60];
    // MTU of the line and of the uplink, and the uplink's VLAN.
    for (line, uplink, vid) in [(1500, 1400, 0), (1400, 1500, 40), (1300, 1300, 0)] {
        let mut model = fixture::model();
        fixture::flag_sessions(&mut model, flag::CLAMP_MSS);
        operator(&mut model).mtu = uplink;
        own_uplink(&mut model, vid);
        let homes = &mut model.sessions;
        let v4 = homes.downstream_v4.values_mut();
        for home in v4.chain(homes.downstream_v6.values_mut()) {
            home.mtu = line;
        }
        let mut loaded = Loaded::new(&model)?;
        for home in fixture::homes() {
            let addresses = [
                (IpAddr::from(home.v4), IpAddr::from(WORLD_V4)),
                (IpAddr::from(home.v6), IpAddr::from(WORLD_V6)),
            ];
            for ((own, world), headers) in addresses.into_iter().zip(HEADERS) {
                let most = line.min(uplink) - headers;
                for offered in [most + 1, 1460, 8960, most, 536] {
                    let name = format!("{}, {line}/{uplink}, {own}: {offered}", home.name);
                    let expected = offered.min(most);
                    for (side, bytes, reason) in [
                        (
                            Side::Access,
                            syn(home.up(), own, world, false, offered),
                            Reason::ForwardedUpstream,
                        ),
                        (
                            Side::Uplink,
                            syn(FROM_WORLD, world, own, true, offered),
                            Reason::ForwardedDownstream,
                        ),
                    ] {
                        let fate = run(&mut loaded, &model, side, &bytes, reason)
                            .with_context(|| name.clone())?;
                        let mss = offered_mss(&fate.frame).map(|(mss, _)| mss);
                        ensure!(mss == Some(expected), "{name}, {side:?}: {mss:?}");
                    }
                }
            }
        }
    }
    Ok(())
}

/// Who has not asked for it is left alone.
pub fn clamps_no_others_mss() -> CaseResult {
    let [.., home] = fixture::homes();
    let own = IpAddr::from(home.v4);
    let mut model = fixture::model();
    operator(&mut model).mtu = 1400;
    let mut loaded = Loaded::new(&model)?;
    for (side, bytes, reason) in [
        (
            Side::Access,
            syn(home.up(), own, WORLD_V4.into(), false, 1460),
            Reason::ForwardedUpstream,
        ),
        (
            Side::Uplink,
            syn(FROM_WORLD, WORLD_V4.into(), own, true, 1460),
            Reason::ForwardedDownstream,
        ),
    ] {
        let fate = run(&mut loaded, &model, side, &bytes, reason)?;
        let mss = offered_mss(&fate.frame).map(|(mss, _)| mss);
        ensure!(mss == Some(1460), "{side:?}: {mss:?}");
    }
    Ok(())
}

/// With the DSCP in a packet's IP header.
fn marked(mut frame: Vec<u8>, tags: usize, dscp: u8) -> Vec<u8> {
    let ip = 14 + 4 * tags;
    match frame[ip] >> 4 {
        4 => {
            frame[ip + 1] = dscp << 2;
            // RFC 1624: the word has grown by that much.
            let checksum = u16::from_be_bytes([frame[ip + 10], frame[ip + 11]]);
            let (sum, carry) = (!checksum).overflowing_add(u16::from(dscp) << 2);
            let checksum = !(sum + u16::from(carry));
            frame[ip + 10..ip + 12].copy_from_slice(&checksum.to_be_bytes());
        }
        _ => {
            let word = 0x6000 | u16::from(dscp) << 6;
            frame[ip..ip + 2].copy_from_slice(&word.to_be_bytes());
        }
    }
    frame
}

/// Of the tags to a line, and of an uplink's.
pub fn priority_of_tags() -> CaseResult {
    const SESSIONS: u8 = 3;
    const UPLINK_VID: u16 = 40;
    // Best effort, a class selector, expedited forwarding.
    for (dscp, selector) in [(0, 0), (8, 1), (46, 5), (56, 7)] {
        for (flags, expected) in [(0, SESSIONS), (flag::PRIORITY_FROM_DSCP, selector)] {
            let mut model = fixture::model();
            fixture::flag_sessions(&mut model, flags);
            operator(&mut model).vid = UPLINK_VID;
            for session in model.sessions.upstream_v4.values_mut() {
                session.flags |= u16::from(SESSIONS) << flag::PRIORITY_SHIFT;
            }
            for session in model.sessions.upstream_v6.values_mut() {
                session.flags |= u16::from(SESSIONS) << flag::PRIORITY_SHIFT;
            }
            let with_priority = |tag: WireTag| match tag.is_some() {
                true => tag.with_priority(SESSIONS),
                false => tag,
            };
            let homes = &mut model.sessions;
            let v4 = homes.downstream_v4.values_mut();
            for home in v4.chain(homes.downstream_v6.values_mut()) {
                home.outer = with_priority(home.outer);
                home.inner = with_priority(home.inner);
            }
            let mut loaded = Loaded::new(&model)?;
            for home in fixture::homes() {
                for (up, down) in [
                    (
                        udp_v4(home.up(), home.v4, WORLD_V4, 64),
                        udp_v4(FROM_WORLD, WORLD_V4, home.v4, 64),
                    ),
                    (
                        udp_v6(home.up(), home.v6, WORLD_V6, 64),
                        udp_v6(FROM_WORLD, WORLD_V6, home.v6, 64),
                    ),
                ] {
                    let name = format!("{}, DSCP {dscp}, {flags:#x}", home.name);
                    let up = marked(up, home.tags.len(), dscp);
                    let reason = Reason::ForwardedUpstream;
                    let fate = run(&mut loaded, &model, Side::Access, &up, reason)?;
                    let seen = priorities(&fate.frame);
                    ensure!(seen == [expected], "{name}: up with {seen:?}");
                    let down = marked(down, 0, dscp);
                    let reason = Reason::ForwardedDownstream;
                    let fate = run(&mut loaded, &model, Side::Uplink, &down, reason)?;
                    let seen = priorities(&fate.frame);
                    ensure!(
                        seen == vec![expected; home.tags.len()],
                        "{name}: down with {seen:?}"
                    );
                }
            }
        }
    }
    Ok(())
}
