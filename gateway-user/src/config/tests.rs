use std::path::Path;

use super::*;

const GOOD: &str = r#"
id = "gw1"
state_dir = "state"
delegated_prefix_len = 60
[[access_port]]
name = "access0"
[[operator]]
name = "north-net"
uplink = "uplink0"
next_hops = ["192.0.2.1", "2001:db8:ff::1"]
subscriber_prefixes = ["100.64.1.0/24", "2001:db8:1000::/40"]
gateway_addresses = ["100.64.1.1"]
[operator.server]
url = "https://198.51.100.1:7443"
server_name = "north-net"
ca = "ca.pem"
cert = "gw1.pem"
key = "/etc/gw1.key"
[[operator]]
name = "south-net"
uplink = "uplink0"
uplink_vlan = 7
subscriber_prefixes = ["100.64.2.0/24"]
[operator.server]
url = "https://south.example:7443"
ca = "ca.pem"
cert = "gw1.pem"
key = "gw1.key"
"#;

fn parse(text: &str) -> Result<Config, ConfigError> {
    Config::parse(Path::new("/etc/doorstep/gateway.toml"), text)
}

#[test]
fn a_full_configuration() {
    let config = parse(GOOD).expect("valid");
    assert_eq!(config.state_dir, Path::new("/etc/doorstep/state"));
    assert_eq!(config.pin_path, Path::new("/sys/fs/bpf/doorstep"));
    assert_eq!(config.inventory, Path::new("/etc/doorstep/inventory.csv"));
    assert_eq!(config.delegated_prefix_len, 60);
    assert_eq!(config.max_sessions, 65_536);
    let [north, south] = &config.operators[..] else {
        panic!("two operators")
    };
    assert_eq!((north.index, south.index), (1, 2));
    assert_eq!(north.server.ca, Path::new("/etc/doorstep/ca.pem"));
    assert_eq!(north.server.key, Path::new("/etc/gw1.key"));
    assert_eq!(south.server.address.server_name, "south.example");
    assert_eq!((north.hairpin, north.session_flags()), (false, 0));
    assert_eq!(north.route(), "uplink0 via 192.0.2.1");
    assert_eq!(south.route(), "uplink0.7");
    assert!(north.owns_v4("100.64.1.9".parse().expect("address")));
    assert!(!north.owns_v4("100.64.2.9".parse().expect("address")));
    assert!(north.owns_v6("2001:db8:10ff::/56".parse().expect("prefix")));
    assert!(!north.owns_v6("2001:db8::/32".parse().expect("prefix")));
}

