//! Ordinary routers in homes: the DHCP clients of distributions, as they are.

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader};
use std::net::{IpAddr, Ipv4Addr};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::cleanup::Guard;
use super::netns::Netns;

/// The home's port toward the building.
const PORT: &str = "wan0";
/// A room device's port.
const ROOM_PORT: &str = "eth0";

/// The home's own link, which only [`Client::Dhcp6c`] does anything with; there before it starts.
pub const LAN: &str = "lan0";

/// A client of DHCP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Client {
    /// Of busybox: what most home routers have. It knows nothing of its port, and is started anew
    /// when that has a carrier again, as those routers do.
    Udhcpc,
    /// ISC's. It begins with the lease that it had before.
    Dhclient,
    /// ISC's, for IPv6: it asks for an address and for a delegated prefix.
    Dhclient6,
    /// WIDE's, for IPv6: it is delegated a prefix and gives a link of the home an address of it.
    Dhcp6c,
    /// Follows its port's carrier by itself, and then asks for the lease that it had.
    Dhcpcd,
}

impl Client {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Udhcpc => "udhcpc",
            Self::Dhclient => "dhclient",
            Self::Dhclient6 => "dhclient6",
            Self::Dhcp6c => "dhcp6c",
            Self::Dhcpcd => "dhcpcd",
        }
    }
}

/// An ordinary router, as long as this value lives.
pub struct Cpe {
    client: Client,
    netns: Netns,
    port: &'static str,
    dir: PathBuf,
    log: PathBuf,
    child: Arc<Mutex<Option<Child>>>,
    _guard: Guard,
    _watch: Option<Guard>,
}

impl Cpe {
    /// Starts a client in a home. What it keeps lies in the folder; a client that is started in the
    /// same one goes on with it.
    pub fn start(client: Client, home: &Netns, dir: &Path) -> Result<Self> {
        Self::start_on(PORT, client, home, dir)
    }

    /// The same in a device in a room.
    pub fn start_in_room(client: Client, room: &Netns, dir: &Path) -> Result<Self> {
        Self::start_on(ROOM_PORT, client, room, dir)
    }

    fn start_on(port: &'static str, client: Client, home: &Netns, dir: &Path) -> Result<Self> {
        fs::create_dir_all(dir)?;
        let child = Arc::new(Mutex::new(None));
        let doomed = Arc::clone(&child);
        let guard = Guard::new(move || {
            // It may have ended by itself.
            let _ = end(&doomed);
        });
        let mut cpe = Self {
            client,
            netns: home.another(),
            port,
            dir: dir.to_owned(),
            log: dir.join(format!("{}.log", client.name())),
            child,
            _guard: guard,
            _watch: None,
        };
        cpe.prepare()?;
        cpe.spawn()?;
        if client == Client::Udhcpc {
            cpe._watch = Some(cpe.watch()?);
        }
        Ok(cpe)
    }

    /// Writes what the client reads.
    fn prepare(&self) -> Result<()> {
        match self.client {
            Client::Udhcpc => {
                let ip = program("ip")?;
                let script = self.dir.join("udhcpc.script");
                fs::write(&script, UDHCPC.replace("@ip@", &ip.to_string_lossy()))?;
                Ok(fs::set_permissions(
                    &script,
                    fs::Permissions::from_mode(0o755),
                )?)
            }
            // No time is lost with what only matters beside other servers.
            Client::Dhcpcd => Ok(fs::write(
                self.dir.join("dhcpcd.conf"),
                "noarp\nnoipv4ll\n",
            )?),
            Client::Dhcp6c => Ok(fs::write(self.dir.join("dhcp6c.conf"), DHCP6C)?),
            Client::Dhclient | Client::Dhclient6 => Ok(()),
        }
    }

