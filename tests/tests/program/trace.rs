//! What the programs tell of packets that are followed.

use anyhow::{Context as _, Result, ensure};
use doorstep_gateway_common::garden::mapped;
use doorstep_gateway_common::globals::Globals;
use doorstep_gateway_common::operator::OperatorValue;
use doorstep_gateway_common::trace::{Entry, Point, TraceEvent, TraceFilter, needs_no_entry};
use doorstep_gateway_common::{LineKey, Reason};
use doorstep_tests::frames::{
    Ether, GATEWAY_V4, WORLD_V4, WORLD_V6, arp_request, frame, neighbour_solicitation, udp_v4,
    udp_v6,
};
use doorstep_tests::model::Model;
use doorstep_tests::programs::{Loaded, Side};
use doorstep_tests::suite::CaseResult;
use etherparse::EtherType;

use crate::fixture::{self, BLOCKED_TAGS, FROM_WORLD, Home};

const LINK_LOCAL: [u8; 16] = [0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x11];
const ANY: TraceFilter = TraceFilter {
    flags: TraceFilter::ENABLED,
    line: LineKey {
        ifindex: 0,
        s_vid: 0,
        c_vid: 0,
    },
    address: [0; 16],
    pad: 0,
};

fn loaded(mut model: Model) -> Result<Loaded> {
    model.globals.flags = Globals::TRACE;
    Loaded::new(&model)
}

/// The entry that decided, as people are shown it.
fn entry(event: &TraceEvent) -> Result<Option<Entry>> {
    let reason = Reason::from_number(event.reason).context("an unknown reason")?;
    Ok(Entry::from_number(event.entry).filter(|_| !needs_no_entry(reason)))
}

/// The only event that was told.
fn only(loaded: &mut Loaded) -> Result<TraceEvent> {
    let told = loaded.told()?;
    let [event] = told.as_slice() else {
        anyhow::bail!("told {} times: {told:?}", told.len());
    };
    Ok(*event)
}