/// Each row: what is replaced in the good file, by what, and the error's place and words.
#[test]
fn each_mistake_is_named_with_its_place() {
    #[rustfmt::skip]
    let rows = [
        ("id = \"gw1\"", "id = \"g w\"", "2:6: the gateway's id"),
        ("= 60", "= 47", "4:24: delegated_prefix_len = 47 is not in 48..=64"),
        ("= 60", "= 39", "4:24: delegated_prefix_len = 39 is not in 48..=64"),
        ("2001:db8:1000::/40", "2001:db8:1000::/61", "11:41: 2001:db8:1000::/61 is longer than delegated_prefix_len, 60"),
        ("name = \"access0\"", "name = \"an-access-port-of-16\"", "6:8: access port"),
        ("name = \"access0\"", "name = \"a\"\n[[access_port]]\nname = \"a\"", "8:8: access port 'a' is named twice"),
        ("name = \"access0\"", "name = \"uplink0\"", "9:10: port 'uplink0' is an access port"),
        ("south-net", "north-net", "20:8: operator 'north-net' is named twice"),
        ("uplink_vlan = 7\n", "", "21:10: uplink 'uplink0' with VLAN 0 is operator 'north-net' already"),
        ("uplink_vlan = 7", "uplink_vlan = 4095", "22:15: uplink_vlan = 4095 is not in 0..=4094"),
        ("uplink_vlan = 7", "index = 64\nuplink_vlan = 7", "22:9: index 64 is not in 1..=63"),
        ("\"100.64.2.0/24\"", "\"100.64.1.128/25\"", "23:24: 100.64.1.128/25 overlaps 100.64.1.0/24 of operator 'north-net'"),
        ("\"100.64.2.0/24\"", "\"100.64.2.1/24\"", "23:24: 100.64.2.1/24 has host bits set; write 100.64.2.0/24"),
        ("\"100.64.2.0/24\"", "", "23:23: subscriber_prefixes needs a prefix"),
        ("\"100.64.2.0/24\"", "\"100.64.2.0\"", "23:24: '100.64.2.0' is not a prefix"),
        ("\"192.0.2.1\"", "\"192.0.2.1\", \"192.0.2.2\"", "10:27: a second next hop of one family"),
        ("\"192.0.2.1\"", "\"100.64.1.7\"", "10:14: next hop 100.64.1.7 lies in the operator's subscriber_prefixes"),
        ("\"192.0.2.1\"", "\"router\"", "10:14: next hop 'router' is not an IP address"),
        ("uplink_vlan = 7", "uplink_vlan = 7\nrouting_table = 0", "23:17: routing_table = 0 is no table for default routes"),
        ("uplink_vlan = 7", "uplink_vlan = 7\nrouting_table = 255", "23:17: routing_table = 255 is no table for default routes"),
        ("uplink_vlan = 7", "uplink_vlan = 7\nrouting_table = 52100", "23:17: routing_table = 52100 is one that the gateway fills"),
        ("next_hops", "routing_table = 100\nnext_hops", "10:17: an operator has either next_hops, which are fixed, or a routing_table"),
        ("[\"100.64.1.1\"]", "[\"224.0.0.1\"]", "12:22: gateway address 224.0.0.1 is not a host's"),
        ("https://198.51.100.1:7443", "http://198.51.100.1:7443", "14:7: url 'http://198.51.100.1:7443' is not of the form"),
        ("server_name = \"north-net\"", "server_name = \"north-net\"\nreplicas = [\"http://198.51.100.11:7443\"]", "16:13: url 'http://198.51.100.11:7443' is not of the form"),
        ("server_name = \"north-net\"", "server_name = \"\"", "15:15: server_name is empty"),
        ("[operator.server]", "[operator.garden]\nservers = [\"198.51.100.5:7443\"]\nprefixes = [\"100.64.1.0/25\"]\n[operator.server]", "15:13: 100.64.1.0/25 overlaps 100.64.1.0/24 of operator 'north-net'"),
        ("[operator.server]", "[operator.garden]\nservers = [\"198.51.100.5:7443\"]\nprefixes = [\"100.127.0.0/25\"]\n[operator.server]", "15:13: 100.127.0.0/25 has no room for the garden's 1024 lines"),
        ("[operator.server]", "[operator.garden]\nservers = [\"[2001:db8::5]:7443\"]\nprefixes = [\"100.127.0.0/20\"]\n[operator.server]", "14:12: no line has an address to reach [2001:db8::5]:7443 with"),
        ("[operator.server]", "[operator.garden]\nservers = [\"198.51.100.5\"]\nprefixes = [\"100.127.0.0/20\"]\n[operator.server]", "14:12: '198.51.100.5' is not a server such as"),
        ("[operator.server]", "[operator.garden]\nservers = []\nprefixes = [\"100.127.0.0/20\"]\n[operator.server]", "14:11: a garden needs a server"),
        ("[operator.server]", "[operator.garden]\nservers = [\"198.51.100.5:7443\"]\nprefixes = [\"100.127.0.0/20\", \"100.126.0.0/20\"]\n[operator.server]", "15:31: a second prefix of one family"),
        ("[[access_port]]", "[garden]\nlines = 4097\n[[access_port]]", "6:9: lines = 4097 is not in 1..=4096"),
    ];
    for (from, to, expected) in rows {
        let text = GOOD.replacen(from, to, 1);
        assert_ne!(text, GOOD, "{from} is in the file");
        let error = parse(&text).expect_err(to).to_string();
        let place = format!("/etc/doorstep/gateway.toml:{expected}");
        assert!(error.contains(&place), "{to}: {error}");
    }
}

