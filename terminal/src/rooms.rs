//! How the rooms' devices get their addresses: the configuration of one `dnsmasq` for the home's bridge,
//! and of one for each room with a session of its own. With the app they also answer its name, and ask
//! the sessions' resolvers for all others.
//! Pure.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;

use ipnet::Ipv4Net;

use crate::config::{App, Home, Mode};
use crate::links::desired::{Active, own_address};
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
    /// Whether no other room uses these sessions.
    is_own: bool,
}

/// The texts of the configurations, one for each interface on which something is to be served, by the
/// names that their files begin with.
///
/// IPv6 prefixes are not in them: dnsmasq takes them from the bridges, follows them as sessions move,
/// and tells devices that a former one is not to be used any more (RFC 7084, L-13).
#[must_use]
pub fn configurations(
    home: &Home,
    sessions: &[Active],
    chosen: &Chosen,
    folder: &Path,
) -> BTreeMap<String, String> {
    if home.mode != Mode::Routed || !home.dhcp {
        return BTreeMap::new();
    }
    let common = common(Some(home), sessions, chosen);
    // With a session of their own the rooms on the home's bridge are among those below.
    let joined = home.session.is_none().then(|| Segment {
        link: home.bridge.clone(),
        ipv4: home.ipv4,
        sessions: common.iter().collect(),
        is_own: false,
    });
    let own = own_rooms(home, sessions, chosen).into_iter();
    let own = own.map(|own| Segment {
        link: own.bridge,
        ipv4: own.ipv4,
        sessions: own.session.into_iter().collect(),
        is_own: true,
    });
    let named = joined.into_iter().chain(own).filter_map(|segment| {
        let name = match segment.link == home.bridge {
            true => "rooms".to_owned(),
            false => format!("rooms-{}", segment.link),
        };
        let leases = folder.join(format!("{name}.leases"));
        let text = segment.configuration(home.app.as_ref(), &leases)?;
        Some((name, text))
    });
    named.collect()
}