pub fn each_verdict_is_told_once() -> CaseResult {
    use Side::{Access, Uplink};
    let [one, .., two] = fixture::homes();
    let up = two.up();
    let retagged = |tags| Ether { tags, ..up };
    let broadcast = Ether {
        destination: [0xff; 6],
        ..up
    };
    let to_others = Ether {
        destination: [2, 0, 0, 0, 0, 0x67],
        ..up
    };
    let foreign = Ether {
        source: [2, 0, 0, 0, 0, 0x66],
        ..up
    };
    let host = [203, 0, 113, 1];
    #[rustfmt::skip]
    let rows: Vec<(Side, Vec<u8>, Reason, Option<Entry>)> = vec![
        (Access, udp_v4(up, two.v4, WORLD_V4, 64), Reason::ForwardedUpstream, Some(Entry::UpstreamV4)),
        (Access, udp_v6(up, two.v6, WORLD_V6, 64), Reason::ForwardedUpstream, Some(Entry::UpstreamV6)),
        (Access, udp_v4(up, two.v4, WORLD_V4, 1), Reason::KernelUpstream, Some(Entry::UpstreamV4)),
        (Access, udp_v4(up, two.v4, [127, 0, 0, 1], 64), Reason::BadDestination, Some(Entry::UpstreamV4)),
        (Access, udp_v4(foreign, two.v4, WORLD_V4, 64), Reason::MacNotBound, Some(Entry::UpstreamV4)),
        (Access, udp_v4(up, one.v4, WORLD_V4, 64), Reason::SourceNotBound, Some(Entry::Line)),
        (Access, udp_v6(up, one.v6, WORLD_V6, 64), Reason::SourceNotBound, Some(Entry::Line)),
        (Access, udp_v4(retagged(&[(0x8100, 999)]), two.v4, WORLD_V4, 64), Reason::UnknownLine, None),
        (Access, udp_v4(retagged(BLOCKED_TAGS), two.v4, WORLD_V4, 64), Reason::BlockedLine, Some(Entry::Line)),
        (Access, udp_v4(to_others, two.v4, WORLD_V4, 64), Reason::NotOurMac, None),
        (Access, udp_v4(broadcast, two.v4, [255; 4], 64), Reason::Multicast, None),
        (Access, frame(up, EtherType(0x88cc), &[0; 50]), Reason::UnknownEtherType, None),
        (Access, udp_v4(up, two.v4, WORLD_V4, 64)[..30].to_vec(), Reason::Truncated, None),
        (Access, arp_request(broadcast, two.v4, GATEWAY_V4), Reason::ArpAnswered, Some(Entry::UpstreamV4)),
        (Access, arp_request(broadcast, [0; 4], two.v4), Reason::ArpIgnored, None),
        (Access, neighbour_solicitation(up, LINK_LOCAL, doorstep_datapath::nd::GATEWAY_LINK_LOCAL), Reason::NdAnswered, Some(Entry::Line)),
        (Access, neighbour_solicitation(up, two.v6, LINK_LOCAL), Reason::NdIgnored, Some(Entry::Line)),
        (Uplink, udp_v4(FROM_WORLD, WORLD_V4, two.v4, 64), Reason::ForwardedDownstream, Some(Entry::DownstreamV4)),
        (Uplink, udp_v6(FROM_WORLD, WORLD_V6, two.v6, 64), Reason::ForwardedDownstream, Some(Entry::DownstreamV6)),
        (Uplink, udp_v4(FROM_WORLD, WORLD_V4, two.v4, 1), Reason::KernelDownstream, Some(Entry::DownstreamV4)),
        (Uplink, udp_v4(FROM_WORLD, [127, 0, 0, 1], two.v4, 64), Reason::BadSource, Some(Entry::DownstreamV4)),
        (Uplink, udp_v4(FROM_WORLD, WORLD_V4, host, 64), Reason::KernelHost, Some(Entry::Uplink)),
        (Uplink, udp_v4(to_others, WORLD_V4, two.v4, 64), Reason::KernelHost, None),
    ];
    let mut loaded = loaded(fixture::model())?;
    loaded.follow(0, ANY)?;
    for (side, bytes, reason, expected) in rows {
        let about = format!("{side:?} {} {expected:?}", reason.name());
        loaded.run(side, &bytes)?;
        let event = only(&mut loaded).with_context(|| about.clone())?;
        ensure!(event.reason == reason.number(), "{about}: {event:?}");
        ensure!(entry(&event)? == expected, "{about}: {event:?}");
        let of_a_session = !matches!(expected, None | Some(Entry::Line | Entry::Uplink));
        if of_a_session {
            ensure!(
                event.slot == two.slot && event.generation == 7,
                "{about}: {event:?}"
            );
            ensure!(event.line == two.line(), "{about}: {event:?}");
        }
        let point = match side {
            Access => Point::Access,
            Uplink => Point::Uplink,
        };
        ensure!(event.point == point as u16, "{about}: {event:?}");
        ensure!(event.len as usize == bytes.len(), "{about}: {event:?}");
        let snapped = usize::from(event.snapped);
        ensure!(snapped == bytes.len().min(128), "{about}: {event:?}");
        ensure!(
            event.frame[..snapped] == bytes[..snapped],
            "{about}: the frame was changed"
        );
    }
    Ok(())
}

