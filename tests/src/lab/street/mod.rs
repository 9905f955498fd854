//! A street: a server, gateways with a building each, homes, and a host that plays the internet.
//!
//! ```text
//!  rooms ── home ──wan0──┐                       ┌─access0─ gw1 ─uplink0──┐
//!                        ├── street: br1, br2 ───┤                        ├── inet
//!  rooms ── home ──wan0──┘   (access switch)     └─access0─ gw2 ─uplink0──┘
//!    everyone ──mgmt0── srv        (the server; for terminals: the phone network)
//! ```

mod addresses;
mod garden;
mod gateway;
mod home;
mod operator;

use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde::Deserialize;

use super::cleanup::Folder;
use super::daemon::{Daemon, bin_dir};
use super::netns::{self, Netns, cable};
use super::switch::{AccessSwitch, hear_answers};
use super::traffic::{serve_echo, serve_http};

pub use addresses::{WORLD_V4, WORLD_V6, line_tags, location};
pub use garden::{DNS_PORT, SERVICE_V6};
pub use gateway::Gateway;
pub use home::{Home, Session, Step};
pub use operator::Operator;

pub const HTTP_PORT: u16 = 80;
pub const ECHO_PORT: u16 = 7;

/// What ports that carry two tags take: 1500 bytes of IP and both tags.
const TAGGED_MTU: u32 = 1508;

/// Who puts the tags on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tagging {
    /// The building's switch, per port: homes are untagged.
    Switch,
    /// The terminal, with VLAN links.
    Terminal,
}

/// What a street is made of.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    pub gateways: usize,
    /// One or two; homes are theirs by turns.
    pub operators: usize,
    /// Terminals know all operators, must be told which, and may ask as often as they like; else
    /// each knows its own.
    pub choice: bool,
    pub homes: usize,
    /// Rooms of each home.
    pub rooms: usize,
    /// Tags of each line: 0, 1 or 2. Without tags a building has one home.
    pub tags: usize,
    pub tagging: Tagging,
    /// Lines have a /64 of their own, too.
    pub line_prefixes: bool,
    /// What each gateway has room for.
    pub max_sessions: u32,
    /// Lines of each operator's part of the gateways' configuration.
    pub options: &'static str,
    /// Seconds for which gateways serve sessions without the server; 0: for ever.
    pub time_to_live_s: u32,
    /// Homes reach the server over their lines, in the gateways' gardens, and have no other way.
    pub garden: bool,
    /// Gateways answer Prometheus at 127.0.0.1:9464.
    pub metrics: bool,
    /// All tell a collector of traces at their own host's 127.0.0.1:4317.
    pub traces: bool,
    /// Homes have the app in their rooms.
    pub app: bool,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            gateways: 1,
            operators: 1,
            choice: false,
            homes: 1,
            rooms: 0,
            tags: 2,
            tagging: Tagging::Switch,
            line_prefixes: false,
            max_sessions: 1024,
            options: "",
            time_to_live_s: 0,
            garden: false,
            metrics: false,
            traces: false,
            app: false,
        }
    }
}

impl Plan {
    /// Of each daemon's configuration.
    fn traces(&self) -> &'static str {
        match self.traces {
            true => "\n[traces]\nendpoint = \"http://127.0.0.1:4317\"\n\n",
            false => "",
        }
    }
}

/// All of it. Dropping it removes everything.
pub struct Street {
    pub homes: Vec<Home>,
    pub gateways: Vec<Gateway>,
    pub operators: Vec<Operator>,
    hosts: Hosts,
    switch: Option<AccessSwitch>,
    plan: Plan,
    dir: Folder,
}

/// What every street has.
pub struct Hosts {
    /// Plays the internet and the operators' routers.
    pub inet: Netns,
    /// The buildings' bridges.
    pub street: Netns,
    /// The servers, and the management network.
    pub srv: Netns,
}

impl std::ops::Deref for Street {
    type Target = Hosts;

    fn deref(&self) -> &Hosts {
        &self.hosts
    }
}

