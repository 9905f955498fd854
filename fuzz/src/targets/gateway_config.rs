//! The gateway's configuration.

use std::collections::HashSet;
use std::fmt::Write as _;
use std::net::IpAddr;
use std::path::Path;

use doorstep_gateway::config::{
    Config, ConfigError, Operator, Position, Problem, ShaperKind, TagPriority, XdpMode,
};
use ipnet::IpNet;

use crate::Target;
use crate::mutate::Shape;

pub const TARGET: Target = Target {
    name: "gateway_config",
    about: "the gateway's configuration: what is accepted holds together, and is the same written anew",
    check,
    seeds,
    shape: Shape::Text,
    words: &[
        "[garden]",
        "lines = 4096",
        "lease_s",
        "rate = \"1M\"",
        "delegated_prefix_len",
        "[[operator]]",
        "[operator.garden]",
        "[[access_port]]",
        "hairpin = true",
        "xdp_mode = \"native\"",
        "shaper = \"none\"",
        "tag_priority = \"dscp\"",
        "255.255.255.255/32",
        "0.0.0.0/0",
        "::/0",
        "2001:db8::/64",
        "fd00::/48",
        "[2001:db8::9]:7443",
        "52000",
        "true",
    ],
    inputs: 4_000,
};

const FILE: &str = "/etc/doorstep/gateway.toml";

const FULL: &str = r#"id = "gw1"
state_dir = "state"
delegated_prefix_len = 60
line_prefixes = true
max_sessions = 4096
xdp_mode = "generic"
shaper = "none"
accounting_interval_ms = 1000
[garden]
lines = 100
rate = "2.5M"
lease_s = 60
[[access_port]]
name = "access0"
[[access_port]]
name = "access1"
[[operator]]
name = "north-net"
index = 7
uplink = "uplink0"
next_hops = ["192.0.2.1", "2001:db8:ff::1"]
subscriber_prefixes = ["100.64.1.0/24", "2001:db8:1000::/40"]
gateway_addresses = ["100.64.1.1", "2001:db8:ff::2"]
hairpin = true
clamp_mss = true
tag_priority = "dscp"
[operator.server]
url = "https://198.51.100.1:7443"
replicas = ["https://[2001:db8::2]:7443"]
server_name = "north-net"
ca = "ca.pem"
cert = "gw1.pem"
key = "/etc/gw1.key"
[operator.garden]
servers = ["198.51.100.10:7443", "[2001:db8::10]:53/udp"]
prefixes = ["100.127.0.0/20", "fd00:0:9::/48"]
[[operator]]
name = "south-net"
uplink = "uplink0"
uplink_vlan = 7
routing_table = 254
subscriber_prefixes = ["100.64.2.0/24"]
[operator.server]
url = "https://south.example:7443"
ca = "ca.pem"
cert = "gw1.pem"
"#;

fn seeds() -> Vec<Vec<u8>> {
    let sample = include_str!("../../../deploy/etc/doorstep/gateway.toml");
    vec![FULL.into(), sample.into()]
}

fn parse(text: &str) -> Result<Config, ConfigError> {
    Config::parse(Path::new(FILE), text)
}

fn check(data: &[u8]) {
    let text = &*String::from_utf8_lossy(data);
    match parse(text) {
        Ok(config) => {
            holds_together(&config);
            let written = write(&config);
            match parse(&written) {
                Ok(again) => assert_eq!(again, config, "another one once written:\n{written}"),
                Err(error) => panic!("refused once written: {error}\n{written}"),
            }
        }
        Err(ConfigError::Invalid { problems, .. }) => {
            assert!(!problems.is_empty());
            for Problem { at, what } in problems {
                inside(text, at);
                assert!(!what.is_empty());
            }
        }
        Err(ConfigError::Index { .. } | ConfigError::Syntax { .. }) => {}
        Err(error) => panic!("nothing was read from a file: {error}"),
    }
}

