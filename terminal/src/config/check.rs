//! What a text that is a configuration may still have wrong.

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use uuid::Uuid;

use super::{App, Config, Home, Mode, Problem};
use crate::links::own_rooms;
use crate::links::room_port::RoomPort;

impl Config {
    pub(super) fn check(&self) -> Result<(), Problem> {
        if self.operators.is_empty() {
            return Err((
                "server",
                "expected the operator's server in [server], or one for each operator in \
                 [operators.NAME]"
                    .into(),
            ));
        }
        for (name, server) in &self.operators {
            let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
            if !(1..=32).contains(&name.len()) || !name.bytes().all(is_plain) {
                let text =
                    format!("{name:?} is no name of an operator: 1 to 32 letters, digits, - or _");
                return Err(("operators", text));
            }
            if !server.url.starts_with("https://") {
                let text = format!("of operator {name}: expected https://host:port");
                return Err(("url", text));
            }
        }
        if self.wan.ports.is_empty() {
            return Err(("wan.ports", "expected at least one interface".into()));
        }
        if let Some(home) = &self.home {
            self.check_home(home)?;
        }
        self.check_names()
    }

    /// Interfaces that can exist, each once.
    fn check_names(&self) -> Result<(), Problem> {
        let mut bridges = Vec::new();
        let mut ports = Vec::new();
        if let Some(home) = &self.home {
            bridges.push(home.bridge.clone());
            bridges.extend(home.rooms.keys().map(|port| own_rooms::bridge(port)));
            for name in home.room_ports.iter().chain(home.rooms.keys()) {
                let port = RoomPort::parse(name);
                ports.push(port.map_err(|error| ("home", error.to_string()))?);
            }
        }
        let wan = &self.wan.ports;
        for port in ports.iter().filter(|port| port.vlan.is_some()) {
            let taken = if wan.iter().any(|name| name == port.port) {
                "a WAN port, on which the rooms' frames would be the building's"
            } else if bridges.iter().any(|name| name == port.port) {
                "a bridge of the rooms"
            } else {
                continue;
            };
            let text = format!(
                "{}: {} is {taken}; name another port",
                port.link(),
                port.port
            );
            return Err(("home", text));
        }
        for port in &ports {
            named(port.port)?;
        }
        let links = ports.iter().map(RoomPort::link);
        let mut seen = Vec::new();
        for name in wan.iter().cloned().chain(links).chain(bridges) {
            named(&name)?;
            if seen.contains(&name) {
                return Err(("wan.ports, home", format!("{name:?} is named twice")));
            }
            seen.push(name);
        }
        Ok(())
    }

    fn check_home(&self, home: &Home) -> Result<(), Problem> {
        if home.mode == Mode::Routed {
            return self.check_rooms(home);
        }
        if home.app.is_some() {
            let text =
                "with mode = \"bridge\" the terminal has no address in the rooms; leave it out";
            return Err(("home.app", text.into()));
        }
        if !home.rooms.is_empty() || home.session.is_some() {
            let text = "with mode = \"bridge\" there are no sessions to choose from; leave it out";
            return Err(("home.session, home.rooms", text.into()));
        }
        if let Some(own) = home.ipv4 {
            let text = format!(
                "{own}: with mode = \"bridge\" the operator gives the addresses; leave it out"
            );
            return Err(("home.ipv4", text));
        }
        if self.wan.ports.len() > 1 {
            let text = "with mode = \"bridge\" there can be one WAN port: several would join the \
                        operators' networks"
                .to_owned();
            return Err(("wan.ports", text));
        }
        Ok(())
    }

    fn check_rooms(&self, home: &Home) -> Result<(), Problem> {
        if let Some(session) = &home.session {
            let named = self.check_session(session);
            named.map_err(|problem| ("home.session", problem))?;
        }
        if let Some(app) = &home.app {
            check_app(app, home).map_err(|problem| ("home.app", problem))?;
        }
        let mut networks: Vec<Ipv4Net> = home.ipv4.into_iter().collect();
        for (port, room) in &home.rooms {
            self.check_session(&room.session)
                .map_err(|problem| ("home.rooms", format!("{port}: session: {problem}")))?;
            let Some(own) = room.ipv4 else { continue };
            let overlaps =
                |other: &&Ipv4Net| other.contains(&own.network()) || own.contains(&other.network());
            if let Some(other) = networks.iter().find(overlaps) {
                let text = format!("{port}: ipv4: {own} overlaps {other}; choose another network");
                return Err(("home.rooms", text));
            }
            networks.push(own);
        }
        Ok(())
    }

    fn check_session(&self, name: &str) -> Result<(), String> {
        if self.operators.contains_key(name) || name.parse::<Uuid>().is_ok() {
            return Ok(());
        }
        Err(format!(
            "{name:?} is neither an operator of this configuration nor a session's id (`status` \
             lists them)"
        ))
    }
}

/// Whether devices could find it.
fn check_app(app: &App, home: &Home) -> Result<(), String> {
    if home.doors().next().is_none() {
        return Err("it is at the terminal's address in the rooms; set home.ipv4 too".into());
    }
    if app.port == 0 {
        return Err("port: 0 is no port of HTTP; leave it out for 80".into());
    }
    let is_label = |label: &str| {
        let is_plain =
            |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        (1..=63).contains(&label.len())
            && label.bytes().all(is_plain)
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    // A name of one label is not asked of a resolver by many devices.
    let is_name = app.name.len() <= 253
        && app.name.split('.').count() > 1
        && app.name.split('.').all(is_label);
    // Nor is one that looks like an address.
    if !is_name || app.name.parse::<Ipv4Addr>().is_ok() {
        return Err(format!(
            "name: {:?} is no name of a host such as \"doorstep.home\" (small letters, digits, -, and a point)",
            app.name
        ));
    }
    Ok(())
}

/// Whether an interface can have that name: it becomes part of paths below `/proc/sys/net`.
fn named(name: &str) -> Result<(), Problem> {
    let valid = (1..=15).contains(&name.len())
        && name
            .bytes()
            .all(|b| b.is_ascii_graphic() && b != b'/' && b != b'"')
        && name != "."
        && name != "..";
    if valid {
        return Ok(());
    }
    let text = format!("{name:?} is no name of an interface");
    Err(("wan.ports, home", text))
}