impl Hosts {
    fn new() -> Result<Self> {
        let inet = Netns::new("inet")?;
        inet.ip(&format!("addr add {WORLD_V4}/32 dev lo"))?;
        inet.ip(&format!("addr add {WORLD_V6}/128 dev lo nodad"))?;
        for v6 in [false, true] {
            serve_http(&inet, SocketAddr::new(addresses::world(v6), HTTP_PORT))?;
            serve_echo(&inet, SocketAddr::new(addresses::world(v6), ECHO_PORT))?;
        }
        let srv = Netns::new("srv")?;
        // A bridge without an address of its own takes its ports' lowest, and another one when a port
        // comes: who had asked before would not be heard until it asks again, a minute later.
        srv.ip("link add mgmt address 02:00:00:00:00:53 type bridge")?;
        srv.ip("link set mgmt up")?;
        Ok(Self {
            inet,
            street: Netns::new("street")?,
            srv,
        })
    }

    /// Gives a host its management address.
    pub fn join_mgmt(&self, netns: &Netns, last: usize) -> Result<()> {
        let port = format!("m{last}");
        cable((netns, "mgmt0"), (&self.srv, &port))?;
        self.srv.ip(&format!("link set {port} master mgmt"))?;
        netns.ip(&format!("addr add 198.18.0.{last}/24 dev mgmt0"))?;
        Ok(())
    }
}

impl Street {
    pub fn new(plan: Plan) -> Result<Self> {
        netns::sweep();
        let temporary = Folder::new()?;
        let (dir, hosts) = (temporary.path(), Hosts::new()?);
        if plan.garden {
            garden::connect(&hosts)?;
        }
        let operators = (0..plan.operators)
            .map(|number| Operator::new(dir, number, plan, &hosts.srv))
            .collect::<Result<Vec<_>>>()?;
        let gateways = (0..plan.gateways)
            .map(|number| Gateway::new(dir, plan, number, &hosts, &operators))
            .collect::<Result<Vec<_>>>()?;
        let homes = (0..plan.homes)
            .map(|number| Home::new(dir, plan, number, &hosts, &operators))
            .collect::<Result<Vec<_>>>()?;
        let ports: Vec<String> = (0..plan.homes).map(|home| format!("home{home}")).collect();
        let switch = match plan.tagging {
            Tagging::Switch => Some(AccessSwitch::new(&hosts.street, &ports)?),
            Tagging::Terminal => None,
        };
        let mut this = Self {
            homes,
            gateways,
            operators,
            hosts,
            switch,
            plan,
            dir: temporary,
        };
        for home in 0..plan.homes {
            this.plug(home, 0)?;
        }
        this.wait_for_gateways()?;
        Ok(this)
    }

    /// Cuts a gateway off from the management network, and with that from the servers, or joins it
    /// again.
    pub fn set_managed(&self, gateway: usize, managed: bool) -> Result<()> {
        let state = if managed { "up" } else { "down" };
        let netns = &self.gateways[gateway].netns;
        netns.ip(&format!("link set mgmt0 {state}")).map(drop)
    }

    /// The server of the first operator.
    pub fn server(&self) -> &Daemon {
        &self.operators[0].server
    }

    /// A folder that goes with the street.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Plugs a home's cable into the switch of a building.
    pub fn plug(&mut self, home: usize, building: usize) -> Result<()> {
        let port = format!("home{home}");
        self.hosts.street.ip(&format!("link set {port} nomaster"))?;
        if let Some(switch) = &mut self.switch {
            let ifindex = index(&self.hosts.street, &port)?;
            switch.set(ifindex, &line_tags(self.plan.tags, building, home))?;
        }
        self.hosts
            .street
            .ip(&format!("link set {port} master br{building}"))?;
        Ok(())
    }

    /// Has the building hear at once what a gateway's programs themselves answer, such as ARP: between
    /// virtual ports that waits for the next packet, unless there is a program at the other end, too.
    pub fn hear_answers(&self, gateway: usize) -> Result<()> {
        hear_answers(&self.hosts.street, format!("trunk{gateway}"))
    }

    /// Pulls a home's cable out of the switch, or puts it in again.
    pub fn set_cable(&self, home: usize, plugged: bool) -> Result<()> {
        let state = if plugged { "up" } else { "down" };
        let street = &self.hosts.street;
        street.ip(&format!("link set home{home} {state}")).map(drop)
    }