fn holds_together(config: &Config) {
    assert!((48..=64).contains(&config.delegated_prefix_len));
    assert!(config.max_sessions > 0 && config.accounting_interval_ms > 0);
    assert!(!config.access_ports.is_empty() && !config.operators.is_empty());
    let operators = &config.operators;
    let distinct = |values: Vec<String>| {
        let set: HashSet<_> = values.iter().collect();
        assert_eq!(set.len(), values.len(), "{values:?}");
    };
    distinct(
        config
            .access_ports
            .iter()
            .map(|port| port.name.clone())
            .collect(),
    );
    distinct(operators.iter().map(|one| one.name.clone()).collect());
    distinct(operators.iter().map(|one| one.index.to_string()).collect());
    distinct(
        operators
            .iter()
            .map(|one| format!("{}.{}", one.uplink, one.uplink_vlan))
            .collect(),
    );
    let mut prefixes: Vec<IpNet> = Vec::new();
    for operator in operators {
        assert!((1..=63).contains(&operator.index));
        assert_eq!(config.operator(operator.index), Some(operator));
        assert!(
            config
                .access_ports
                .iter()
                .all(|port| port.name != operator.uplink)
        );
        for prefix in own_prefixes(operator) {
            assert_eq!(prefix, prefix.trunc());
            let taken = |other: &IpNet| other.contains(&prefix) || prefix.contains(other);
            assert!(!prefixes.iter().any(taken), "{prefix} is two operators'");
            prefixes.push(prefix);
        }
        garden(config, operator);
    }
    let mut again = config.clone();
    let indexes = config.indexes();
    assert_eq!(again.set_indexes(&indexes), Ok(()));
    assert_eq!(again.indexes(), indexes, "an index is for ever");
}

fn own_prefixes(operator: &Operator) -> Vec<IpNet> {
    let garden = operator.garden.as_ref();
    let v4 = operator.subscriber_v4.iter().copied();
    let v6 = operator.subscriber_v6.iter().copied();
    v4.chain(garden.and_then(|garden| garden.v4))
        .map(IpNet::from)
        .chain(
            v6.chain(garden.and_then(|garden| garden.v6))
                .map(IpNet::from),
        )
        .collect()
}

/// Every line has addresses of its own in it, and each server one that reaches it.
fn garden(config: &Config, operator: &Operator) {
    let Some(garden) = &operator.garden else {
        return;
    };
    assert!(!garden.servers.is_empty());
    for lease in [0, config.garden.lines / 2, config.garden.lines - 1] {
        let way = garden.way(lease, config.delegated_prefix_len);
        for server in &way.servers {
            match server {
                IpAddr::V4(_) => assert!(way.ipv4.is_some()),
                IpAddr::V6(_) => assert!(way.ipv6.is_some()),
            }
        }
        if let (Some(net), Some(own)) = (garden.v4, way.ipv4) {
            assert!(net.contains(&own), "{own} is not of {net}");
            assert!(own != net.network() && own != net.broadcast());
        }
        if let (Some(net), Some(own)) = (garden.v6, way.ipv6) {
            assert!(net.contains(&own), "{own} is not of {net}");
        }
    }
}

/// All of it, no default left out. Paths are absolute by now.
fn write(config: &Config) -> String {
    let mut text = String::new();
    let out = &mut text;
    let mut line = |text: String| writeln!(out, "{text}").expect("memory");
    line(format!("id = {}", quoted(&config.id)));
    for (key, path) in [
        ("state_dir", &config.state_dir),
        ("pin_path", &config.pin_path),
        ("admin_socket", &config.admin_socket),
        ("inventory", &config.inventory),
    ] {
        line(format!("{key} = {}", quoted(&path.to_string_lossy())));
    }
    line(format!(
        "delegated_prefix_len = {}",
        config.delegated_prefix_len
    ));
    line(format!("line_prefixes = {}", config.line_prefixes));
    line(format!("max_sessions = {}", config.max_sessions));
    line(format!(
        "accounting_interval_ms = {}",
        config.accounting_interval_ms
    ));
    line(format!(
        "xdp_mode = \"{}\"",
        match config.xdp_mode {
            XdpMode::Auto => "auto",
            XdpMode::Native => "native",
            XdpMode::Generic => "generic",
        }
    ));
    line(format!(
        "shaper = \"{}\"",
        match config.shaper {
            ShaperKind::Fq => "fq",
            ShaperKind::None => "none",
        }
    ));
    let limits = &config.garden;
    line(format!(
        "[garden]\nlines = {}\nrate = {}\nlease_s = {}",
        limits.lines,
        limits.rate_bps,
        limits.lease.as_secs()
    ));
    for port in &config.access_ports {
        line(format!("[[access_port]]\nname = {}", quoted(&port.name)));
    }
    for one in &config.operators {
        operator(&mut line, one);
    }
    text
}

