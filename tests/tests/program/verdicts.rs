//! Named cases: packet in, fate, packet out.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use doorstep_establish::TPID_8021Q;
use doorstep_gateway_common::policer::Rate;
use doorstep_gateway_common::punt::PuntHeader;
use doorstep_gateway_common::{Direction, Reason, flag};
use doorstep_tests::frames::{
    Ether, GATEWAY_MAC, GATEWAY_V4, HOME_MAC, NEXT_HOP_MAC, UPLINK_MAC, WORLD_V4, WORLD_V6,
    arp_request, echo_v4, frame, neighbour_solicitation, tags, udp_v4, udp_v4_of, udp_v6,
    udp_v6_to,
};
use doorstep_tests::programs::{
    Fate, Loaded, Side, XDP_DROP, XDP_PASS, XDP_REDIRECT, XDP_TX, model,
};
use doorstep_tests::suite::CaseResult;
use etherparse::{EtherType, NetHeaders, PacketHeaders};

use crate::fixture::{self, BLOCKED_TAGS, FROM_WORLD};

const LINK_LOCAL: [u8; 16] = [0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x11];
const GATEWAY_LINK_LOCAL: [u8; 16] = doorstep_datapath::nd::GATEWAY_LINK_LOCAL;

/// Runs a frame and checks its reason.
fn run(loaded: &mut Loaded, side: Side, bytes: &[u8], reason: Reason) -> anyhow::Result<Fate> {
    let before = loaded.count(reason)?;
    let fate = loaded.run(side, bytes)?;
    let counted = loaded.count(reason)? - before;
    let (_, _, expected) = model(&fixture::model(), side, bytes);
    ensure!(expected == reason, "the model says {}", expected.name());
    ensure!(counted == 1, "not counted as {}", reason.name());
    Ok(fate)
}

/// Hops left; also proves the IPv4 header's checksum.
fn hops(frame: &[u8]) -> anyhow::Result<u8> {
    let packet = PacketHeaders::from_ethernet_slice(frame).context("a frame")?;
    match packet.net {
        Some(NetHeaders::Ipv4(header, _)) => {
            ensure!(
                header.header_checksum == header.calc_header_checksum(),
                "wrong checksum"
            );
            Ok(header.time_to_live)
        }
        Some(NetHeaders::Ipv6(header, _)) => Ok(header.hop_limit),
        other => anyhow::bail!("not IP: {other:?}"),
    }
}

pub fn forwards_upstream() -> CaseResult {
    let mut loaded = Loaded::new(&fixture::model())?;
    for home in fixture::homes() {
        for bytes in [
            udp_v4(home.up(), home.v4, WORLD_V4, 64),
            udp_v6(home.up(), home.v6, WORLD_V6, 64),
            udp_v6(home.up(), home.line_v6(), WORLD_V6, 64),
        ] {
            let fate = run(&mut loaded, Side::Access, &bytes, Reason::ForwardedUpstream)
                .context(home.name)?;
            ensure!(
                fate.action == XDP_REDIRECT,
                "{}: {}",
                home.name,
                fate.action
            );
            ensure!(tags(&fate.frame).is_empty(), "{}: tags are left", home.name);
            ensure!(fate.frame[..6] == NEXT_HOP_MAC && fate.frame[6..12] == UPLINK_MAC);
            ensure!(hops(&fate.frame)? == 63);
            // Beyond the link layer only hops and checksum differ.
            let ip_in = &bytes[14 + 4 * home.tags.len()..];
            ensure!(
                fate.frame[14 + 12..] == ip_in[12..],
                "{}: payload",
                home.name
            );
        }
        let tally = loaded.tally(home.slot, Direction::Upstream)?;
        ensure!(
            tally.packets == 3 && tally.bytes == (20 + 2 * 40) + 3 * (8 + 8),
            "{tally:?}"
        );
    }
    Ok(())
}