/// The rows that a packet of each kind fits.
pub fn filters_select() -> CaseResult {
    let [one, .., two] = fixture::homes();
    let mut model = fixture::model();
    for operator in model.operators.values_mut() {
        operator.flags |= OperatorValue::HAIRPIN;
    }
    let mut loaded = loaded(model)?;
    let rows = [
        TraceFilter::line(two.line()),
        TraceFilter::address(mapped(two.v4)),
        TraceFilter::address(two.v6),
        TraceFilter::line(one.line()),
        TraceFilter::address(mapped(WORLD_V4)),
    ];
    let rows = rows.into_iter().zip([0, 1, 2, 4, 7]);
    for (filter, row) in rows {
        loaded.follow(row, filter)?;
    }
    let up_v4 = |home: &Home, to| udp_v4(home.up(), home.v4, to, 64);
    let elsewhere = [203, 0, 113, 77];
    for (name, side, bytes, expected) in [
        ("out", Side::Access, up_v4(&two, WORLD_V4), 0b1000_0011),
        (
            "out elsewhere",
            Side::Access,
            up_v4(&two, elsewhere),
            0b0000_0011,
        ),
        (
            "out, IPv6",
            Side::Access,
            udp_v6(two.up(), two.v6, WORLD_V6, 64),
            0b0000_0101,
        ),
        (
            "in",
            Side::Uplink,
            udp_v4(FROM_WORLD, WORLD_V4, two.v4, 64),
            0b1000_0011,
        ),
        (
            "in, IPv6",
            Side::Uplink,
            udp_v6(FROM_WORLD, WORLD_V6, two.v6, 64),
            0b0000_0101,
        ),
        (
            "spoofed on the line",
            Side::Access,
            udp_v4(two.up(), [9; 4], elsewhere, 64),
            0b0000_0001,
        ),
        (
            "its address on another line",
            Side::Access,
            udp_v4(one.up(), two.v4, elsewhere, 64),
            0b0001_0010,
        ),
        (
            "another home",
            Side::Access,
            up_v4(&one, elsewhere),
            0b0001_0000,
        ),
        (
            "from one home to another",
            Side::Access,
            up_v4(&one, two.v4),
            0b0001_0011,
        ),
        (
            "for nobody here",
            Side::Uplink,
            udp_v4(FROM_WORLD, elsewhere, [203, 0, 113, 1], 64),
            0,
        ),
    ] {
        loaded.run(side, &bytes)?;
        let filters: Vec<u32> = loaded.told()?.iter().map(|event| event.filters).collect();
        let expected: &[u32] = if expected == 0 { &[] } else { &[expected] };
        ensure!(filters == expected, "{name}: {filters:?}, not {expected:?}");
    }
    // A row that is cleared selects nothing any more.
    loaded.follow(4, TraceFilter::default())?;
    loaded.run(Side::Access, &up_v4(&one, elsewhere))?;
    ensure!(loaded.told()?.is_empty(), "told of a cleared row");
    Ok(())
}

/// What the kernel sends to a line.
pub fn to_a_line() -> CaseResult {
    let [untagged, .., two] = fixture::homes();
    let mut loaded = loaded(fixture::model())?;
    loaded.follow(5, TraceFilter::line(two.line()))?;
    loaded.send(&udp_v4(FROM_WORLD, GATEWAY_V4, two.v4, 64))?;
    let event = only(&mut loaded)?;
    ensure!(event.reason == Reason::EgressToLine.number(), "{event:?}");
    ensure!(entry(&event)? == Some(Entry::DownstreamV4), "{event:?}");
    ensure!(
        event.point == Point::Egress as u16 && event.slot == two.slot,
        "{event:?}"
    );
    loaded.send(&udp_v6(FROM_WORLD, WORLD_V6, two.v6, 64))?;
    ensure!(entry(&only(&mut loaded)?)? == Some(Entry::DownstreamV6));
    loaded.send(&udp_v4(FROM_WORLD, GATEWAY_V4, untagged.v4, 64))?;
    ensure!(loaded.told()?.is_empty(), "told of another line");
    loaded.follow(5, ANY)?;
    loaded.send(&udp_v4(FROM_WORLD, GATEWAY_V4, [9; 4], 64))?;
    let event = only(&mut loaded)?;
    ensure!(event.reason == Reason::EgressNotBound.number(), "{event:?}");
    ensure!(entry(&event)?.is_none(), "{event:?}");
    Ok(())
}

/// What nobody fetches is lost and counted; the packets go on.
pub fn a_full_ring_holds_nobody_up() -> CaseResult {
    const PACKETS: u64 = 6000;
    let [.., two] = fixture::homes();
    let mut loaded = loaded(fixture::model())?;
    loaded.follow(0, ANY)?;
    let bytes = udp_v4(two.up(), two.v4, WORLD_V4, 64);
    for _ in 0..PACKETS {
        loaded.run(Side::Access, &bytes)?;
    }
    let forwarded = loaded.count(Reason::ForwardedUpstream)?;
    ensure!(forwarded == PACKETS, "{forwarded} of {PACKETS} forwarded");
    let (told, lost) = (loaded.told()?.len() as u64, loaded.lost()?);
    ensure!(
        lost > 0 && told > 0 && told + lost == PACKETS,
        "{told} told of, {lost} lost"
    );
    loaded.run(Side::Access, &bytes)?;
    only(&mut loaded).map(drop)
}