#[test]
fn a_garden() {
    let garden = "[operator.garden]\nservers = [\"198.51.100.5:7443\", \"198.51.100.5:53/udp\"]\n\
                  prefixes = [\"100.127.0.0/20\", \"fd00:db8::/48\"]\n[operator.server]";
    let limits = "[garden]\nlines = 2048\nrate = \"2M\"\n[[access_port]]";
    let text = GOOD
        .replacen("[operator.server]", garden, 1)
        .replace("[[access_port]]", limits);
    let config = parse(&text).expect("valid");
    assert_eq!(
        (config.garden.lines, config.garden.rate_bps),
        (2048, 2_000_000)
    );
    let [north, south] = &config.operators[..] else {
        panic!("two operators")
    };
    assert_eq!(south.garden, None);
    let garden = north.garden.as_ref().expect("a garden");
    assert_eq!(garden.keys(1).count(), 2);
    assert_eq!(garden.addresses().len(), 1);
    // Both operators' rows do not fit.
    let second = "[operator.garden]\nservers = [\"198.51.100.6:7443\"]\n\
                  prefixes = [\"100.126.0.0/20\"]\n[operator.server]\nurl = \"https://south";
    let text = text
        .replace("[operator.server]\nurl = \"https://south", second)
        .replace("lines = 2048", "lines = 2049");
    let error = parse(&text).expect_err("too many").to_string();
    assert!(error.contains("need 4098 rows"), "{error}");
    // Nor can a line be told of so many servers.
    let many: Vec<_> = (0..250)
        .map(|n| format!("\"198.51.100.{n}:7443\""))
        .collect();
    let text = GOOD.replacen(
        "[operator.server]",
        &format!(
            "[operator.garden]\nservers = [{}]\nprefixes = [\"100.127.0.0/20\"]\n[operator.server]",
            many.join(", ")
        ),
        1,
    );
    let error = parse(&text).expect_err("too many").to_string();
    assert!(error.contains("have 250 servers"), "{error}");
}

#[test]
fn next_hops_by_a_table() {
    let text = GOOD.replace("uplink_vlan = 7", "uplink_vlan = 7\nrouting_table = 100");
    let config = parse(&text).expect("valid");
    let [north, south] = &config.operators[..] else {
        panic!("two operators")
    };
    assert_eq!(
        (north.routing_table, south.routing_table),
        (None, Some(100))
    );
    assert_eq!(south.route(), "uplink0.7 by table 100");
}

#[test]
fn all_mistakes_are_told_at_once() {
    let text = GOOD
        .replace("= 60", "= 65")
        .replace("uplink_vlan = 7", "uplink_vlan = 5000");
    let Err(ConfigError::Invalid { problems, .. }) = parse(&text) else {
        panic!("refused as a whole");
    };
    assert_eq!(problems.len(), 2);
}

#[test]
fn two_operators_cannot_ask_for_one_index() {
    let text = GOOD
        .replace("next_hops", "index = 3\nnext_hops")
        .replace("uplink_vlan = 7", "index = 3\nuplink_vlan = 7");
    let error = parse(&text).expect_err("refused").to_string();
    assert!(
        error.contains("gateway.toml:23:9: index 3 is operator 'north-net' already"),
        "{error}"
    );
}

#[test]
fn syntax_and_unknown_fields_have_line_and_column() {
    for (text, expected) in [
        ("id = ", "line 1, column 6"),
        (
            &GOOD.replacen("uplink_vlan", "uplink_vid", 1),
            "line 22, column 1",
        ),
        (&GOOD.replacen("= 60", "= \"x\"", 1), "line 4, column 24"),
    ] {
        let error = parse(text).expect_err(text).to_string();
        assert!(error.contains(expected), "{error}");
        assert!(error.contains("/etc/doorstep/gateway.toml"), "{error}");
    }
}

