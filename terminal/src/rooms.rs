//! How the rooms' devices get their addresses: the configuration of `dnsmasq` for the home's bridge
//! and for the rooms with a session of their own.
//! Pure.

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;

use ipnet::Ipv4Net;

use crate::config::{Home, Mode};
use crate::links::desired::Active;
use crate::links::own_rooms::{Chosen, common, own_rooms};

/// For how long a device has its IPv4 address unless it renews it, which it does after half of it.
const LEASE: &str = "12h";
/// Between router advertisements, and how long one holds, in seconds. Devices that have just come
/// ask by themselves.
const ADVERTISE_EVERY: u32 = 60;
const ROUTER_LIFETIME: u32 = 1800;

/// Devices on one interface, and the sessions that they use.
struct Segment<'a> {
    link: String,
    ipv4: Option<Ipv4Net>,
    sessions: Vec<&'a Active>,
}

/// The text of the configuration; none where nothing is to be served.
///
/// IPv6 prefixes are not in it: dnsmasq takes them from the bridges, follows them as sessions move,
/// and tells devices that a former one is not to be used any more (RFC 7084, L-13).
#[must_use]
pub fn configuration(
    home: &Home,
    sessions: &[Active],
    chosen: &Chosen,
    leases: &Path,
) -> Option<String> {
    if home.mode != Mode::Routed || !home.dhcp {
        return None;
    }
    let common = common(Some(home), sessions, chosen);
    let joined = Segment {
        link: home.bridge.clone(),
        ipv4: home.ipv4,
        sessions: common.iter().collect(),
    };
    let own = own_rooms(home, sessions, chosen).into_iter();
    let own = own.map(|own| Segment {
        link: own.bridge,
        ipv4: own.ipv4,
        sessions: own.session.into_iter().collect(),
    });
    let mut served = String::new();
    for (number, segment) in [joined].into_iter().chain(own).enumerate() {
        segment.serve(&mut served, &format!("room{number}"));
    }
    if served.is_empty() {
        return None;
    }
    // It asks nobody and answers no names: devices ask the operators' resolvers themselves. It stays
    // the user that starts it, who has no right to become another one.
    Some(format!(
        "# Written by doorstep-terminal.\n\
         port=0\nno-resolv\nno-hosts\n\
         except-interface=lo\nbind-dynamic\n\
         user=\ngroup=\npid-file=\nlog-facility=-\n\
         quiet-dhcp\nquiet-dhcp6\nquiet-ra\n\
         dhcp-authoritative\ndhcp-leasefile={}\n{served}",
        leases.display()
    ))
}

impl Segment<'_> {
    /// Adds its lines, marked by a tag, if there is anything to serve.
    fn serve(&self, text: &mut String, tag: &str) {
        let sessions = &self.sessions;
        let v4 = self
            .ipv4
            .filter(|_| sessions.iter().any(|session| session.offer.ipv4.is_some()))
            .and_then(range);
        let v6 = sessions.iter().any(|session| session.offer.ipv6.is_some());
        if v4.is_none() && !v6 {
            return;
        }
        let link = &self.link;
        let _ = writeln!(text, "interface={link}");
        let resolvers = resolvers(sessions);
        let mtu = sessions.iter().map(|session| session.offer.mtu);
        let mtu = mtu.filter(|mtu| *mtu != 0).min().unwrap_or(1500);
        if let Some((first, last)) = v4 {
            let _ = writeln!(
                text,
                "dhcp-range=set:{tag},{first},{last},{LEASE}\ndhcp-option=tag:{tag},option:mtu,{mtu}"
            );
            let own = resolvers.iter().filter(|address| address.is_ipv4());
            let own: Vec<String> = own.map(ToString::to_string).collect();
            if !own.is_empty() {
                let own = own.join(",");
                let _ = writeln!(text, "dhcp-option=tag:{tag},option:dns-server,{own}");
            }
        }
        if v6 {
            let _ = writeln!(
                text,
                "enable-ra\ndhcp-range=set:{tag},::,constructor:{link},ra-only,64,{LEASE}\n\
                 ra-param={link},mtu:{mtu},{ADVERTISE_EVERY},{ROUTER_LIFETIME}"
            );
            let own = resolvers.iter().filter(|address| address.is_ipv6());
            let own: Vec<String> = own.map(|address| format!("[{address}]")).collect();
            if !own.is_empty() {
                let own = own.join(",");
                let _ = writeln!(text, "dhcp-option=tag:{tag},option6:dns-server,{own}");
            }
        }
    }
}

