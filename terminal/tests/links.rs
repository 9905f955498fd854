//! Links in a real kernel: made, adopted, rolled back and undone.

use std::collections::BTreeMap;
use std::process::Command;

use doorstep_establish::{Mac, Offer, Tags};
use doorstep_terminal::config::{Home, Mode, Room, Wan, WanTags};
use doorstep_terminal::links::Item;
use doorstep_terminal::links::desired::{Active, desired};
use doorstep_terminal::links::kernel::Kernel;
use doorstep_terminal::links::own_rooms::Chosen;
use doorstep_terminal::links::reconcile::Links;

use crate::support::{assert_unchanged, dump, has_nft, in_namespace, ip};

fn wan() -> Wan {
    Wan {
        ports: vec!["wan0".into()],
        tags: WanTags::Auto,
        route_metric: 52,
        garden: true,
    }
}

fn home(folder: &std::path::Path) -> Home {
    Home {
        bridge: "br-home".into(),
        room_ports: vec!["room0".into(), "room1".into(), "absent0".into()],
        ipv4: Some("192.168.77.1/24".parse().unwrap()),
        masquerade: has_nft(),
        dhcp: true,
        mode: Mode::Routed,
        session: None,
        resolver_file: Some(folder.join("resolv.conf")),
        app: None,
        rooms: BTreeMap::new(),
    }
}

fn session(slot: u32) -> Active {
    Active {
        slot,
        port: "wan0".into(),
        tags: Tags::NONE,
        offer: Offer {
            gateway_id: "gw-1".into(),
            ipv4: Some(format!("100.64.{slot}.10").parse().unwrap()),
            ipv4_gateway: Some("100.64.0.1".parse().unwrap()),
            ipv6: Some(format!("2001:db8:{slot}:100::/56").parse().unwrap()),
            ipv6_line: Some(format!("2001:db8:f:{slot}01::/64").parse().unwrap()),
            dns: vec!["192.0.2.53".parse().unwrap()],
            mtu: 1492,
        },
        gateway_mac: Mac([2, 0, 0, 0, 0, 1]),
    }
}

fn links(folder: &std::path::Path) -> Links {
    let (connection, handle, _) = rtnetlink::new_connection().unwrap();
    tokio::spawn(connection);
    Links::open(Kernel::new(handle), folder).unwrap()
}

#[test]
fn what_is_made_is_undone_exactly() {
    in_namespace("what_is_made_is_undone_exactly", || async {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        let (wan, home) = (wan(), home(folder));
        // Somebody else's address, route and setting on the same interfaces: to be left alone.
        ip("addr add 198.51.100.7/24 dev wan0");
        ip("route add 203.0.113.0/24 via 198.51.100.1");
        let before = dump();

        let mut ours = links(folder);
        let one = desired(&wan, Some(&home), &[session(0)], &Chosen::new());
        assert!(ours.apply(&one).await.unwrap() > 0);
        assert_eq!(
            ours.apply(&one).await.unwrap(),
            0,
            "the second time there is nothing to do"
        );
        let routes = ip("route");
        assert!(
            routes.contains("default via 100.64.0.1 dev wan0"),
            "{routes}"
        );
        assert!(
            ip("-6 route").contains("default via fe80::1 dev wan0"),
            "{}",
            ip("-6 route")
        );
        assert!(ip("link show wan0").contains("mtu 1492"));
        assert!(ip("link show room1").contains("master br-home"));
        assert!(ip("-6 addr show br-home").contains("2001:db8:0:100::1/64"));
        assert!(ip("-6 addr show wan0").contains("2001:db8:0:100::1/128"));
        assert!(
            ip("neigh show nud permanent").contains("100.64.0.1 dev wan0 lladdr 02:00:00:00:00:01")
        );
        let resolvers = std::fs::read_to_string(folder.join("resolv.conf")).unwrap();
        assert!(resolvers.contains("nameserver 192.0.2.53"));

        // A second session: both have a table of their own, the older one the main default route.
        let two = desired(&wan, Some(&home), &[session(0), session(1)], &Chosen::new());
        assert!(ours.apply(&two).await.unwrap() > 0);
        let via = |source: &str| ip(&format!("route get 8.8.8.8 from {source}"));
        assert!(
            via("100.64.1.10").contains("table 52501"),
            "{}",
            via("100.64.1.10")
        );
        assert!(via("100.64.0.10").contains("table 52500"));
        let to_room = ip("route get 192.168.77.5 from 100.64.1.10");
        assert!(to_room.contains("dev br-home"), "{to_room}");

        // The older one goes, and the other takes over the default route.
        let last = desired(&wan, Some(&home), &[session(1)], &Chosen::new());
        drop(ours);
        let mut ours = links(folder);
        assert!(
            ours.apply(&last).await.unwrap() > 0,
            "a restarted daemon goes on"
        );
        assert!(
            ip("route show default").contains("src 100.64.1.10"),
            "{}",
            ip("route")
        );

        // Somebody deletes what is ours: it comes back.
        ip("route del default");
        assert!(ours.apply(&last).await.unwrap() > 0);
        assert!(ip("route show default").contains("src 100.64.1.10"));

        ours.apply(&desired(&wan, Some(&home), &[], &Chosen::new()))
            .await
            .unwrap();
        assert_unchanged(&before, "undone");
        assert!(!folder.join("resolv.conf").exists());
        ours.apply(&[]).await.unwrap();
        assert!(ours.owned().is_empty());
    });
}

