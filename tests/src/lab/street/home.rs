//! A home: its terminal and the devices in its rooms.

use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde::{Deserialize, Deserializer};

use super::operator::Operator;
use super::{Hosts, Plan, TAGGED_MTU, Tagging, addresses};
use crate::lab::daemon::Daemon;
use crate::lab::netns::{Netns, cable};

/// A home: its terminal and the devices in its rooms.
pub struct Home {
    pub terminal: Daemon,
    pub config: PathBuf,
    pub rooms: Vec<Netns>,
    pub netns: Netns,
    number: usize,
    operator: usize,
}

impl Home {
    pub(super) fn new(
        dir: &Path,
        plan: Plan,
        number: usize,
        hosts: &Hosts,
        operators: &[Operator],
    ) -> Result<Self> {
        let netns = Netns::new(&format!("home{number}"))?;
        if !plan.garden {
            hosts.join_mgmt(&netns, 100 + number)?;
        }
        let port = format!("home{number}");
        cable((&netns, "wan0"), (&hosts.street, &port))?;
        hosts
            .street
            .ip(&format!("link set {port} mtu {TAGGED_MTU}"))?;
        if plan.tagging == Tagging::Terminal {
            netns.ip(&format!("link set wan0 mtu {TAGGED_MTU}"))?;
        }
        // Checksums that are left to hardware would be lost when XDP redirects the frame.
        netns.offload("wan0", "tx off")?;
        let mut rooms = Vec::new();
        let mut ports = Vec::new();
        for room in 0..plan.rooms {
            let device = Netns::new(&format!("home{number}-room{room}"))?;
            let port = format!("room{room}");
            cable((&netns, &port), (&device, "eth0"))?;
            ports.push(format!("\"{port}\""));
            rooms.push(device);
        }
        let operator = number % operators.len();
        let mut servers = String::new();
        for (number, known) in operators.iter().enumerate() {
            let (name, server) = (known.name, addresses::server(number));
            let section = match plan.choice {
                true => format!("operators.{name}"),
                false if number == operator => "server".to_owned(),
                false => continue,
            };
            servers += &format!(
                "[{section}]\n\
                 url = \"https://{server}:7443\"\n\
                 ca = \"../gw1/op{number}/ca.pem\"\n\
                 server_name = \"{name}\"\n\n"
            );
        }
        let folder = dir.join(format!("home{number}"));
        std::fs::create_dir(&folder)?;
        let config = folder.join("terminal.toml");
        std::fs::write(
            &config,
            format!(
                "state_dir = \"state\"\n\
                 admin_socket = \"terminal.sock\"\n\n\
                 {servers}{}\
                 [wan]\n\
                 ports = [\"wan0\"]\n\n\
                 [home]\n\
                 bridge = \"br-home\"\n\
                 room_ports = [{}]\n\
                 ipv4 = \"192.168.77.1/24\"\n\
                 resolver_file = \"resolv.conf\"\n\
                 {}",
                plan.traces(),
                ports.join(", "),
                if plan.app { "[home.app]\n" } else { "" }
            ),
        )?;
        let socket = config.with_extension("sock");
        let terminal = Daemon::start("doorstep-terminal", &netns, &config, &socket)?;
        Ok(Self {
            terminal,
            config,
            rooms,
            netns,
            number,
            operator,
        })
    }

    /// The number of the operator that it is a subscriber of.
    pub fn operator(&self) -> usize {
        self.operator
    }

    /// The n-th phone number; each home has its own.
    pub fn phone(&self) -> String {
        format!("1380013{:04}", 8000 + self.number)
    }

    pub fn register(&self) -> Result<()> {
        self.terminal
            .ask(&["register", "--phone", &self.phone()])
            .map(drop)
    }

    pub fn register_at(&self, operator: &str) -> Result<()> {
        let words = ["register", "--phone", &self.phone(), "--operator", operator];
        self.terminal.ask(&words).map(drop)
    }