/// The devices' addresses: the larger part of the network, before or behind the terminal's own
/// address.
fn range(rooms: Ipv4Net) -> Option<(Ipv4Addr, Ipv4Addr)> {
    let own = rooms.addr().to_bits();
    let (network, broadcast) = (rooms.network().to_bits(), rooms.broadcast().to_bits());
    let before = (network.checked_add(1)?, own.checked_sub(1)?);
    let behind = (own.checked_add(1)?, broadcast.checked_sub(1)?);
    let count = |(first, last): (u32, u32)| (u64::from(last) + 1).saturating_sub(first.into());
    let larger = if count(behind) >= count(before) {
        behind
    } else {
        before
    };
    let (first, last) = larger;
    (count(larger) > 0).then(|| (Ipv4Addr::from_bits(first), Ipv4Addr::from_bits(last)))
}

/// Each once, those of the oldest session first.
fn resolvers(sessions: &[&Active]) -> Vec<IpAddr> {
    let mut known = Vec::new();
    for address in sessions.iter().flat_map(|session| &session.offer.dns) {
        if !known.contains(address) {
            known.push(*address);
        }
    }
    known
}

#[cfg(test)]
mod tests {
    use doorstep_establish::{Mac, Offer, Tags};

    use super::*;

    fn session(v4: Option<&str>, v6: Option<&str>) -> Active {
        Active {
            slot: 0,
            port: "wan0".into(),
            tags: Tags::NONE,
            offer: Offer {
                gateway_id: "gw-1".into(),
                ipv4: v4.map(|text| text.parse().unwrap()),
                ipv4_gateway: None,
                ipv6: v6.map(|text| text.parse().unwrap()),
                ipv6_line: None,
                dns: vec![
                    "192.0.2.53".parse().unwrap(),
                    "2001:db8::53".parse().unwrap(),
                ],
                mtu: 1492,
            },
            gateway_mac: Mac([2, 0, 0, 0, 0, 1]),
        }
    }

    fn home(ipv4: &str) -> Home {
        Home {
            bridge: "br-home".into(),
            room_ports: vec![],
            mode: Mode::Routed,
            session: None,
            ipv4: ipv4.parse().ok(),
            masquerade: true,
            dhcp: true,
            resolver_file: None,
            rooms: std::collections::BTreeMap::new(),
        }
    }

    fn text(home: &Home, sessions: &[Active]) -> Option<String> {
        configuration(home, sessions, &Chosen::new(), Path::new("/leases"))
    }

    #[test]
    fn what_the_sessions_have_is_served_and_nothing_else() {
        let (v4, v6) = (Some("100.64.1.10"), Some("2001:db8:1::/56"));
        let home = home("192.168.77.1/24");
        let both = text(&home, &[session(v4, v6)]).unwrap();
        for line in [
            "dhcp-range=set:room0,192.168.77.2,192.168.77.254,12h",
            "dhcp-option=tag:room0,option:mtu,1492",
            "dhcp-option=tag:room0,option:dns-server,192.0.2.53",
            "dhcp-range=set:room0,::,constructor:br-home,ra-only,64,12h",
            "dhcp-option=tag:room0,option6:dns-server,[2001:db8::53]",
        ] {
            assert!(both.lines().any(|own| own == line), "{line}: {both}");
        }
        let only_v4 = text(&home, &[session(v4, None)]).unwrap();
        assert!(!only_v4.contains("enable-ra"), "{only_v4}");
        let only_v6 = text(&home, &[session(None, v6)]).unwrap();
        assert!(!only_v6.contains("192.168.77"), "{only_v6}");
        assert_eq!(text(&home, &[]), None);
        assert_eq!(text(&home, &[session(None, None)]), None);
        let mut others = home.clone();
        others.dhcp = false;
        assert_eq!(text(&others, &[session(v4, v6)]), None);
        let bridged = Home {
            mode: Mode::Bridge,
            ..home
        };
        assert_eq!(text(&bridged, &[session(v4, v6)]), None);
    }

    #[test]
    fn devices_have_the_larger_part_of_the_network() {
        let cases = [
            ("192.168.77.1/24", Some(("192.168.77.2", "192.168.77.254"))),
            (
                "192.168.77.254/24",
                Some(("192.168.77.1", "192.168.77.253")),
            ),
            ("10.0.0.1/30", Some(("10.0.0.2", "10.0.0.2"))),
            ("10.0.0.1/31", None),
            ("10.0.0.1/32", None),
        ];
        for (own, expected) in cases {
            let expected = expected
                .map(|(first, last): (&str, &str)| (first.parse().unwrap(), last.parse().unwrap()));
            assert_eq!(range(own.parse().unwrap()), expected, "{own}");
        }
    }
}
