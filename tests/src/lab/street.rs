//! A street: a server, gateways with a building each, homes, and a host that plays the internet.
//!
//! ```text
//!  rooms ── home ──wan0──┐                       ┌─access0─ gw1 ─uplink0──┐
//!                        ├── street: br1, br2 ───┤                        ├── inet
//!  rooms ── home ──wan0──┘   (access switch)     └─access0─ gw2 ─uplink0──┘
//!    everyone ──mgmt0── srv        (the server; for terminals: the phone network)
//! ```

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use serde::Deserialize;
use tempfile::TempDir;

use super::cleanup::Guard;
use super::daemon::{Daemon, bin_dir};
use super::netns::{self, Netns, cable, run};
use super::switch::AccessSwitch;
use super::traffic::{serve_echo, serve_http};

pub const OPERATOR: &str = "north-net";
/// The internet.
pub const WORLD_V4: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 10);
pub const WORLD_V6: std::net::Ipv6Addr =
    std::net::Ipv6Addr::new(0x2001, 0xdb8, 0xcafe, 0, 0, 0, 0, 0x10);
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
    pub homes: usize,
    /// Rooms of each home.
    pub rooms: usize,
    /// Tags of each line: 0, 1 or 2. Without tags a building has one home.
    pub tags: usize,
    pub tagging: Tagging,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            gateways: 1,
            homes: 1,
            rooms: 0,
            tags: 2,
            tagging: Tagging::Switch,
        }
    }
}

/// A gateway host.
pub struct Gateway {
    pub daemon: Daemon,
    pub config: PathBuf,
    pub id: String,
    pub netns: Netns,
    _bpffs: Guard,
}

/// A home: its terminal and the devices in its rooms.
pub struct Home {
    pub terminal: Daemon,
    pub config: PathBuf,
    pub rooms: Vec<Netns>,
    pub netns: Netns,
    number: usize,
}

/// All of it. Dropping it removes everything.
pub struct Street {
    pub homes: Vec<Home>,
    pub gateways: Vec<Gateway>,
    pub server: Daemon,
    pub server_config: PathBuf,
    pub inet: Netns,
    pub street: Netns,
    pub srv: Netns,
    switch: Option<AccessSwitch>,
    plan: Plan,
    dir: TempDir,
}

/// The tags of the line of a home in a building, (TPID, VLAN id), outer first.
pub fn line_tags(tags: usize, building: usize, home: usize) -> Vec<(u16, u16)> {
    let s = (0x88a8, 101 + building as u16);
    let c = (0x8100, 1004 + 100 * building as u16 + home as u16);
    match tags {
        0 => Vec::new(),
        1 => vec![c],
        _ => vec![s, c],
    }
}

/// The location id of a home in a building.
pub fn location(building: usize, home: usize) -> String {
    format!(
        "110103-xinjingjiayuan-{:03}-002-{:03}",
        building + 1,
        home + 4
    )
}

/// The pool of a gateway: IPv4 prefix, the gateway's own address, IPv6 prefix.
fn pool(gateway: usize) -> (String, String, String) {
    let n = gateway + 1;
    (
        format!("100.64.{n}.0/24"),
        format!("100.64.{n}.1"),
        format!("2001:db8:1{n}00::/40"),
    )
}

/// Uplink addresses: the world's end and the gateway's, IPv4 (of a /30) and IPv6 (of a /64).
fn uplink(gateway: usize) -> [String; 4] {
    let (n, base) = (gateway + 1, 4 * (gateway + 1));
    [
        format!("192.0.2.{}", base + 1),
        format!("192.0.2.{}", base + 2),
        format!("2001:db8:ff{n}::1"),
        format!("2001:db8:ff{n}::2"),
    ]
}

impl Street {
    pub fn new(plan: Plan) -> Result<Self> {
        netns::sweep();
        let dir = tempfile::Builder::new().prefix("doorstep-").tempdir()?;
        let inet = world(plan.gateways)?;
        let srv = Netns::new("srv")?;
        srv.ip("link add mgmt type bridge")?;
        srv.ip("addr add 198.18.0.1/24 dev mgmt")?;
        srv.ip("link set mgmt up")?;
        let street = Netns::new("street")?;

        let server_config = write_server_config(dir.path(), plan.gateways)?;
        run(binary("doorstep-server")?
            .args(["keys", "init", "--config"])
            .arg(&server_config))?;
        let socket = dir.path().join("server.sock");
        let server = Daemon::start("doorstep-server", &srv, &server_config, &socket)?;

        let mut gateways = Vec::new();
        for number in 0..plan.gateways {
            gateways.push(gateway(
                &dir,
                plan,
                number,
                &inet,
                &srv,
                &street,
                &server_config,
            )?);
        }
        let mut homes = Vec::new();
        for number in 0..plan.homes {
            homes.push(home(&dir, plan, number, &srv, &street)?);
        }
        let ports: Vec<String> = (0..plan.homes).map(|home| format!("home{home}")).collect();
        let switch = match plan.tagging {
            Tagging::Switch => Some(AccessSwitch::new(&street, &ports)?),
            Tagging::Terminal => None,
        };
        let mut this = Self {
            homes,
            gateways,
            server,
            server_config,
            inet,
            street,
            srv,
            switch,
            plan,
            dir,
        };
        for home in 0..plan.homes {
            this.plug(home, 0)?;
        }
        this.wait_for_gateways()?;
        Ok(this)
    }