#[test]
fn a_missing_file_is_named() {
    let error = Config::load(Path::new("/nonexistent/gateway.toml"))
        .expect_err("missing")
        .to_string();
    assert!(error.contains("/nonexistent/gateway.toml"), "{error}");
}

fn indexes(rows: &[(&str, u16)]) -> Indexes {
    let rows = rows.iter();
    rows.map(|(name, index)| ((*name).to_owned(), *index))
        .collect()
}

/// Each row: what the file's two operators ask for, what is known, and what they get.
#[test]
fn an_index_stays_with_its_name() {
    #[rustfmt::skip]
    let rows = [
        ([None, None], &[][..], [1, 2]),
        ([None, Some(1)], &[], [2, 1]),
        ([None, None], &[("south-net", 1), ("north-net", 2)], [2, 1]),
        // One that is not configured any more keeps its own.
        ([None, None], &[("gone-net", 1), ("south-net", 2)], [3, 2]),
        ([None, Some(7)], &[("gone-net", 1)], [2, 7]),
        ([Some(5), None], &[("north-net", 5)], [5, 1]),
    ];
    for (asked, known, expected) in rows {
        let mut config = parse(GOOD).expect("valid");
        for (operator, asked) in config.operators.iter_mut().zip(asked) {
            operator.fixed_index = asked;
        }
        config.set_indexes(&indexes(known)).expect("fits");
        let got = [config.operators[0].index, config.operators[1].index];
        assert_eq!(got, expected, "{asked:?} {known:?}");
    }
}

#[test]
fn an_index_that_contradicts_what_is_known_is_refused() {
    #[rustfmt::skip]
    let rows = [
        ([Some(1), None], vec![("north-net", 2)], "operator 'north-net' is to have index 1, but its sessions and receipts go by index 2"),
        ([None, Some(1)], vec![("gone-net", 1)], "operator 'south-net' is to have index 1, which is operator 'gone-net'"),
        ([None, Some(4)], vec![("north-net", 4)], "operator 'south-net' is to have index 4, which is operator 'north-net'"),
    ];
    for (asked, known, expected) in rows {
        let mut config = parse(GOOD).expect("valid");
        for (operator, asked) in config.operators.iter_mut().zip(asked) {
            operator.fixed_index = asked;
        }
        let error = config.set_indexes(&indexes(&known)).expect_err(expected);
        assert!(error.to_string().starts_with(expected), "{error}");
    }
    let full: Vec<String> = (1..64).map(|index| format!("gone-{index}")).collect();
    let full: Indexes = full.into_iter().zip(1..64).collect();
    let mut config = parse(GOOD).expect("valid");
    let error = config.set_indexes(&full).expect_err("exhausted");
    assert!(error.to_string().contains("all of 1..=63"), "{error}");
}

#[test]
fn options_of_an_operator() {
    for (options, hairpin, flags) in [
        ("hairpin = true", true, 0),
        ("clamp_mss = true", false, flag::CLAMP_MSS),
        ("tag_priority = \"session\"", false, 0),
        ("tag_priority = \"dscp\"", false, flag::PRIORITY_FROM_DSCP),
    ] {
        let text = GOOD.replacen("next_hops", &format!("{options}\nnext_hops"), 1);
        let config = parse(&text).expect("valid");
        let [north, south] = &config.operators[..] else {
            panic!("two operators")
        };
        let told = |operator: &Operator| (operator.hairpin, operator.session_flags());
        assert_eq!(told(north), (hairpin, flags), "{options}");
        assert_eq!(told(south), (false, 0), "{options}");
    }
    let wrong = GOOD.replacen("next_hops", "tag_priority = \"tos\"\nnext_hops", 1);
    let error = parse(&wrong).expect_err("refused").to_string();
    assert!(error.contains("`session` or `dscp`"), "{error}");
}