    /// Its own addresses in the garden, once it is in it.
    pub fn in_garden(&self) -> Result<Vec<IpAddr>> {
        #[derive(Deserialize)]
        struct Status {
            garden: Option<Garden>,
        }
        #[derive(Deserialize)]
        struct Garden {
            addresses: Vec<IpAddr>,
        }
        let end = Instant::now() + Duration::from_secs(60);
        loop {
            let status: Status = self.terminal.ask_json(&["status"])?;
            if let Some(garden) = status.garden {
                return Ok(garden.addresses);
            }
            ensure!(
                Instant::now() < end,
                "home {} is not let into the garden:\n{}",
                self.number,
                self.terminal.log_tail()
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Asks for broadband and waits until it is established.
    pub fn request(&self, sealed: &str) -> Result<Session> {
        self.terminal.ask_json(&["request", "--sealed", sealed])
    }

    /// Asks one of several operators.
    pub fn request_of(&self, operator: &str, sealed: &str) -> Result<Session> {
        let words = ["request", "--operator", operator, "--sealed", sealed];
        self.terminal.ask_json(&words)
    }

    /// Asks one of several operators for a session in another's place.
    pub fn switch(&self, operator: &str, sealed: &str) -> Result<Session> {
        let words = ["switch", "--operator", operator, "--sealed", sealed];
        self.terminal.ask_json(&words)
    }

    pub fn request_additional(&self, sealed: &str) -> Result<Session> {
        self.terminal
            .ask_json(&["request", "--additional", "--sealed", sealed])
    }

    pub fn relocate(&self, sealed: &str, session: Option<&str>) -> Result<Session> {
        let mut words = vec!["move", "--sealed", sealed];
        words.extend(session.iter().flat_map(|id| ["--session", *id]));
        self.terminal.ask_json(&words)
    }

    pub fn release(&self, session: &str) -> Result<()> {
        self.terminal
            .ask(&["release", "--session", session])
            .map(drop)
    }
}

/// What the terminal's `request` and `move` print, and `status` of each session without times.
#[derive(Clone, Debug, Deserialize)]
pub struct Session {
    pub session_id: String,
    pub generation: u64,
    pub state: String,
    pub gateway_id: String,
    #[serde(default)]
    pub elapsed_ms: f64,
    #[serde(default, deserialize_with = "address")]
    pub ipv4_address: Option<Ipv4Addr>,
    pub ipv6_prefix: Option<String>,
    pub ipv6_line_prefix: Option<String>,
    pub wan_interface: Option<String>,
    #[serde(default)]
    pub steps: Vec<Step>,
}

/// An address, or an empty text where there is none.
fn address<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Ipv4Addr>, D::Error> {
    let text = Option::<String>::deserialize(deserializer)?.filter(|text| !text.is_empty());
    let address = text.map(|text| text.parse::<Ipv4Addr>());
    address.transpose().map_err(serde::de::Error::custom)
}

/// A step on the way, in milliseconds since the request.
#[derive(Clone, Debug, Deserialize)]
pub struct Step {
    pub state: String,
    pub detail: Option<String>,
    pub at_ms: f64,
}

impl Session {
    pub fn v4(&self) -> Result<IpAddr> {
        self.ipv4_address
            .map(IpAddr::V4)
            .context("the session has no IPv4 address")
    }

    /// The terminal's own address in the delegated prefix.
    pub fn v6(&self) -> Result<IpAddr> {
        own_address(self.ipv6_prefix.as_deref())
    }

    /// The terminal's own address in the line's prefix.
    pub fn line_v6(&self) -> Result<IpAddr> {
        own_address(self.ipv6_line_prefix.as_deref())
    }
}

fn own_address(prefix: Option<&str>) -> Result<IpAddr> {
    let net: ipnet::Ipv6Net = prefix.context("the session has no such prefix")?.parse()?;
    Ok(IpAddr::V6((u128::from(net.network()) | 1).into()))
}