    /// A folder that goes with the street.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Plugs a home's cable into the switch of a building.
    pub fn plug(&mut self, home: usize, building: usize) -> Result<()> {
        let port = format!("home{home}");
        self.street.ip(&format!("link set {port} nomaster"))?;
        if let Some(switch) = &mut self.switch {
            let ifindex = index(&self.street, &port)?;
            switch.set(ifindex, &line_tags(self.plan.tags, building, home))?;
        }
        self.street
            .ip(&format!("link set {port} master br{building}"))?;
        Ok(())
    }

    /// Changes the tags that the switch adds for a home.
    pub fn retag(&mut self, home: usize, tags: &[(u16, u16)]) -> Result<()> {
        let ifindex = index(&self.street, &format!("home{home}"))?;
        self.switch
            .as_mut()
            .context("the terminals tag for themselves")?
            .set(ifindex, tags)
    }

    fn wait_for_gateways(&self) -> Result<()> {
        let end = Instant::now() + Duration::from_secs(20);
        loop {
            #[derive(Deserialize)]
            struct Row {
                connected: bool,
            }
            let rows: Vec<Row> = self.server.ask_json(&["gateways"])?;
            if rows.iter().filter(|row| row.connected).count() == self.plan.gateways {
                return Ok(());
            }
            ensure!(
                Instant::now() < end,
                "the gateways do not reach the server; the first one's log:\n{}",
                self.gateways
                    .first()
                    .map(|gateway| gateway.daemon.log_tail())
                    .unwrap_or_default()
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// The sealed form of the location of a home in a building, as on the sticker at its door.
    pub fn seal(&self, building: usize, home: usize) -> Result<String> {
        self.seal_location(&location(building, home))
    }

    pub fn seal_location(&self, location: &str) -> Result<String> {
        let mut command = binary("doorstep-server")?;
        command
            .args(["keys", "seal", location, "--config"])
            .arg(&self.server_config);
        Ok(run(&mut command)?.trim().to_owned())
    }

    pub fn http(&self, v6: bool) -> SocketAddr {
        SocketAddr::new(world_address(v6), HTTP_PORT)
    }

    pub fn echo(&self, v6: bool) -> SocketAddr {
        SocketAddr::new(world_address(v6), ECHO_PORT)
    }

    /// Starts a home's terminal again.
    pub fn restart_terminal(&mut self, home: usize) -> Result<()> {
        let config = self.homes[home].config.clone();
        let socket = config.with_extension("sock");
        let netns = &self.homes[home].netns;
        self.homes[home].terminal = Daemon::start("doorstep-terminal", netns, &config, &socket)?;
        Ok(())
    }

    /// Starts the server again.
    pub fn restart_server(&mut self) -> Result<()> {
        let socket = self.dir().join("server.sock");
        self.server = Daemon::start("doorstep-server", &self.srv, &self.server_config, &socket)?;
        self.wait_for_gateways()
    }

    /// Starts a gateway's daemon again.
    pub fn restart_gateway(&mut self, gateway: usize) -> Result<()> {
        let config = self.gateways[gateway].config.clone();
        let socket = config.with_extension("sock");
        let netns = &self.gateways[gateway].netns;
        self.gateways[gateway].daemon = Daemon::start("doorstep-gateway", netns, &config, &socket)?;
        self.wait_for_gateways()
    }
}

impl Home {
    /// The n-th phone number; each home has its own.
    pub fn phone(&self) -> String {
        format!("1380013{:04}", 8000 + self.number)
    }

    pub fn register(&self) -> Result<()> {
        self.terminal
            .ask(&["register", "--phone", &self.phone()])
            .map(drop)
    }

    /// Asks for broadband and waits until it is established.
    pub fn request(&self, sealed: &str) -> Result<Session> {
        self.terminal.ask_json(&["request", "--sealed", sealed])
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

/// What the terminal's `request` and `move` print.
#[derive(Clone, Debug, Deserialize)]
pub struct Session {
    pub session_id: String,
    pub generation: u64,
    pub state: String,
    pub gateway_id: String,
    pub elapsed_ms: f64,
    pub ipv4_address: Option<Ipv4Addr>,
    pub ipv6_prefix: Option<String>,
    pub wan_interface: Option<String>,
    pub steps: Vec<Step>,
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
        let prefix = self
            .ipv6_prefix
            .as_deref()
            .context("the session has no IPv6 prefix")?;
        let net: ipnet::Ipv6Net = prefix.parse()?;
        Ok(IpAddr::V6((u128::from(net.network()) | 1).into()))
    }
}

fn world_address(v6: bool) -> IpAddr {
    if v6 {
        IpAddr::V6(WORLD_V6)
    } else {
        IpAddr::V4(WORLD_V4)
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

/// The host that plays the internet, with its services.
fn world(gateways: usize) -> Result<Netns> {
    let inet = Netns::new("inet")?;
    inet.ip(&format!("addr add {WORLD_V4}/32 dev lo"))?;
    inet.ip(&format!("addr add {WORLD_V6}/128 dev lo nodad"))?;
    let _ = gateways;
    for v6 in [false, true] {
        serve_http(&inet, SocketAddr::new(world_address(v6), HTTP_PORT))?;
        serve_echo(&inet, SocketAddr::new(world_address(v6), ECHO_PORT))?;
    }
    Ok(inet)
}

fn write_server_config(dir: &Path, gateways: usize) -> Result<PathBuf> {
    let mut text = format!(
        "operator = \"{OPERATOR}\"\n\
         data_dir = \"server-data\"\n\
         listen = \"198.18.0.1:7443\"\n\
         admin_socket = \"server.sock\"\n\
         server_names = [\"{OPERATOR}\", \"198.18.0.1\"]\n"
    );
    for number in 0..gateways {
        let (v4, own, v6) = pool(number);
        let community = location(number, 0);
        let building = community.rsplitn(3, '-').nth(2).context("a location id")?;
        write!(
            text,
            "\n[[gateway]]\n\
             id = \"gw{}\"\n\
             locations = [\"{building}\"]\n\
             ipv4_pool = \"{v4}\"\n\
             ipv4_gateway = \"{own}\"\n\
             ipv6_pool = \"{v6}\"\n\
             delegated_prefix_len = 56\n\
             dns = [\"{WORLD_V4}\"]\n",
            number + 1
        )?;
    }
    let file = dir.join("server.toml");
    std::fs::write(&file, text)?;
    Ok(file)
}

fn gateway(
    dir: &TempDir,
    plan: Plan,
    number: usize,
    inet: &Netns,
    srv: &Netns,
    street: &Netns,
    server_config: &Path,
) -> Result<Gateway> {
    let id = format!("gw{}", number + 1);
    let netns = Netns::new(&id)?;
    join_mgmt(srv, &netns, 10 + number)?;

    // The building's bridge, and the trunk between it and the gateway.
    let (bridge, trunk) = (format!("br{number}"), format!("trunk{number}"));
    street.ip(&format!("link add {bridge} type bridge mcast_snooping 0"))?;
    street.ip(&format!("link set {bridge} up"))?;
    cable((&netns, "access0"), (street, &trunk))?;
    // Tagged frames are longer than the packets in them.
    netns.ip(&format!("link set access0 mtu {TAGGED_MTU}"))?;
    street.ip(&format!(
        "link set {trunk} mtu {TAGGED_MTU} master {bridge}"
    ))?;
    // Tags lie in the packet, as on a wire; and what XDP redirects needs NAPI at the other end.
    street.offload(&trunk, "txvlan off tx-vlan-stag-hw-insert off gro on")?;

    let (far, near) = (format!("gw{}", number + 1), "uplink0");
    cable((&netns, near), (inet, &far))?;
    inet.offload(&far, "tx off gro on")?;
    let [world_v4, own_v4, world_v6, own_v6] = uplink(number);
    let (pool_v4, gateway_v4, pool_v6) = pool(number);
    inet.ip(&format!("addr add {world_v4}/30 dev {far}"))?;
    inet.ip(&format!("addr add {world_v6}/64 dev {far} nodad"))?;
    inet.ip(&format!("route add {pool_v4} via {own_v4}"))?;
    inet.ip(&format!("route add {pool_v6} via {own_v6}"))?;
    netns.ip(&format!("addr add {own_v4}/30 dev {near}"))?;
    netns.ip(&format!("addr add {own_v6}/64 dev {near} nodad"))?;
    netns.ip(&format!("route add default via {world_v4}"))?;
    netns.ip(&format!("route add default via {world_v6}"))?;

    let folder = dir.path().join(&id);
    std::fs::create_dir(&folder)?;
    let mut keys = binary("doorstep-server")?;
    keys.args(["keys", "gateway", &id, "--config"])
        .arg(server_config)
        .arg("--out")
        .arg(&folder);
    run(&mut keys)?;
    let bpffs = mount_bpffs(&folder.join("bpf"))?;

    let mut inventory = "location,port,s_vlan,c_vlan\n".to_owned();
    for home in 0..if plan.tags == 0 { 1 } else { plan.homes.max(2) } {
        let tags = line_tags(plan.tags, number, home);
        let vid = |tag: Option<&(u16, u16)>| tag.map(|tag| tag.1.to_string()).unwrap_or_default();
        let (s, c) = match tags.as_slice() {
            [s, c] => (vid(Some(s)), vid(Some(c))),
            rest => (String::new(), vid(rest.first())),
        };
        writeln!(inventory, "{},access0,{s},{c}", location(number, home))?;
    }
    std::fs::write(folder.join("inventory.csv"), inventory)?;
    let config = folder.join("gateway.toml");
    std::fs::write(
        &config,
        format!(
            "id = \"{id}\"\n\
             state_dir = \"state\"\n\
             pin_path = \"bpf/doorstep\"\n\
             admin_socket = \"gateway.sock\"\n\
             inventory = \"inventory.csv\"\n\
             delegated_prefix_len = 56\n\
             max_sessions = 1024\n\n\
             [[access_port]]\n\
             name = \"access0\"\n\n\
             [[operator]]\n\
             name = \"{OPERATOR}\"\n\
             uplink = \"{near}\"\n\
             next_hops = [\"{world_v4}\", \"{world_v6}\"]\n\
             subscriber_prefixes = [\"{pool_v4}\", \"{pool_v6}\"]\n\
             gateway_addresses = [\"{gateway_v4}\"]\n\n\
             [operator.server]\n\
             url = \"https://198.18.0.1:7443\"\n\
             server_name = \"{OPERATOR}\"\n\
             ca = \"ca.pem\"\n\
             cert = \"{id}.pem\"\n\
             key = \"{id}.key\"\n"
        ),
    )?;
    let socket = config.with_extension("sock");
    let daemon = Daemon::start("doorstep-gateway", &netns, &config, &socket)?;
    Ok(Gateway {
        daemon,
        config,
        id,
        netns,
        _bpffs: bpffs,
    })
}

fn home(dir: &TempDir, plan: Plan, number: usize, srv: &Netns, street: &Netns) -> Result<Home> {
    let netns = Netns::new(&format!("home{number}"))?;
    join_mgmt(srv, &netns, 100 + number)?;
    let port = format!("home{number}");
    cable((&netns, "wan0"), (street, &port))?;
    street.ip(&format!("link set {port} mtu {TAGGED_MTU}"))?;
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
    let folder = dir.path().join(format!("home{number}"));
    std::fs::create_dir(&folder)?;
    let config = folder.join("terminal.toml");
    std::fs::write(
        &config,
        format!(
            "state_dir = \"state\"\n\
             admin_socket = \"terminal.sock\"\n\n\
             [server]\n\
             url = \"https://198.18.0.1:7443\"\n\
             ca = \"../gw1/ca.pem\"\n\
             server_name = \"{OPERATOR}\"\n\n\
             [wan]\n\
             ports = [\"wan0\"]\n\n\
             [home]\n\
             bridge = \"br-home\"\n\
             room_ports = [{}]\n\
             ipv4 = \"192.168.77.1/24\"\n\
             resolver_file = \"resolv.conf\"\n",
            ports.join(", ")
        ),
    )?;
    let socket = config.with_extension("sock");
    let terminal = Daemon::start("doorstep-terminal", &netns, &config, &socket)?;
    Ok(Home {
        terminal,
        config,
        rooms,
        netns,
        number,
    })
}

/// Gives a host its management address.
fn join_mgmt(srv: &Netns, netns: &Netns, last: usize) -> Result<()> {
    let port = format!("m{last}");
    cable((netns, "mgmt0"), (srv, &port))?;
    srv.ip(&format!("link set {port} master mgmt"))?;
    netns.ip(&format!("addr add 198.18.0.{last}/24 dev mgmt0"))?;
    Ok(())
}

fn mount_bpffs(folder: &Path) -> Result<Guard> {
    std::fs::create_dir(folder)?;
    mount(
        Some("bpf"),
        folder,
        Some("bpf"),
        MsFlags::empty(),
        None::<&str>,
    )
    .context("mounting a BPF file system")?;
    let doomed = folder.to_owned();
    Ok(Guard::new(move || {
        // It goes with the machine at the latest.
        let _ = umount2(&doomed, MntFlags::MNT_DETACH);
    }))
}