pub fn forwards_downstream() -> CaseResult {
    let mut loaded = Loaded::new(&fixture::model())?;
    for home in fixture::homes() {
        for bytes in [
            udp_v4(FROM_WORLD, WORLD_V4, home.v4, 64),
            udp_v6(FROM_WORLD, WORLD_V6, home.v6, 64),
            udp_v6(FROM_WORLD, WORLD_V6, home.line_v6(), 64),
        ] {
            let fate = run(
                &mut loaded,
                Side::Uplink,
                &bytes,
                Reason::ForwardedDownstream,
            )
            .context(home.name)?;
            ensure!(
                fate.action == XDP_REDIRECT,
                "{}: {}",
                home.name,
                fate.action
            );
            ensure!(
                tags(&fate.frame) == home.tags,
                "{}: {:?}",
                home.name,
                tags(&fate.frame)
            );
            ensure!(fate.frame[..6] == HOME_MAC && fate.frame[6..12] == GATEWAY_MAC);
            ensure!(hops(&fate.frame)? == 63);
        }
        let tally = loaded.tally(home.slot, Direction::Downstream)?;
        ensure!(
            tally.packets == 3 && tally.bytes == (20 + 2 * 40) + 3 * (8 + 8),
            "{tally:?}"
        );
    }
    Ok(())
}

/// An address in another /64 of the delegated length around the line's own.
fn beside(home: &fixture::Home, number: u8) -> [u8; 16] {
    let mut address = home.line_v6();
    address[7] = number;
    address
}