#[test]
fn a_failed_change_is_rolled_back() {
    in_namespace("a_failed_change_is_rolled_back", || async {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        let (wan, home) = (wan(), home(folder));
        let mut ours = links(folder);
        let good = desired(&wan, Some(&home), &[session(0)], &Chosen::new());
        for (name, standing) in [("nothing", vec![]), ("a session", good.clone())] {
            ours.apply(&standing).await.unwrap();
            let before = dump();
            let owned = ours.owned().to_vec();
            let mut bad = desired(&wan, Some(&home), &[session(1)], &Chosen::new());
            let address = "192.0.2.1/32".parse().unwrap();
            bad.push(Item::Address {
                link: "nowhere0".into(),
                address,
            });
            let error = ours.apply(&bad).await.unwrap_err().to_string();
            assert!(
                error.contains("192.0.2.1/32") && error.contains("nowhere0"),
                "{error}"
            );
            assert_unchanged(&before, name);
            assert_eq!(ours.owned(), owned, "after {name}");
        }
    });
}

#[test]
fn what_was_there_is_used_and_stays() {
    in_namespace("what_was_there_is_used_and_stays", || async {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        let (wan, home) = (wan(), home(folder));
        ip("link add br-home type bridge");
        ip("link set room0 master br-home");
        ip("link set br-home up");
        ip("addr add 100.64.0.10/32 dev wan0");
        let before = dump();
        let mut ours = links(folder);
        ours.apply(&desired(&wan, Some(&home), &[session(0)], &Chosen::new()))
            .await
            .unwrap();
        assert!(ip("link show room1").contains("master br-home"));
        ours.apply(&[]).await.unwrap();
        assert_unchanged(&before, "undone");
    });
}

/// There is no route for such a packet.
#[track_caller]
fn shut(packet: &str) {
    let words = ["route", "get"].into_iter().chain(packet.split(' '));
    let output = Command::new("ip").args(words).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(
        !output.status.success() || said.contains("unreachable"),
        "{packet}: {said}"
    );
}

#[test]
fn a_room_of_its_own_looks_at_its_sessions_table() {
    in_namespace("a_room_of_its_own_looks_at_its_sessions_table", || async {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        let wan = wan();
        let mut home = home(folder);
        home.room_ports = vec!["room0".into()];
        let room = Room {
            session: "south".into(),
            ipv4: Some("192.168.78.1/24".parse().unwrap()),
        };
        home.rooms = BTreeMap::from([("room1".to_owned(), room)]);
        let before = dump();
        let mut ours = links(folder);
        let sessions = [session(0), session(1)];
        let chosen = Chosen::from([("room1".to_owned(), 1)]);
        let with = desired(&wan, Some(&home), &sessions, &chosen);
        assert!(ours.apply(&with).await.unwrap() > 0);
        assert_eq!(ours.apply(&with).await.unwrap(), 0, "all is found again");
        let by =
            |from: &str, words: &str| ip(&format!("route get 8.8.8.8 from {from} iif {words}"));
        for device in ["tv0", "pc1"] {
            ip(&format!("link set {device} up"));
        }
        let own = by("192.168.78.5", "br-room1");
        assert!(own.contains("table 52501"), "{own}");
        let own = ip("route get 2001:4860:: from 2001:db8:1:101::5 iif br-room1");
        assert!(own.contains("table 52501"), "{own}");
        let other = by("192.168.77.5", "br-home");
        assert!(!other.contains("table"), "{other}");
        // By a source of the other one's session neither has a way.
        shut("2001:4860:: from 2001:db8:1:101::5 iif br-home");
        shut("2001:4860:: from 2001:db8:0:100::5 iif br-room1");

        // Its session goes: it does not use the other one.
        let without = desired(&wan, Some(&home), &sessions[..1], &Chosen::new());
        ours.apply(&without).await.unwrap();
        shut("8.8.8.8 from 192.168.78.5 iif br-room1");
        shut("2001:4860:: from 2001:db8:0:100::5 iif br-room1");
        let to_room = ip("route get 192.168.77.5 from 192.168.78.5 iif br-room1");
        assert!(to_room.contains("dev br-home"), "{to_room}");
        let other = by("192.168.77.5", "br-home");
        assert!(other.contains("dev wan0"), "{other}");
        ours.apply(&[]).await.unwrap();
        for device in ["tv0", "pc1"] {
            ip(&format!("link set {device} down"));
        }
        assert_unchanged(&before, "undone");
    });
}