impl Segment<'_> {
    /// None where nothing is to be served.
    fn configuration(&self, app: Option<&App>, leases: &Path) -> Option<String> {
        let sessions = &self.sessions;
        // Whoever asks for the first session has an address already.
        let v4 = app.is_some() || sessions.iter().any(|session| session.offer.ipv4.is_some());
        let v4 = self.ipv4.filter(|_| v4).and_then(range);
        let v6 = sessions.iter().any(|session| session.offer.ipv6.is_some());
        if v4.is_none() && !v6 {
            return None;
        }
        // It stays the user that starts it, who has no right to become another one.
        let mut text = format!(
            "# Written by doorstep-terminal.\n\
             no-resolv\nno-hosts\n\
             except-interface=lo\nbind-dynamic\n\
             user=\ngroup=\npid-file=\nlog-facility=-\n\
             quiet-dhcp\nquiet-dhcp6\nquiet-ra\n\
             dhcp-authoritative\ndhcp-leasefile={}\n\
             interface={}\n",
            leases.display(),
            self.link
        );
        let names = app.filter(|_| self.ipv4.is_some());
        match names {
            Some(app) => self.names(&mut text, app),
            // It answers no names: devices ask the operators' resolvers themselves.
            None => text.push_str("port=0\n"),
        }
        self.addresses(&mut text, v4, v6, names.is_some());
        Some(text)
    }

    /// The app's name, and all others as the sessions' resolvers have them.
    fn names(&self, text: &mut String, app: &App) {
        let (name, link) = (&app.name, &self.link);
        if let Some(own) = self.ipv4.filter(|_| self.sessions.is_empty()) {
            // Whatever a device looks for first, such as whether there is an internet, it finds the app. It
            // is told to remember that for no time at all.
            let _ = writeln!(text, "address=/#/{}\nlocal=/#/", own.addr());
        }
        // What is not known of it is asked of nobody.
        let _ = writeln!(
            text,
            "interface-name={name},{link}/4\nlocal=/{name}/\ndomain-needed\nbogus-priv"
        );
        for resolver in resolvers(&self.sessions) {
            // One that the room's own session does not lead to is asked by no other one's.
            let _ = match self.source(resolver) {
                Some(source) => writeln!(text, "server={resolver}@{source}"),
                None if self.is_own => continue,
                None => writeln!(text, "server={resolver}"),
            };
        }
    }

    /// By which address a resolver is asked, so that it is by the room's own session.
    fn source(&self, resolver: IpAddr) -> Option<IpAddr> {
        let session = self.sessions.first().filter(|_| self.is_own)?;
        let offer = &session.offer;
        match resolver {
            IpAddr::V4(_) => offer.ipv4.map(IpAddr::V4),
            IpAddr::V6(_) => {
                let prefix = offer.ipv6_line.or(offer.ipv6)?;
                Some(own_address(prefix).into())
            }
        }
    }

    fn addresses(
        &self,
        text: &mut String,
        v4: Option<(Ipv4Addr, Ipv4Addr)>,
        v6: bool,
        is_resolver: bool,
    ) {
        let sessions = &self.sessions;
        let resolvers = resolvers(sessions);
        let mtu = sessions.iter().map(|session| session.offer.mtu);
        let mtu = mtu.filter(|mtu| *mtu != 0).min().unwrap_or(1500);
        if let Some((first, last)) = v4 {
            let _ = writeln!(
                text,
                "dhcp-range={first},{last},{LEASE}\ndhcp-option=option:mtu,{mtu}"
            );
            let own = resolvers.iter().filter(|address| address.is_ipv4());
            let own: Vec<String> = match self.ipv4.filter(|_| is_resolver) {
                Some(itself) => vec![itself.addr().to_string()],
                None => own.map(ToString::to_string).collect(),
            };
            if !own.is_empty() {
                let own = own.join(",");
                let _ = writeln!(text, "dhcp-option=option:dns-server,{own}");
            }
        }
        if v6 {
            let link = &self.link;
            let _ = writeln!(
                text,
                "enable-ra\ndhcp-range=::,constructor:{link},ra-only,64,{LEASE}\n\
                 ra-param={link},mtu:{mtu},{ADVERTISE_EVERY},{ROUTER_LIFETIME}"
            );
            let own = resolvers.iter().filter(|address| address.is_ipv6());
            let own: Vec<String> = match is_resolver {
                // dnsmasq writes its own link-local address for it.
                true => vec!["[fe80::]".to_owned()],
                false => own.map(|address| format!("[{address}]")).collect(),
            };
            if !own.is_empty() {
                let own = own.join(",");
                let _ = writeln!(text, "dhcp-option=option6:dns-server,{own}");
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
            app: None,
            rooms: std::collections::BTreeMap::new(),
        }
    }

    fn text(home: &Home, sessions: &[Active]) -> Option<String> {
        let mut all = configurations(home, sessions, &Chosen::new(), Path::new("/state"));
        assert!(all.keys().all(|name| name == "rooms"), "{all:?}");
        all.remove("rooms")
    }

    fn with_app(home: Home) -> Home {
        let app = App {
            name: "doorstep.home".into(),
            port: 80,
        };
        Home {
            app: Some(app),
            ..home
        }
    }

    #[test]
    fn what_the_sessions_have_is_served_and_nothing_else() {
        let (v4, v6) = (Some("100.64.1.10"), Some("2001:db8:1::/56"));
        let home = home("192.168.77.1/24");
        let both = text(&home, &[session(v4, v6)]).unwrap();
        for line in [
            "port=0",
            "dhcp-leasefile=/state/rooms.leases",
            "dhcp-range=192.168.77.2,192.168.77.254,12h",
            "dhcp-option=option:mtu,1492",
            "dhcp-option=option:dns-server,192.0.2.53",
            "dhcp-range=::,constructor:br-home,ra-only,64,12h",
            "dhcp-option=option6:dns-server,[2001:db8::53]",
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
    fn with_the_app_devices_ask_the_terminal_also_without_a_session() {
        let home = with_app(home("192.168.77.1/24"));
        let without = text(&home, &[]).unwrap();
        let with = text(
            &home,
            &[session(Some("100.64.1.10"), Some("2001:db8:1::/56"))],
        )
        .unwrap();
        for line in [
            "dhcp-range=192.168.77.2,192.168.77.254,12h",
            "dhcp-option=option:dns-server,192.168.77.1",
            "interface-name=doorstep.home,br-home/4",
            "local=/doorstep.home/",
        ] {
            for text in [&without, &with] {
                assert!(text.lines().any(|own| own == line), "{line}: {text}");
            }
        }
        assert!(
            !without.contains("server=") && !without.contains("enable-ra"),
            "{without}"
        );
        assert!(without.contains("\naddress=/#/192.168.77.1\n"), "{without}");
        assert!(!with.contains("address=/"), "{with}");
        for line in [
            "server=192.0.2.53",
            "server=2001:db8::53",
            "dhcp-option=option6:dns-server,[fe80::]",
        ] {
            assert!(with.lines().any(|own| own == line), "{line}: {with}");
        }
        for text in [without, with] {
            assert!(!text.contains("port=0"), "{text}");
        }
    }

    #[test]
    fn a_room_of_its_own_asks_by_its_own_session() {
        let mut home = with_app(home("192.168.77.1/24"));
        let room = crate::config::Room {
            session: "south".into(),
            ipv4: "192.168.78.1/24".parse().ok(),
        };
        home.rooms.insert("lan2".into(), room);
        let second = Active {
            slot: 1,
            ..session(Some("100.65.1.10"), Some("2001:db8:2::/56"))
        };
        let sessions = [session(Some("100.64.1.10"), None), second];
        let chosen = Chosen::from([("lan2".to_owned(), 1)]);
        let all = configurations(&home, &sessions, &chosen, Path::new("/state"));
        assert_eq!(all.keys().collect::<Vec<_>>(), ["rooms", "rooms-br-lan2"]);
        let own = &all["rooms-br-lan2"];
        for line in [
            "interface=br-lan2",
            "dhcp-leasefile=/state/rooms-br-lan2.leases",
            "server=192.0.2.53@100.65.1.10",
            "server=2001:db8::53@2001:db8:2::1",
            "interface-name=doorstep.home,br-lan2/4",
            "dhcp-option=option:dns-server,192.168.78.1",
        ] {
            assert!(own.lines().any(|text| text == line), "{line}: {own}");
        }
        // Without its session it has the app and nothing else.
        let alone = configurations(&home, &sessions[..1], &Chosen::new(), Path::new("/state"));
        assert!(!alone["rooms-br-lan2"].contains("server="), "{alone:?}");
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
