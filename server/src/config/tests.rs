use super::*;
use crate::session::service::Service;

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
[[plan]]
name = "home-300"
upstream = "100M"
downstream = 300_000_000
shape = true
priority = 2
offered = true
title = "家庭 300"
price = "¥68 / 月"
[[plan]]
name = "open"
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
fn plans_are_read() {
    let text = GOOD.replacen("listen", "default_plan = \"home-300\"\nlisten", 1);
    let config = Config::parse(&text, Path::new("server.toml")).unwrap();
    let service = Service {
        upstream_bps: 100_000_000,
        downstream_bps: 300_000_000,
        shape_downstream: true,
        priority: 2,
        time_to_live_s: 0,
    };
    assert_eq!(config.plans.default().unwrap().name, "home-300");
    assert_eq!(config.plans.named("home-300").unwrap().service, service);
    assert_eq!(
        config.plans.named("open").unwrap().service,
        Service::default()
    );
    let offer = &config.plans.named("home-300").unwrap().offer;
    assert_eq!(
        offer.to_string(),
        "offered as \"家庭 300\" for \"¥68 / 月\""
    );
    let open = &config.plans.named("open").unwrap().offer;
    assert_eq!(open.to_string(), "not offered");
    assert!(config.plans.named("other").is_none());
    let none = Config::parse(GOOD, Path::new("server.toml")).unwrap();
    assert!(none.plans.default().is_none());
}

#[test]
fn rows_are_kept_as_long_as_the_file_says() {
    let parse = |section: &str| {
        let text = GOOD.replacen("[[gateway]]", &format!("{section}\n[[gateway]]"), 1);
        let config = Config::parse(&text, Path::new("server.toml")).unwrap();
        config.retention
    };
    assert_eq!(parse(""), Retention::default());
    assert_eq!(
        parse("[retention]\nsteps_days = 7\nreceipts_days = 0"),
        Retention {
            steps_days: 7,
            receipts_days: 0,
            ..Retention::default()
        }
    );
    assert_eq!(kept_for(0), None);
    assert_eq!(kept_for(2), Some(Duration::from_secs(172_800)));
}

#[test]
fn an_error_of_syntax_does_not_show_the_databases_password() {
    for line in [
        "database = \"postgres://isp:hunter2@db/isp",
        "database = postgres://isp:hunter2@db/isp",
        "database = [\"postgres://isp:hunter2@db/isp\"]",
    ] {
        let text = format!("operator = \"isp\"\n{line}\n");
        let error = Config::parse(&text, Path::new("/etc/doorstep/server.toml")).unwrap_err();
        let said = format!("{error} {error:?}");
        assert!(!said.contains("hunter2"), "{said}");
        assert!(said.contains("server.toml:2:"), "{said}");
    }
}

