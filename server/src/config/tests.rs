use super::*;

const GOOD: &str = r#"
operator = "north-net"
data_dir = "data"
listen = "127.0.0.1:0"
admin_socket = "admin.sock"
[legacy_seal]
passphrase_file = "legacy.pass"
[[gateway]]
id = "gw1"
locations = ["110103-xinjingjiayuan"]
ipv4_pool = "100.64.1.0/24"
ipv6_pool = "2001:db8:1000::/40"
dns = ["192.0.2.53"]
[[gateway]]
id = "gw2"
locations = ["110103-xinjingjiayuan-002", "1101"]
ipv4_pool = "100.64.2.0/24"
ipv4_gateway = "100.64.2.254"
"#;

#[test]
fn a_good_file_is_read_and_paths_follow_it() {
    let config = Config::parse(GOOD, Path::new("/etc/doorstep/server.toml")).unwrap();
    assert_eq!(config.data_dir, Path::new("/etc/doorstep/data"));
    assert_eq!(
        config.legacy_passphrase_file.as_deref(),
        Some(Path::new("/etc/doorstep/legacy.pass"))
    );
    assert_eq!(config.server_names, ["north-net"]);
    let gw1 = config.gateway("gw1").unwrap().ipv4.unwrap();
    assert_eq!(gw1.gateway, Ipv4Addr::new(100, 64, 1, 1));
    let served = |location: &str| {
        config
            .gateway_for(&location.parse().unwrap())
            .map(|gateway| gateway.id.as_str())
    };
    assert_eq!(served("110103-xinjingjiayuan-001-002-004"), Some("gw1"));
    assert_eq!(served("110103-xinjingjiayuan-002-002-004"), Some("gw2"));
    assert_eq!(served("110199-other-001-001-001"), Some("gw2"));
    assert_eq!(served("440305-nanshan-001-001-001"), None);
}

#[test]
fn errors_name_file_line_and_what_is_wrong() {
    let cases = [
        (
            "operator = \"north-net\"",
            "operator = \"North\"",
            "server.toml:2:12: operator must be",
        ),
        ("data_dir = ", "data_dri = ", "line 3, column 1"),
        (
            "listen = \"127.0.0.1:0\"",
            "listen = \"here\"",
            "line 4, column 10",
        ),
        (
            "id = \"gw2\"",
            "id = \"gw1\"",
            ":14:1: gateway \"gw1\" is there twice",
        ),
        ("id = \"gw2\"", "id = \"gw_2\"", ":14:1: gateway id must be"),
        (
            "100.64.2.0/24",
            "100.64.0.0/16",
            "overlaps that of gateway \"gw1\"",
        ),
        (
            "100.64.1.0/24",
            "100.64.1.0/31",
            "ipv4_pool: an IPv4 pool needs",
        ),
        (
            "\"1101\"",
            "\"110103-xinjingjiayuan\"",
            "is listed for gateway \"gw1\" already",
        ),
        ("\"1101\"", "\"11\"", "line 16, column"),
        (
            "ipv4_pool = \"100.64.2.0/24\"\n",
            "",
            "ipv4_gateway: makes sense only with",
        ),
        ("dns =", "mtu = 100\ndns =", "mtu: must be at least 1280"),
        (
            "dns =",
            "delegated_prefix_len = 65\ndns =",
            "ipv6_pool: the delegated prefix length",
        ),
    ];
    for (from, to, want) in cases {
        let text = GOOD.replacen(from, to, 1);
        assert_ne!(text, GOOD, "{from}");
        let error = Config::parse(&text, Path::new("server.toml"))
            .expect_err(to)
            .to_string();
        assert!(error.contains("server.toml"), "{error}");
        assert!(error.contains(want), "{want}: {error}");
    }
}
