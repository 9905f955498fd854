//! The real gateway, told of lines whose sessions come up by DHCP, and the homes' end of them.

use std::collections::BTreeMap;
use std::net::Ipv6Addr;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use doorstep_gateway_common::Reason;
use doorstep_proto::v1;
use doorstep_tests::lab::daemon::Daemon;
use doorstep_tests::lab::netns::Netns;

use super::client::Dialogue;
use super::drive::{Driven, Order, drive};
use super::wire::Wire;
use crate::lab::{self, Lab, UPLINK};
use crate::program::server::{self, Programmer};
use crate::program::{self, Host};
use crate::subscriber::{self, DELEGATED_LEN};

/// Of the gateway toward the lines.
const OWN: &str = "100.127.255.254";
/// Number of the first prefix of the delegated length that holds lines' own prefixes.
const LINES: u32 = 1 << 22;
/// Room for sessions beside those of the lines.
const SPARE: u32 = 64;
const LEASE_S: u32 = 3600;
/// How long the last report may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// What is first is ended first.
pub struct World {
    daemon: Daemon,
    server: Programmer,
    lab: Lab,
    _host: Host,
}

impl World {
    /// The gateway has acknowledged a session on every line, and no router has asked yet.
    pub fn start(lines: u32) -> Result<Self> {
        let lab = Lab::new()?;
        let gateway = &lab.gateway;
        gateway.ip(&format!("addr add 192.0.2.2/30 dev {UPLINK}"))?;
        gateway.ip(&format!("addr add 2001:db8:ff00::2/64 dev {UPLINK} nodad"))?;
        let host = Host::new(lines)?;
        let connects = (0..lines).map(connect).collect::<Result<_>>()?;
        let folder = host.folder.path().to_owned();
        let mut server = {
            let folder = folder.clone();
            gateway.run(move || Programmer::start(&folder, connects))??
        };
        let config = folder.join("gateway.toml");
        let text = lab::gateway_config(
            server::GATEWAY,
            lines + SPARE,
            "admin_socket = \"gateway.sock\"\nline_prefixes = true",
            &format!("gateway_addresses = [\"{OWN}\"]"),
            &format!(
                "url = \"https://127.0.0.1:{}\"\nserver_name = \"{}\"",
                server.address.port(),
                server::SERVER
            ),
        );
        std::fs::write(&config, text)?;
        let daemon = start(gateway, &config)?;
        let runtime = tokio::runtime::Builder::new_current_thread().build()?;
        runtime.block_on(server.programmed())?;
        Ok(Self {
            daemon,
            server,
            lab,
            _host: host,
        })
    }

    /// Has the homes' routers carry exchanges out.
    pub fn drive(&self, dialogue: impl Dialogue, order: Order) -> Result<Driven> {
        let ifindex = self.lab.home_port.ifindex;
        self.lab
            .homes
            .run(move || drive(&mut Wire::open(ifindex)?, &dialogue, order))?
    }

    /// Waits until the server knows of so many sessions that they forward.
    pub fn wait_for_reports(&self, lines: u32) -> Result<()> {
        let end = Instant::now() + PATIENCE;
        loop {
            let established = self.server.established();
            if established == lines {
                return Ok(());
            }
            ensure!(
                Instant::now() < end && established < lines,
                "{established} of {lines} sessions are reported"
            );
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Frames from the lines that did not come to the daemon because they were too many.
    pub fn held_back(&self) -> Result<u64> {
        #[derive(serde::Deserialize)]
        struct Status {
            packets: BTreeMap<String, u64>,
        }
        let Status { packets } = self.daemon.ask_json(&["status"])?;
        let held_back = [
            Reason::PuntLimitedLine,
            Reason::PuntLimitedAll,
            Reason::PuntFull,
        ];
        let counted = held_back.iter().filter_map(|why| packets.get(why.name()));
        Ok(counted.sum())
    }

    /// Main memory that the gateway's daemon takes, in MiB.
    pub fn resident_mib(&self) -> Result<f64> {
        Ok(self.daemon.memory_kib("VmRSS")? as f64 / 1024.0)
    }
}

/// It logs what it logs on any host.
fn start(gateway: &Netns, config: &std::path::Path) -> Result<Daemon> {
    let socket = config.with_extension("sock");
    Daemon::start_logging("doorstep-gateway", gateway, config, &socket, "info")
}

/// The session of subscriber `i`, for an ordinary router.
fn connect(i: u32) -> Result<v1::Connect> {
    let number = u128::from(LINES + i) << (128 - DELEGATED_LEN);
    // Not the first of them, which the programs would look up as a delegated one.
    let line = number | 1 << 64;
    let base = u128::from(subscriber::ipv6(0));
    Ok(v1::Connect {
        ipv6_line_prefix: format!("{}/64", Ipv6Addr::from(base | line)),
        dhcp: Some(v1::Dhcp {
            lease_s: LEASE_S,
            ..v1::Dhcp::default()
        }),
        ..program::connect(i)?
    })
}