#[test]
fn errors_name_file_line_and_what_is_wrong() {
    let cases = [
        (
            "operator = \"north-net\"",
            "operator = \"North\"",
            "server.toml:2:12: operator must be",
        ),
        ("data_dir = ", "data_dri = ", ":3:1: unknown field"),
        ("listen = \"127.0.0.1:0\"", "listen = \"here\"", ":4:10: "),
        (
            "id = \"gw2\"",
            "id = \"gw1\"",
            ":14:1: gateway \"gw1\" is there twice",
        ),
        ("id = \"gw2\"", "id = \"gw_2\"", ":14:1: gateway id must be"),
        (
            "100.64.2.0/24",
            "100.64.0.0/16",
            "gateway \"gw2\": ipv4_pool 100.64.0.0/16 overlaps ipv4_pool 100.64.1.0/24 of gateway \"gw1\"",
        ),
        (
            "100.64.2.0/24",
            "100.64.1.128/25",
            "overlaps ipv4_pool 100.64.1.0/24 of gateway \"gw1\"",
        ),
        (
            "100.64.1.0/24",
            "100.64.0.0/22",
            "ipv4_pool 100.64.2.0/24 overlaps ipv4_pool 100.64.0.0/22 of gateway \"gw1\"",
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
        ("\"1101\"", "\"11\"", ":16:"),
        (
            "ipv4_pool = \"100.64.2.0/24\"\n",
            "",
            "ipv4_gateway: makes sense only with",
        ),
        ("dns =", "mtu = 100\ndns =", "mtu: must be at least 1280"),
        ("\"100M\"", "\"100 M\"", ":21:12: "),
        ("\"100M\"", "\"100 M\"", "must be bits per second"),
        ("\"100M\"", "\"63k\"", "must be at least 64k"),
        ("300_000_000", "63_999", ":22:14: "),
        ("300_000_000", "-1", "must be at least 64k"),
        ("300_000_000", "2_000_000_000_000", "must be at most 1000G"),
        ("300_000_000", "1.5", "a rate like"),
        (
            "priority = 2",
            "priority = 8",
            ":24:12: plan \"home-300\": priority: must be 0 to 7",
        ),
        ("priority = 2", "prio = 2", ":24:1: "),
        (
            "name = \"open\"",
            "name = \"home-300\"",
            ":29:8: plan \"home-300\" is there twice",
        ),
        ("name = \"open\"", "name = \"\"", ":29:8: plan name must be"),
        (
            "title = \"家庭 300\"",
            "title = \"a\\nb\"",
            ":20:8: plan \"home-300\": title: must be one line of at most 60",
        ),
        (
            "listen = ",
            "default_plan = \"gold\"\nlisten = ",
            ":4:16: default_plan: there is no [[plan]] \"gold\"",
        ),
        (
            "dns =",
            "delegated_prefix_len = 65\ndns =",
            "ipv6_pool: the delegated prefix length",
        ),
        (
            "dns =",
            "ipv6_line_pool = \"2001:db8:f:100::/64\"\ndns =",
            "gateway \"gw1\": ipv6_line_pool: a pool of length 64 has no /64 for a line",
        ),
        (
            "dns =",
            "ipv6_line_pool = \"2001:db8:1000:f00::/56\"\ndns =",
            "ipv6_line_pool 2001:db8:1000:f00::/56 overlaps its ipv6_pool 2001:db8:1000::/40",
        ),
        (
            "ipv4_gateway =",
            "ipv6_line_pool = \"2001:db8:1000:f00::/56\"\nipv4_gateway =",
            "gateway \"gw2\": ipv6_line_pool 2001:db8:1000:f00::/56 overlaps ipv6_pool \
             2001:db8:1000::/40 of gateway \"gw1\"",
        ),
        (
            "[[gateway]]",
            "[retention]\nrequests_days = 49\n[[gateway]]",
            "retention: requests_days must be 50 to 36500, or 0 to keep them for ever",
        ),
        (
            "[[gateway]]",
            "[retention]\nsteps_days = 36501\n[[gateway]]",
            "retention: steps_days must be 1 to 36500",
        ),
        (
            "[[gateway]]",
            "[retention]\nsessions_days = 1\n[[gateway]]",
            "sessions_days",
        ),
        (
            "[[gateway]]",
            "[dhcp]\nlease_s = 9\n[[gateway]]",
            "dhcp: lease_s must be 10 to 604800",
        ),
        (
            "[[gateway]]",
            "[dhcp]\nreplace = \"after-hold\"\nhold_s = 0\n[[gateway]]",
            "dhcp: hold_s must be 1 to 604800",
        ),
        (
            "[[gateway]]",
            "[dhcp]\nreplace = \"sometimes\"\n[[gateway]]",
            "at-once",
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

#[test]
fn a_console_without_tls_is_for_this_host_only() {
    let parse = |section: &str| {
        let text = format!("{GOOD}\n[console]\n{section}");
        Config::parse(&text, Path::new("/etc/doorstep/server.toml"))
    };
    let console = parse("listen = \"[::]:8443\"").unwrap().console.unwrap();
    assert!(console.site.tls);
    assert_eq!(console.site.certificate, None);
    let own = "listen = \"[::]:8443\"\ncertificate = \"web.pem\"\nkey = \"web.key\"";
    let files = parse(own)
        .unwrap()
        .console
        .unwrap()
        .site
        .certificate
        .unwrap();
    assert_eq!(files.key, Path::new("/etc/doorstep/web.key"));
    assert!(parse("listen = \"127.0.0.1:8080\"\ntls = false").is_ok());
    for (section, problem) in [
        ("listen = \"0.0.0.0:8080\"\ntls = false", "loopback only"),
        (
            "listen = \"0.0.0.0:8443\"\nkey = \"web.key\"",
            "belong together",
        ),
        (
            "listen = \"127.0.0.1:1\"\ntls = false\ncertificate = \"c\"\nkey = \"k\"",
            "of no use",
        ),
        ("listen = \"[::]:8443\"\nidle_minutes = 0", "1 to 1440"),
        ("listen = \"[::]:8443\"\nhours = 1000", "1 to 168"),
        (
            "listen = \"[::]:8443\"\nsign_in_rate = { per_minute = 0 }",
            "guessed",
        ),
        ("", "listen"),
        ("listen = \"[::]:8443\"\nport = 1", "port"),
    ] {
        let error = parse(section).unwrap_err().to_string();
        assert!(error.contains(problem), "{section}: {error}");
        assert!(error.starts_with("/etc/doorstep/server.toml:"), "{error}");
    }
}

#[test]
fn an_app_is_like_a_console() {
    let parse = |section: &str| {
        let text = format!("{GOOD}\n[app]\n{section}");
        Config::parse(&text, Path::new("/etc/doorstep/server.toml"))
    };
    let app = parse("listen = \"[::]:443\"").unwrap().app.unwrap();
    assert!(app.site.tls);
    assert_eq!(app.idle.as_secs(), 90 * 86_400);
    for (section, problem) in [
        (
            "listen = \"0.0.0.0:80\"\ntls = false",
            "app: without TLS it may listen",
        ),
        ("listen = \"[::]:443\"\ndays = 0", "1 to 400"),
        (
            "listen = \"[::]:443\"\nsign_in_rate = { per_minute = 0 }",
            "codes could be guessed",
        ),
    ] {
        let error = parse(section).unwrap_err().to_string();
        assert!(error.contains(problem), "{problem}: {error}");
    }
}
