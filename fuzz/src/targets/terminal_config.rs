//! The terminal's configuration.

use std::collections::HashSet;
use std::path::Path;

use doorstep_establish::Tags;
use doorstep_terminal::config::{Config, ConfigError, WanTags};
use doorstep_terminal::links::room_port::RoomPort;

use crate::Target;
use crate::mutate::Shape;

pub const TARGET: Target = Target {
    name: "terminal_config",
    about: "the terminal's configuration: interfaces that can exist, each once",
    check,
    seeds,
    shape: Shape::Text,
    words: &[
        "tags = \"auto\"",
        "tags = \"none\"",
        "[101, 1004]",
        "[home]",
        "room_ports",
        "masquerade = false",
        "resolver_file",
        "[home.app]",
        "name = \"doorstep.home\"",
        "port = 80",
        "https://",
        "[operators.default]",
        "[home.rooms.lan2]",
        "[home.rooms.\"lan1.30\"]",
        "session = \"south\"",
        "\"lan1.20\"",
        ".4095",
        "192.168.0.1/24",
        "..",
        "true",
    ],
    inputs: 4_000,
};

const FILE: &str = "/etc/doorstep/terminal.toml";

const FULL: &str = r#"state_dir = "state"
[server]
url = "https://198.51.100.10:7443"
ca = "ca.pem"
server_name = "north-net"
[operators.south]
url = "https://198.51.100.20:7443"
ca = "south.pem"
[wan]
ports = ["wan0", "wan1"]
tags = [101, 1004]
route_metric = 60
garden = false
[home]
bridge = "br-home"
room_ports = ["lan0", "lan1.20"]
session = "default"
ipv4 = "192.168.52.1/24"
masquerade = false
resolver_file = "resolv.conf"
[home.app]
name = "broadband.home"
port = 8080
[home.rooms.lan2]
session = "south"
ipv4 = "192.168.53.1/24"
"#;

fn seeds() -> Vec<Vec<u8>> {
    let sample = include_str!("../../../deploy/etc/doorstep/terminal.toml");
    vec![FULL.into(), sample.into()]
}

fn check(data: &[u8]) {
    let text = &*String::from_utf8_lossy(data);
    match Config::parse(text, Path::new(FILE)) {
        Ok(config) => holds_together(&config),
        Err(ConfigError::Value { field, problem, .. }) => {
            assert!(!field.is_empty() && !problem.is_empty());
        }
        Err(ConfigError::Parse { source, .. }) => assert!(!source.message().is_empty()),
        Err(error) => panic!("nothing was read from a file: {error}"),
    }
}

fn holds_together(config: &Config) {
    assert!(!config.operators.is_empty());
    for (name, server) in &config.operators {
        assert!(!name.is_empty() && server.url.starts_with("https://"));
    }
    let authorities = config.operators.values().map(|server| &server.ca);
    for path in [&config.state_dir, &config.admin_socket]
        .into_iter()
        .chain(authorities)
    {
        assert!(path.is_absolute(), "{}", path.display());
    }
    let mut names = config.wan.ports.clone();
    if let Some(home) = &config.home {
        let ports = home.room_ports.iter().chain(home.rooms.keys());
        let ports: Result<Vec<_>, _> = ports.map(|port| RoomPort::parse(port)).collect();
        names.extend(ports.expect("refused").iter().map(RoomPort::link));
        names.push(home.bridge.clone());
    }
    let distinct: HashSet<_> = names.iter().collect();
    assert_eq!(distinct.len(), names.len());
    for name in names {
        // They become parts of paths below /proc/sys/net.
        assert!(name.len() <= 15 && !name.contains('/') && name != "." && name != "..");
    }
    match config.wan.tags {
        WanTags::Auto => assert_eq!(config.wan.tags.resolve(Tags::NONE), Tags::NONE),
        WanTags::Fixed(tags) => {
            assert_eq!(config.wan.tags.resolve(Tags::NONE), tags);
            assert_eq!(Tags::new(tags.as_slice()), Ok(tags));
        }
    }
}