pub fn refuses_by_name() -> CaseResult {
    let [untagged, one, two] = fixture::homes();
    let foreign_mac = Ether {
        source: [2, 0, 0, 0, 0, 0x66],
        ..two.up()
    };
    let other_gateway = Ether {
        destination: [2, 0, 0, 0, 0, 0x67],
        ..two.up()
    };
    let broadcast = Ether {
        destination: [0xff; 6],
        ..two.up()
    };
    let three = [(0x88a8, 1), (0x8100, 2), (0x8100, 3)];
    let good = udp_v4(two.up(), two.v4, WORLD_V4, 64);
    let mut short_header = good.clone();
    short_header[22] = 0x44;
    let mut longer_than_frame = good.clone();
    longer_than_frame[24..26].copy_from_slice(&1000u16.to_be_bytes());
    let rows: Vec<(&str, Vec<u8>, Reason)> = vec![
        (
            "another line's address",
            udp_v4(two.up(), one.v4, WORLD_V4, 64),
            Reason::SourceNotBound,
        ),
        (
            "an address of nobody",
            udp_v4(two.up(), [9; 4], WORLD_V4, 64),
            Reason::SourceNotBound,
        ),
        (
            "another line's prefix",
            udp_v6(two.up(), one.v6, WORLD_V6, 64),
            Reason::SourceNotBound,
        ),
        (
            "another line's own /64",
            udp_v6(two.up(), one.line_v6(), WORLD_V6, 64),
            Reason::SourceNotBound,
        ),
        (
            "beside the line's own /64",
            udp_v6(two.up(), beside(&two, 0x42), WORLD_V6, 64),
            Reason::SourceNotBound,
        ),
        (
            "what the line's own /64 begins like",
            udp_v6(two.up(), beside(&two, 0), WORLD_V6, 64),
            Reason::SourceNotBound,
        ),
        (
            "another MAC",
            udp_v4(foreign_mac, two.v4, WORLD_V4, 64),
            Reason::MacNotBound,
        ),
        (
            "another MAC, IPv6",
            udp_v6(foreign_mac, two.v6, WORLD_V6, 64),
            Reason::MacNotBound,
        ),
        (
            "another MAC, ARP",
            arp_request(
                Ether {
                    destination: [0xff; 6],
                    ..foreign_mac
                },
                two.v4,
                GATEWAY_V4,
            ),
            Reason::MacNotBound,
        ),
        (
            "to another station",
            udp_v4(other_gateway, two.v4, WORLD_V4, 64),
            Reason::NotOurMac,
        ),
        (
            "wrong VLAN",
            udp_v4(
                Ether {
                    tags: &[(0x8100, 999)],
                    ..two.up()
                },
                two.v4,
                WORLD_V4,
                64,
            ),
            Reason::UnknownLine,
        ),
        (
            "swapped VLANs",
            udp_v4(
                Ether {
                    tags: &[(0x88a8, 1004), (0x8100, 101)],
                    ..two.up()
                },
                two.v4,
                WORLD_V4,
                64,
            ),
            Reason::UnknownLine,
        ),
        (
            "blocked line",
            udp_v4(
                Ether {
                    tags: BLOCKED_TAGS,
                    ..two.up()
                },
                two.v4,
                WORLD_V4,
                64,
            ),
            Reason::BlockedLine,
        ),
        (
            "three tags",
            udp_v4(
                Ether {
                    tags: &three,
                    ..two.up()
                },
                two.v4,
                WORLD_V4,
                64,
            ),
            Reason::TooManyTags,
        ),
        (
            "broadcast",
            udp_v4(broadcast, two.v4, [255; 4], 64),
            Reason::Multicast,
        ),
        (
            "multicast address",
            udp_v4(two.up(), two.v4, [224, 0, 0, 5], 64),
            Reason::Multicast,
        ),
        (
            "loopback address",
            udp_v4(two.up(), two.v4, [127, 0, 0, 1], 64),
            Reason::BadDestination,
        ),
        (
            "IPv6 loopback",
            udp_v6(
                two.up(),
                two.v6,
                {
                    let mut a = [0; 16];
                    a[15] = 1;
                    a
                },
                64,
            ),
            Reason::BadDestination,
        ),
        ("IPv4 header too short", short_header, Reason::BadIpv4),
        (
            "longer than the frame",
            longer_than_frame,
            Reason::Truncated,
        ),
        (
            "cut within the header",
            good[..30].to_vec(),
            Reason::Truncated,
        ),
        (
            "cut within the tags",
            good[..17].to_vec(),
            Reason::Truncated,
        ),
        (
            "another EtherType",
            frame(two.up(), EtherType(0x88cc), &[0; 50]),
            Reason::UnknownEtherType,
        ),
        (
            "ARP probe",
            arp_request(
                Ether {
                    destination: [0xff; 6],
                    ..two.up()
                },
                [0; 4],
                two.v4,
            ),
            Reason::ArpIgnored,
        ),
        (
            "gratuitous ARP",
            arp_request(
                Ether {
                    destination: [0xff; 6],
                    ..two.up()
                },
                two.v4,
                two.v4,
            ),
            Reason::ArpIgnored,
        ),
        (
            "ARP with a foreign address",
            arp_request(
                Ether {
                    destination: [0xff; 6],
                    ..two.up()
                },
                untagged.v4,
                GATEWAY_V4,
            ),
            Reason::SourceNotBound,
        ),
        (
            "link-local to elsewhere",
            udp_v6(two.up(), LINK_LOCAL, WORLD_V6, 64),
            Reason::LinkLocal,
        ),
        (
            "establishment through a router",
            udp_v6_to(two.up(), LINK_LOCAL, GATEWAY_LINK_LOCAL, 254, 52525),
            Reason::LinkLocal,
        ),
    ];
    let mut loaded = Loaded::new(&fixture::model())?;
    for (name, bytes, reason) in rows {
        let fate = run(&mut loaded, Side::Access, &bytes, reason).context(name)?;
        ensure!(fate.action == XDP_DROP, "{name}: {}", fate.action);
        ensure!(reason.is_drop(), "{name}");
    }
    Ok(())
}