    fn command(&self) -> Result<Command> {
        let (dir, port) = (self.dir.to_string_lossy(), self.port);
        let mut command = match self.client {
            Client::Udhcpc => {
                let mut command = self.netns.command(program("busybox")?)?;
                command.args(["udhcpc", "-f", "-i", self.port, "-s"]);
                command.arg(self.dir.join("udhcpc.script"));
                command
            }
            Client::Dhclient => self.apart(&format!(
                "exec dhclient -4 -d -lf {dir}/leases -pf {dir}/pid {port}"
            ))?,
            Client::Dhclient6 => self.apart(&format!(
                "exec dhclient -6 -N -P -d -lf {dir}/leases -pf {dir}/pid {port}"
            ))?,
            Client::Dhcp6c => {
                let program = program("dhcp6c")?;
                self.apart(&format!(
                    "mkdir -p /var/lib/dhcpv6; \
                     exec {} -f -D -c {dir}/dhcp6c.conf -p {dir}/pid {PORT}",
                    program.display()
                ))?
            }
            Client::Dhcpcd => self.apart(&format!(
                "exec dhcpcd -4 -B -d --nodev -f {dir}/dhcpcd.conf {port}"
            ))?,
        };
        let log = File::options().create(true).append(true).open(&self.log)?;
        command
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log);
        Ok(command)
    }

    /// A shell whose changes of `/etc`, `/run` and `/var/lib` are its own, as a router's are: these
    /// clients write resolvers, process ids and leases there. With it ends whatever it has started.
    fn apart(&self, script: &str) -> Result<Command> {
        let dir = self.dir.to_string_lossy();
        let mounts = format!(
            "set -e; mount -t tmpfs tmpfs /run; mkdir -p {dir}/own {dir}/var; \
             mount -t tmpfs tmpfs {dir}/own; mkdir {dir}/own/up {dir}/own/work; \
             mount -t overlay overlay \
             -o lowerdir=/etc,upperdir={dir}/own/up,workdir={dir}/own/work /etc; \
             mount --bind {dir}/var /var/lib; mkdir -p /var/lib/dhcpcd; {script}"
        );
        let mut command = self.netns.command(program("unshare")?)?;
        command.args(["--mount", "--propagation", "private"]);
        command.args(["--pid", "--fork", "--kill-child", "bash", "-c"]);
        command.arg(mounts);
        Ok(command)
    }

    fn spawn(&self) -> Result<()> {
        let child = self.command()?.spawn();
        let child = child.with_context(|| format!("cannot start {}", self.client.name()))?;
        *lock(&self.child) = Some(child);
        Ok(())
    }

    /// Starts the client anew each time that the port has got its carrier back.
    fn watch(&self) -> Result<Guard> {
        let mut monitor = self.netns.command(program("ip")?)?;
        monitor.args(["-o", "monitor", "link", "dev", self.port]);
        let mut monitor = monitor.stdout(Stdio::piped()).spawn()?;
        let lines = BufReader::new(monitor.stdout.take().context("no output")?);
        let again = Self {
            client: self.client,
            netns: self.netns.another(),
            port: self.port,
            dir: self.dir.clone(),
            log: self.log.clone(),
            child: Arc::clone(&self.child),
            _guard: Guard::new(|| {}),
            _watch: None,
        };
        let follower = std::thread::spawn(move || {
            let mut had_carrier = true;
            for line in lines.lines().map_while(Result::ok) {
                let has_carrier = line.contains("LOWER_UP");
                if has_carrier && !had_carrier && end(&again.child).is_some() {
                    again.spawn().expect("started before");
                }
                had_carrier = has_carrier;
            }
        });
        Ok(Guard::new(move || {
            // The follower ends with the lines, and the client that it has started with it.
            let _ = monitor.kill();
            let _ = monitor.wait();
            let _ = follower.join();
        }))
    }

    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// What it has written down of its leases, where it does.
    pub fn leases(&self) -> String {
        fs::read_to_string(self.dir.join("leases")).unwrap_or_default()
    }

    /// Has it renew its lease, where it takes such a wish.
    pub fn renew(&self) -> Result<()> {
        ensure!(self.client == Client::Udhcpc, "it renews by itself only");
        let child = lock(&self.child);
        let pid = child.as_ref().context("it has ended")?.id();
        Ok(kill(Pid::from_raw(pid as i32), Signal::SIGUSR1)?)
    }

    /// Ends it without a word to anybody, as when its plug is pulled.
    pub fn kill(&mut self) {
        self._watch = None;
        end(&self.child);
    }

    /// Has it give its lease back.
    pub fn release(&mut self) -> Result<()> {
        self._watch = None;
        match self.client {
            Client::Udhcpc => {
                let child = lock(&self.child);
                let pid = child.as_ref().context("it has ended")?.id();
                Ok(kill(Pid::from_raw(pid as i32), Signal::SIGUSR2)?)
            }
            Client::Dhclient => {
                end(&self.child);
                let (dir, port) = (self.dir.to_string_lossy(), self.port);
                let script = format!("exec dhclient -4 -r -lf {dir}/leases -pf {dir}/none {port}");
                super::netns::run(&mut self.apart(&script)?).map(drop)
            }
            Client::Dhclient6 | Client::Dhcp6c | Client::Dhcpcd => {
                bail!("not asked for by any case")
            }
        }
    }

    /// The address of the home's port.
    pub fn address(&self) -> Result<Option<Ipv4Addr>> {
        let text = self
            .netns
            .ip(&format!("-4 -o addr show dev {}", self.port))?;
        let mut words = text.split_whitespace().skip_while(|word| *word != "inet");
        let Some(net) = words.nth(1) else {
            return Ok(None);
        };
        let address = net.split('/').next().unwrap_or_default();
        Ok(Some(address.parse()?))
    }

    /// The resolvers that it was given with its address, as of [`Client::Udhcpc`], in the form of
    /// `/etc/resolv.conf`.
    pub fn resolv_conf(&self) -> PathBuf {
        self.dir.join("resolv.conf")
    }

    /// Whether there is a default route by a router in the address's own network, which has 24 bits here.
    fn has_route(&self, address: Option<Ipv4Addr>) -> Result<bool> {
        let Some(address) = address else {
            return Ok(true);
        };
        let words = format!("-4 route show default dev {}", self.port);
        let shown = self.netns.ip(&words)?;
        let routers = shown.lines().filter_map(|route| {
            let mut words = route.split_whitespace().skip_while(|word| *word != "via");
            words.nth(1)?.parse::<Ipv4Addr>().ok()
        });
        let mut networks = routers.map(|router| router.octets());
        Ok(networks.any(|router| router[..3] == address.octets()[..3]))
    }

    /// Waits until it has an address that is one of these, and its route; or none.
    pub fn wait_until(
        &self,
        patience: Duration,
        wanted: impl Fn(Option<Ipv4Addr>) -> bool,
    ) -> Result<Option<Ipv4Addr>> {
        let end = Instant::now() + patience;
        loop {
            let address = self.address()?;
            // An address comes before the way out, and is of no use without.
            if wanted(address) && self.has_route(address)? {
                return Ok(address);
            }
            ensure!(
                Instant::now() < end,
                "{} has {address:?}; its log:\n{}",
                self.client.name(),
                self.log()
            );
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Waits until it has this very address.
    pub fn wait_for(&self, wanted: IpAddr, patience: Duration) -> Result<()> {
        self.wait_until(patience, |address| address.map(IpAddr::V4) == Some(wanted))
            .map(drop)
    }
}

/// What is done with a lease, as on OpenWrt, and without what has nothing to do with the line.
const UDHCPC: &str = r#"#!/bin/bash
case "$1" in
    deconfig)
        @ip@ -4 addr flush dev "$interface"
        @ip@ link set "$interface" up
        ;;
    bound|renew)
        @ip@ addr replace "$ip/$mask" dev "$interface"
        @ip@ link set "$interface" mtu "${mtu:-1500}"
        @ip@ route replace default via $router dev "$interface"
        for server in $dns; do echo "nameserver $server"; done > "${0%/*}/resolv.conf"
        ;;
