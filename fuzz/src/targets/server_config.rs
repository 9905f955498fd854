//! The server's configuration.

use std::collections::HashSet;
use std::path::Path;

use doorstep_daemon::rate;
use doorstep_server::config::{Config, ConfigError};
use doorstep_server::store::Database;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use crate::Target;
use crate::mutate::Shape;

pub const TARGET: Target = Target {
    name: "server_config",
    about: "the server's configuration: what is accepted has pools that work and shows no password",
    check,
    seeds,
    shape: Shape::Text,
    words: &[
        "database = \"postgres://o:sesame@host/db?password=sesame\"",
        "[limits]",
        "watches = 0",
        "[certificates]",
        "gateway_hours = 1",
        "[legacy_seal]",
        "[[gateway]]",
        "[[plan]]",
        "ipv4_pool = \"0.0.0.0/0\"",
        "ipv4_gateway",
        "ipv6_line_pool",
        "255.255.255.252/30",
        "2001:db8::/64",
        "::/0",
        "ffff:ffff:ffff:fff0::/60",
        "delegated_prefix_len = 64",
        "1101",
        "unlimited",
        "1000G",
        "true",
    ],
    inputs: 4_000,
};

const FILE: &str = "/etc/doorstep/server.toml";

const FULL: &str = r#"operator = "north-net"
data_dir = "data"
database = "postgres://doorstep:sesame@db.example/north"
listen = "127.0.0.1:7443"
admin_socket = "admin.sock"
server_names = ["server.example"]
country_code = "86"
unconfirmed_after_ms = 1000
default_plan = "open"
[legacy_seal]
passphrase_file = "legacy.pass"
[limits]
watches = 10
[certificates]
gateway_hours = 24
[[gateway]]
id = "gw1"
locations = ["110103-xinjingjiayuan", "1102"]
ipv4_pool = "100.64.1.0/24"
ipv6_pool = "2001:db8:1000::/40"
ipv6_line_pool = "2001:db8:2000::/40"
dns = ["192.0.2.53"]
[[gateway]]
id = "gw2"
locations = ["110103-xinjingjiayuan-002", "1101"]
ipv4_pool = "100.64.2.0/30"
ipv4_gateway = "100.64.2.254"
ipv6_pool = "2001:db8:3000::/64"
delegated_prefix_len = 64
mtu = 1492
[[plan]]
name = "home-300"
upstream = "100M"
downstream = 300_000_000
shape = true
priority = 2
[[plan]]
name = "open"
"#;

fn seeds() -> Vec<Vec<u8>> {
    let sample = include_str!("../../../deploy/etc/doorstep/server.toml");
    vec![FULL.into(), sample.into()]
}

fn check(data: &[u8]) {
    let text = &*String::from_utf8_lossy(data);
    match Config::parse(text, Path::new(FILE)) {
        Ok(config) => holds_together(&config),
        Err(ConfigError::Invalid {
            line,
            column,
            problem,
            ..
        }) => {
            let found = text.split('\n').nth(line - 1).expect("no such line");
            assert!(
                column >= 1 && column <= found.len() + 1,
                "{column} of {found:?}"
            );
            assert!(!problem.is_empty());
        }
        Err(error) => panic!("nothing was read from a file: {error}"),
    }
}

fn holds_together(config: &Config) {
    let shown = serde_json::to_string(config).expect("it is logged at each start");
    if let Database::Postgres(url) = &config.database {
        let database = config.database.to_string();
        assert!(shown.contains(&serde_json::to_string(&database).expect("a text")));
        let (_, rest) = url.split_once("://").expect("a URL");
        let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
        // What stands before the host, and all parameters, may be or hold a password.
        let place = authority
            .rsplit_once('@')
            .map_or(authority, |(_, host)| host);
        let shown = database
            .strip_prefix("postgres://")
            .expect("of the same kind");
        assert!(shown.starts_with(place), "{shown} of {url}");
        assert!(!shown.contains(['@', '?', '#']), "{shown} of {url}");
    }
    assert!(config.server_names.contains(&config.operator));
    assert!(!config.certificates.look_every().is_zero());

    let names: HashSet<_> = config.plans.iter().map(|plan| &plan.name).collect();
    assert_eq!(names.len(), config.plans.iter().count());
    assert_eq!(config.plans.changes(&config.plans), []);
    for plan in config.plans.iter() {
        assert_eq!(
            plan.service.check(),
            Ok(()),
            "the gateway refuses {}",
            plan.name
        );
        let again = rate::show(plan.service.upstream_bps);
        assert_eq!(rate::parse(&again), Ok(plan.service.upstream_bps));
    }

    let mut pools: Vec<IpNet> = Vec::new();
    for gateway in &config.gateways {
        assert_eq!(
            config.gateway(&gateway.id).map(|one| &one.locations),
            Some(&gateway.locations)
        );
        let v4 = gateway.ipv4.map(|pool| IpNet::from(pool.net));
        let v6 = gateway.ipv6.map(|pool| IpNet::from(pool.net));
        let line = gateway.ipv6_line.map(|pool| IpNet::from(pool.net));
        assert!(v4.is_some() || v6.is_some());
        for net in [v4, v6, line].into_iter().flatten() {
            assert_eq!(net, net.trunc());
            let taken = |other: &IpNet| other.contains(&net) || net.contains(other);
            assert!(!pools.iter().any(taken), "{net} is given out twice");
            pools.push(net);
        }
        for prefix in &gateway.locations {
            assert_eq!(prefix.to_string().parse().as_ref(), Ok(prefix));
        }
        ends(gateway);
    }
}

/// The first and the last address of each pool are of its network, and nobody else's.
fn ends(gateway: &doorstep_server::config::Gateway) {
    use doorstep_server::pool::{ipv4_address, ipv6_prefix};

    if let Some(v4) = gateway.ipv4 {
        for number in [v4.pool.first, v4.pool.last] {
            let address = ipv4_address(number).expect("an address");
            assert!(v4.net.contains(&address), "{address} is not of {}", v4.net);
            assert!(Ipv4Net::from(address) != v4.net);
        }
        assert!(v4.pool.capacity() >= 1, "{} has nothing to give", v4.net);
    }
    let pool = gateway
        .ipv6
        .map(|pool| (pool.net, pool.delegated_prefix_len, pool.pool));
    let line = gateway.ipv6_line.map(|pool| (pool.net, 64, pool.pool));
    for (net, len, pool) in [pool, line].into_iter().flatten() {
        assert!(pool.capacity() >= 1, "{net} has nothing to give");
        for number in [pool.first, pool.last + 1 - pool.step] {
            let prefix: Ipv6Net = ipv6_prefix(number, len).expect("a prefix");
            assert!(net.contains(&prefix), "{prefix} is not of {net}");
            assert_eq!(prefix, prefix.trunc());
        }
    }
}