pub fn refuses_the_world_by_name() -> CaseResult {
    let [.., two] = fixture::homes();
    let link_local = LINK_LOCAL;
    let mut loopback = [0; 16];
    loopback[15] = 1;
    let mut loaded = Loaded::new(&fixture::model())?;
    for source in [[127, 0, 0, 1], [0; 4], [224, 0, 0, 5], [255; 4], two.v4] {
        let bytes = udp_v4(FROM_WORLD, source, two.v4, 64);
        let fate = run(&mut loaded, Side::Uplink, &bytes, Reason::BadSource)
            .with_context(|| format!("{source:?}"))?;
        ensure!(fate.action == XDP_DROP, "{source:?}");
    }
    for source in [loopback, [0; 16], [0xff; 16], link_local, two.v6] {
        let bytes = udp_v6(FROM_WORLD, source, two.v6, 64);
        let fate = run(&mut loaded, Side::Uplink, &bytes, Reason::BadSource)
            .with_context(|| format!("{source:02x?}"))?;
        ensure!(fate.action == XDP_DROP, "{source:02x?}");
    }
    Ok(())
}

pub fn answers_neighbours() -> CaseResult {
    let mut loaded = Loaded::new(&fixture::model())?;
    for home in fixture::homes() {
        let request = arp_request(
            Ether {
                destination: [0xff; 6],
                ..home.up()
            },
            home.v4,
            GATEWAY_V4,
        );
        let fate =
            run(&mut loaded, Side::Access, &request, Reason::ArpAnswered).context(home.name)?;
        ensure!(fate.action == XDP_TX);
        ensure!(tags(&fate.frame) == home.tags, "{}: tags", home.name);
        let arp = &fate.frame[14 + 4 * home.tags.len()..];
        let mut reply = vec![0, 1, 8, 0, 6, 4, 0, 2];
        reply.extend(
            GATEWAY_MAC
                .iter()
                .chain(&GATEWAY_V4)
                .chain(&HOME_MAC)
                .chain(&home.v4),
        );
        ensure!(arp[..28] == reply, "{}: {arp:02x?}", home.name);

        let multicast = Ether {
            destination: [0x33, 0x33, 0xff, 0, 0, 1],
            ..home.up()
        };
        let solicitation = neighbour_solicitation(multicast, LINK_LOCAL, GATEWAY_LINK_LOCAL);
        let fate =
            run(&mut loaded, Side::Access, &solicitation, Reason::NdAnswered).context(home.name)?;
        ensure!(fate.action == XDP_TX);
        ensure!(fate.frame[..6] == HOME_MAC && fate.frame[6..12] == GATEWAY_MAC);
        let ip = &fate.frame[14 + 4 * home.tags.len()..];
        ensure!(ip[8..24] == GATEWAY_LINK_LOCAL && ip[24..40] == LINK_LOCAL);
        let body = &ip[40..];
        ensure!(body[0] == 136 && body[4] == 0xe0, "{body:02x?}");
        ensure!(
            body[8..24] == GATEWAY_LINK_LOCAL && body[24..] == [&[2, 1][..], &GATEWAY_MAC].concat()
        );
        let icmp = etherparse::Icmpv6Slice::from_slice(body)?;
        ensure!(
            icmp.is_checksum_valid(GATEWAY_LINK_LOCAL, LINK_LOCAL),
            "{}: checksum",
            home.name
        );
    }
    Ok(())
}

pub fn punts_establishment() -> CaseResult {
    let mut loaded = Loaded::new(&fixture::model())?;
    for home in fixture::homes() {
        let reply = udp_v6_to(home.up(), LINK_LOCAL, GATEWAY_LINK_LOCAL, 255, 52525);
        let fate =
            run(&mut loaded, Side::Access, &reply, Reason::PuntEstablish).context(home.name)?;
        ensure!(fate.action == XDP_DROP);
        let record = loaded.next_punt().context("no record in the ring")?;
        let header = size_of::<PuntHeader>();
        ensure!(record[4..6] == home.line().s_vid.to_ne_bytes());
        ensure!(record[6..8] == home.line().c_vid.to_ne_bytes());
        ensure!(
            record[header..header + reply.len()] == reply,
            "{}: another frame",
            home.name
        );
    }
    let unknown = Ether {
        tags: &[(TPID_8021Q, 999)],
        ..fixture::homes()[0].up()
    };
    let reply = udp_v6_to(unknown, LINK_LOCAL, GATEWAY_LINK_LOCAL, 255, 52525);
    run(&mut loaded, Side::Access, &reply, Reason::UnknownLine)?;
    ensure!(loaded.next_punt().is_none(), "punted from an unknown line");
    Ok(())
}