esac
echo "script: $1 $ip"
"#;

/// Where `cargo xtask setup` puts the programs of a package whose installation would start a service.
const UNPACKED: &str = "tools/wide-dhcpv6-client/usr/sbin";

/// A prefix for the home, and of that the first network but one for the link [`LAN`].
const DHCP6C: &str = "\
interface wan0 { send ia-pd 0; };
id-assoc pd 0 { prefix-interface lan0 { sla-id 1; sla-len 8; }; };
";

fn lock(child: &Mutex<Option<Child>>) -> std::sync::MutexGuard<'_, Option<Child>> {
    child.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Ends a client, if there is one, and waits for its end.
fn end(child: &Mutex<Option<Child>>) -> Option<()> {
    let mut child = lock(child).take()?;
    // It may have ended by itself.
    let _ = child.kill();
    let _ = child.wait();
    Some(())
}

/// A program of this host, or one that was unpacked into the target folder.
fn program(name: &str) -> Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(["/usr/sbin".into(), "/sbin".into()]);
    let own = std::env::current_exe()?;
    let unpacked = own.ancestors().map(|folder| folder.join(UNPACKED));
    let mut files = folders.chain(unpacked).map(|folder| folder.join(name));
    let found = files.find(|file| file.is_file());
    found.with_context(|| format!("{name} is not on this host: `cargo xtask setup` brings it"))
}