    /// Lays the cable between a gateway and an operator's router again, after it was taken away.
    pub fn connect_uplink(&self, gateway: usize, operator: usize) -> Result<()> {
        let netns = &self.gateways[gateway].netns;
        gateway::connect_uplink(operator, gateway, netns, &self.hosts.inet).map(drop)
    }

    /// Lays the cable between a gateway and its building again, after it was taken away.
    pub fn connect_access(&self, gateway: usize) -> Result<()> {
        let netns = &self.gateways[gateway].netns;
        gateway::connect_access(gateway, netns, &self.hosts.street)
    }

    /// Changes the tags that the switch adds for a home.
    pub fn retag(&mut self, home: usize, tags: &[(u16, u16)]) -> Result<()> {
        let ifindex = index(&self.hosts.street, &format!("home{home}"))?;
        self.switch
            .as_mut()
            .context("the terminals tag for themselves")?
            .set(ifindex, tags)
    }

    fn wait_for_gateways(&self) -> Result<()> {
        // In software emulation the kernel takes its time to verify the programs.
        let end = Instant::now() + Duration::from_secs(120);
        for operator in &self.operators {
            while !self.reached(operator)? {
                let log = self
                    .gateways
                    .first()
                    .map(|gateway| gateway.daemon.log_tail());
                ensure!(
                    Instant::now() < end,
                    "the gateways do not reach {}; the first one's log:\n{}",
                    operator.name,
                    log.unwrap_or_default()
                );
                std::thread::sleep(Duration::from_millis(20));
            }
        }
        Ok(())
    }

    fn reached(&self, operator: &Operator) -> Result<bool> {
        #[derive(Deserialize)]
        struct Row {
            connected: bool,
        }
        let rows: Vec<Row> = operator.server.ask_json(&["gateways"])?;
        Ok(rows.iter().filter(|row| row.connected).count() == self.plan.gateways)
    }

    /// The sealed form of the location of a home in a building, as its operator's sticker has it.
    pub fn seal(&self, building: usize, home: usize) -> Result<String> {
        let operator = self.homes[home].operator();
        self.operators[operator].seal(&location(building, home))
    }

    /// The location of a home in a building, as text.
    pub fn location(&self, building: usize, home: usize) -> String {
        location(building, home)
    }

    /// The first operator's seal of a location.
    pub fn seal_location(&self, location: &str) -> Result<String> {
        self.operators[0].seal(location)
    }

    pub fn http(&self, v6: bool) -> SocketAddr {
        SocketAddr::new(addresses::world(v6), HTTP_PORT)
    }

    pub fn echo(&self, v6: bool) -> SocketAddr {
        SocketAddr::new(addresses::world(v6), ECHO_PORT)
    }

    /// Starts a home's terminal again.
    pub fn restart_terminal(&mut self, home: usize) -> Result<()> {
        let config = self.homes[home].config.clone();
        let socket = config.with_extension("sock");
        let netns = &self.homes[home].netns;
        self.homes[home].terminal = Daemon::start("doorstep-terminal", netns, &config, &socket)?;
        Ok(())
    }

    /// Starts the first operator's server again.
    pub fn restart_server(&mut self) -> Result<()> {
        self.operators[0].restart(&self.hosts.srv)?;
        self.wait_for_gateways()
    }

    /// Starts a gateway's daemon again; it may still be setting the data plane up.
    pub fn start_gateway(&mut self, gateway: usize) -> Result<()> {
        self.gateways[gateway].restart()
    }

    /// Starts a gateway's daemon again, and waits until it has reached the servers.
    pub fn restart_gateway(&mut self, gateway: usize) -> Result<()> {
        self.gateways[gateway].restart()?;
        self.wait_for_gateways()
    }
}

fn binary(name: &str) -> Result<std::process::Command> {
    Ok(std::process::Command::new(bin_dir()?.join(name)))
}

fn index(netns: &Netns, link: &str) -> Result<u32> {
    let text = netns.ip(&format!("-o link show {link}"))?;
    let number = text.split(':').next().context("no index")?;
    Ok(number.trim().parse()?)
}