fn operator(line: &mut impl FnMut(String), operator: &Operator) {
    line(format!("[[operator]]\nname = {}", quoted(&operator.name)));
    if let Some(index) = operator.fixed_index {
        line(format!("index = {index}"));
    }
    line(format!("uplink = {}", quoted(&operator.uplink)));
    line(format!("uplink_vlan = {}", operator.uplink_vlan));
    let addresses = |v4: Option<_>, v6: Option<_>| {
        let v4 = v4.map(IpAddr::V4);
        list(v4.into_iter().chain(v6.map(IpAddr::V6)))
    };
    let next_hops = addresses(operator.next_hop_v4, operator.next_hop_v6);
    line(format!("next_hops = {next_hops}"));
    if let Some(table) = operator.routing_table {
        line(format!("routing_table = {table}"));
    }
    let v4 = operator.subscriber_v4.iter().copied().map(IpNet::from);
    let v6 = operator.subscriber_v6.iter().copied().map(IpNet::from);
    line(format!("subscriber_prefixes = {}", list(v4.chain(v6))));
    let own = addresses(operator.gateway_v4, operator.gateway_v6);
    line(format!("gateway_addresses = {own}"));
    line(format!("hairpin = {}", operator.hairpin));
    line(format!("clamp_mss = {}", operator.clamp_mss));
    line(format!(
        "tag_priority = \"{}\"",
        match operator.tag_priority {
            TagPriority::Session => "session",
            TagPriority::Dscp => "dscp",
        }
    ));
    if let Some(garden) = &operator.garden {
        let protocols = |number| match number {
            6 => "tcp",
            _ => "udp",
        };
        let servers = garden
            .servers
            .iter()
            .map(|server| format!("{}/{}", server.address, protocols(server.protocol)));
        let v4 = garden.v4.map(IpNet::from);
        let v6 = garden.v6.map(IpNet::from);
        line(format!(
            "[operator.garden]\nservers = {}\nprefixes = {}",
            list(servers),
            list(v4.into_iter().chain(v6))
        ));
    }
    let server = &operator.server;
    line(format!(
        "[operator.server]\nurl = {}\nreplicas = {}",
        quoted(&server.address.url),
        list(server.replicas.iter().map(|replica| &replica.url))
    ));
    // One name stands for all, so that it is only written where it is not the URL's host.
    let own_host = server.addresses().all(|address| {
        let host = address.url.parse::<tonic::codegen::http::Uri>().ok();
        let host = host.as_ref().and_then(|uri| uri.host()).unwrap_or_default();
        host.trim_start_matches('[').trim_end_matches(']') == address.server_name
    });
    if !own_host {
        line(format!(
            "server_name = {}",
            quoted(&server.address.server_name)
        ));
    }
    for (key, path) in [
        ("ca", &server.ca),
        ("cert", &server.cert),
        ("key", &server.key),
    ] {
        line(format!("{key} = {}", quoted(&path.to_string_lossy())));
    }
}

fn list<T: ToString>(values: impl Iterator<Item = T>) -> String {
    let values: Vec<_> = values.map(|value| quoted(&value.to_string())).collect();
    format!("[{}]", values.join(", "))
}

/// As a TOML string.
fn quoted(text: &str) -> String {
    toml::Value::from(text).to_string()
}

/// A place is one that an editor finds.
fn inside(text: &str, Position { line, column }: Position) {
    assert!(line >= 1 && column >= 1);
    let found = text.split('\n').nth(line - 1).expect("no such line");
    assert!(
        column <= found.chars().count() + 1,
        "column {column} of line {line}"
    );
}