pub fn hands_to_the_kernel() -> CaseResult {
    let mut unresolved = fixture::model();
    for operator in unresolved.operators.values_mut() {
        operator.flags = 0;
    }
    let [.., two] = fixture::homes();
    let mut loaded = Loaded::new(&fixture::model())?;
    let only_kernel = Reason::KernelUpstream;
    for (name, bytes, reason) in [
        (
            "TTL expires",
            udp_v4(two.up(), two.v4, WORLD_V4, 1),
            only_kernel,
        ),
        (
            "hop limit expires",
            udp_v6(two.up(), two.v6, WORLD_V6, 1),
            only_kernel,
        ),
        (
            "an echo request for the gateway",
            echo_v4(two.up(), two.v4, GATEWAY_V4, 56),
            Reason::KernelGateway,
        ),
        (
            "too big for the uplink",
            echo_v4(two.up(), two.v4, WORLD_V4, 1473),
            only_kernel,
        ),
    ] {
        let fate = run(&mut loaded, Side::Access, &bytes, reason).context(name)?;
        ensure!(fate.action == XDP_PASS, "{name}: {}", fate.action);
        ensure!(fate.operator == Some(fixture::OPERATOR), "{name}: nobody's");
        ensure!(tags(&fate.frame).is_empty(), "{name}: tags are left");
        ensure!(fate.frame[14..] == bytes[22..], "{name}: changed");
    }
    for (name, bytes) in [
        ("TTL expires", udp_v4(FROM_WORLD, WORLD_V4, two.v4, 1)),
        ("hop limit expires", udp_v6(FROM_WORLD, WORLD_V6, two.v6, 1)),
    ] {
        let fate =
            run(&mut loaded, Side::Uplink, &bytes, Reason::KernelDownstream).context(name)?;
        ensure!(fate.action == XDP_PASS && fate.frame == bytes, "{name}");
    }
    let host = udp_v4(FROM_WORLD, WORLD_V4, [203, 0, 113, 1], 64);
    let fate = run(&mut loaded, Side::Uplink, &host, Reason::KernelHost)?;
    ensure!(fate.action == XDP_PASS && fate.frame == host);

    let mut loaded = Loaded::new(&unresolved)?;
    let bytes = udp_v4(two.up(), two.v4, WORLD_V4, 64);
    let fate = loaded.run(Side::Access, &bytes)?;
    ensure!(fate.action == XDP_PASS && loaded.count(Reason::KernelUnresolved)? == 1);
    Ok(())
}

/// A rate that gives nothing refuses by name and counts; one that gives without end lets all pass.
pub fn polices() -> CaseResult {
    const NOTHING: Rate = Rate {
        grant_ns: u64::MAX / 4,
        grant_bytes: 9_216,
        depth_ns: 0,
    };
    const EVERYTHING: Rate = Rate {
        grant_ns: 0,
        grant_bytes: 9_216,
        depth_ns: 1_000_000,
    };
    let [.., two] = fixture::homes();
    for (rate, up, down) in [
        (NOTHING, Reason::PolicedUpstream, Reason::PolicedDownstream),
        (
            EVERYTHING,
            Reason::ForwardedUpstream,
            Reason::ForwardedDownstream,
        ),
    ] {
        let mut model = fixture::model();
        for session in model.sessions.upstream_v4.values_mut() {
            session.flags |= flag::POLICED;
        }
        for home in model.sessions.downstream_v4.values_mut() {
            home.flags |= flag::POLICED;
        }
        let policers = &model.policers.0[two.slot as usize];
        policers.upstream.set(rate);
        policers.downstream.set(rate);
        let mut loaded = Loaded::new(&model)?;
        for (side, bytes, reason, direction) in [
            (
                Side::Access,
                udp_v4(two.up(), two.v4, WORLD_V4, 64),
                up,
                Direction::Upstream,
            ),
            (
                Side::Uplink,
                udp_v4(FROM_WORLD, WORLD_V4, two.v4, 64),
                down,
                Direction::Downstream,
            ),
        ] {
            let fate = loaded.run(side, &bytes)?;
            let (expected, _, _) = self::model(&model, side, &bytes);
            ensure!(fate == expected, "{fate:?}, not {expected:?}");
            ensure!(loaded.count(reason)? == 1, "not {}", reason.name());
            let tally = loaded.tally(two.slot, direction)?;
            let passed = u64::from(!reason.is_drop());
            ensure!(
                (tally.packets, tally.policed) == (passed, 1 - passed),
                "{tally:?}"
            );
        }
    }
    Ok(())
}

/// One rate, and every CPU sends as fast as it can.
pub fn polices_on_all_cpus() -> CaseResult {
    const BPS: u64 = 50_000_000;
    const BURST_NS: u64 = 10_000_000;
    const TIME: Duration = Duration::from_secs(3);
    const TOLERANCE: f64 = 0.03;
    let [.., two] = fixture::homes();
    let mut model = fixture::model();
    for session in model.sessions.upstream_v4.values_mut() {
        session.flags |= flag::POLICED;
    }
    let policer = &model.policers.0[two.slot as usize].upstream;
    policer.set(Rate::new(BPS, BURST_NS));
    let loaded = Loaded::new(&model)?;
    let frame = udp_v4_of(two.up(), two.v4, WORLD_V4, 64, &[0; 1000]);
    let cpus: Vec<usize> = (0..std::thread::available_parallelism()?.get()).collect();
    let pause = Duration::from_nanos(BURST_NS);
    let (took, idle) = loaded.flood(Side::Access, &frame, &cpus, TIME, pause)?;
    let tally = loaded.tally(two.slot, Direction::Upstream)?;
    ensure!(tally.policed > tally.packets / 10, "no overload: {tally:?}");
    let bps = tally.bytes as f64 * 8.0 / took.as_secs_f64();
    let off = bps / BPS as f64 - 1.0;
    // What nobody sends while the machine does something else is no fault of the rate's.
    let unsent = idle.as_secs_f64() / took.as_secs_f64();
    ensure!(
        (-TOLERANCE - unsent..=TOLERANCE).contains(&off),
        "{bps:.0} bit/s on {} CPUs, {:.2} % off, and {:.2} % unsent",
        cpus.len(),
        off * 100.0,
        unsent * 100.0
    );
    Ok(())
}

pub fn counts_each_packet_once() -> CaseResult {
    let mut loaded = Loaded::new(&fixture::model())?;
    let mut sent = 0;
    for home in fixture::homes() {
        for ttl in [64, 2, 1] {
            loaded.run(Side::Access, &udp_v4(home.up(), home.v4, WORLD_V4, ttl))?;
            loaded.run(Side::Access, &udp_v4(home.up(), [8; 4], WORLD_V4, ttl))?;
            loaded.run(Side::Uplink, &udp_v4(FROM_WORLD, WORLD_V4, home.v4, ttl))?;
            sent += 3;
        }
        let tally = loaded.tally(home.slot, Direction::Upstream)?;
        ensure!(tally.packets == 3, "{}: {tally:?}", home.name);
    }
    ensure!(
        loaded.total()? == sent,
        "{} counted, {sent} sent",
        loaded.total()?
    );
    Ok(())
}
