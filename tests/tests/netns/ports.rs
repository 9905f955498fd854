//! Programs on ports, when ports and configuration change between one daemon and the next.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use anyhow::{Context as _, Result, ensure};
use aya::programs::{SchedClassifier, TcAttachType};
use aya::util::KernelVersion;
use doorstep_gateway_common::names::SCHEMA_VERSION;
use doorstep_tests::lab::daemon::bin_dir;
use doorstep_tests::lab::netns::{cable, run};
use doorstep_tests::lab::street::{Gateway, Plan, Street};
use doorstep_tests::suite::CaseResult;
use serde::Deserialize;

use crate::support::connect;

/// A gateway's host without its daemon, and the street around it.
struct Host {
    street: Street,
    config: String,
}

impl Host {
    fn new() -> Result<Self> {
        let street = Street::new(Plan {
            homes: 0,
            ..Plan::default()
        })?;
        let gateway = &street.gateways[0];
        gateway.daemon.stop()?;
        let config = fs::read_to_string(&gateway.config)?;
        let host = Self { street, config };
        host.succeed("detach")?;
        Ok(host)
    }

    fn gateway(&self) -> &Gateway {
        &self.street.gateways[0]
    }

    fn configure(&self, config: &str) -> Result<()> {
        Ok(fs::write(&self.gateway().config, config)?)
    }

    /// A folder of pins.
    fn pinned(&self, folder: &str) -> PathBuf {
        let version = format!("doorstep/v{SCHEMA_VERSION}");
        self.bpffs().join(version).join(folder)
    }

    /// The first configuration with other access ports besides.
    fn with_ports(&self, names: &[&str]) -> String {
        let port = |name: &&str| format!("\n[[access_port]]\nname = \"{name}\"\n");
        self.config.clone() + &names.iter().map(port).collect::<String>()
    }

    fn client(&self, word: &str) -> Result<std::process::Command> {
        client(self.gateway(), word)
    }

    fn succeed(&self, word: &str) -> Result<String> {
        run(&mut self.client(word)?)
    }

    /// What the client says when it fails.
    fn fail(&self, word: &str) -> Result<String> {
        fail(self.gateway(), word)
    }

    /// How XDP runs on a port, and by how many programs TC is handled: ingress, egress.
    fn programs(&self, port: &str) -> Result<Programs> {
        let netns = &self.gateway().netns;
        let text = netns.ip(&format!("-d link show dev {port}"))?;
        let program = text
            .lines()
            .find_map(|line| line.trim_start().strip_prefix("prog/xdp"))
            .and_then(|line| {
                line.split_whitespace()
                    .skip_while(|word| *word != "name")
                    .nth(1)
            });
        let xdp = match program {
            Some(name) if text.contains("xdpgeneric") => format!("generic {name}"),
            Some(name) => format!("native {name}"),
            None => "none".to_owned(),
        };
        let has_links =
            KernelVersion::current().is_ok_and(|kernel| kernel >= KernelVersion::new(6, 6, 0));
        let (ingress, egress) = if has_links {
            let port = port.to_owned();
            netns.run(move || -> Result<_> {
                let count = |direction| -> Result<usize> {
                    Ok(SchedClassifier::query_tcx(&port, direction)?.1.len())
                };
                Ok((count(TcAttachType::Ingress)?, count(TcAttachType::Egress)?))
            })??
        } else {
            let count = |direction| -> Result<usize> {
                let mut command = netns.command("tc")?;
                let text = run(command.args(["filter", "show", "dev", port, direction]))?;
                Ok(text.matches("direct-action").count())
            };
            (count("ingress")?, count("egress")?)
        };
        Ok((xdp, ingress, egress))
    }

    fn expect(&self, expected: &[(&str, &str, usize, usize)]) -> Result<()> {
        for (port, xdp, ingress, egress) in expected {
            let found = self.programs(port)?;
            ensure!(
                found == ((*xdp).to_owned(), *ingress, *egress),
                "{port}: {found:?}, not {xdp:?} with {ingress} and {egress}; pinned: {:?}",
                self.pins()?
            );
        }
        Ok(())
    }

    fn bpffs(&self) -> PathBuf {
        self.gateway().config.with_file_name("bpf")
    }

    fn pins(&self) -> Result<Vec<String>> {
        let links = self.pinned("links");
        let Ok(entries) = fs::read_dir(links) else {
            return Ok(Vec::new());
        };
        let mut names = entries
            .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
            .collect::<Result<Vec<_>>>()?;
        names.sort();
        Ok(names)
    }
}

/// XDP mode and program, TC programs at ingress and egress.
type Programs = (String, usize, usize);

fn client(gateway: &Gateway, word: &str) -> Result<std::process::Command> {
    let mut command = gateway.netns.command(bin_dir()?.join("doorstep-gateway"))?;
    command.arg(word).arg("--config").arg(&gateway.config);
    Ok(command)
}

fn fail(gateway: &Gateway, word: &str) -> Result<String> {
    let output = client(gateway, word)?.output()?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(
        output.status.code() == Some(1) && said.contains("error: "),
        "{word}: {} {said:?}",
        output.status
    );
    Ok(said)
}

const ACCESS: &str = "native xdp_access";
const UPLINK: &str = "native xdp_uplink";

pub fn name_of_another_device() -> CaseResult {
    let host = Host::new()?;
    host.succeed("load")?;
    host.expect(&[("access0", ACCESS, 1, 1), ("uplink0", UPLINK, 1, 0)])?;
    let netns = &host.gateway().netns;
    netns.ip("link set access0 down")?;
    netns.ip("link set access0 name old0")?;
    cable((netns, "access0"), (&host.street.street, "spare0"))?;
    host.succeed("load")?;
    host.expect(&[
        ("access0", ACCESS, 1, 1),
        ("uplink0", UPLINK, 1, 0),
        ("old0", "none", 0, 0),
    ])?;
    // A device that is gone, and another in its place.
    netns.ip("link del access0")?;
    cable((netns, "access0"), (&host.street.street, "spare1"))?;
    host.succeed("load")?;
    host.expect(&[("access0", ACCESS, 1, 1)])?;
    ensure!(host.pins()?.len() == 5, "{:?}", host.pins()?);
    Ok(())
}

pub fn out_of_the_configuration() -> CaseResult {
    let host = Host::new()?;
    let netns = &host.gateway().netns;
    // Two names that differ by a character only that no pin may have.
    let extra = ["eth0.100", "eth0_100"];
    for (number, name) in extra.iter().enumerate() {
        let far = format!("spare{number}");
        cable((netns, name), (&host.street.street, &far))?;
    }
    host.configure(&host.with_ports(&extra))?;
    host.succeed("load")?;
    host.expect(&[
        ("access0", ACCESS, 1, 1),
        ("eth0.100", ACCESS, 1, 1),
        ("eth0_100", ACCESS, 1, 1),
        ("uplink0", UPLINK, 1, 0),
    ])?;
    host.configure(&host.config)?;
    host.succeed("load")?;
    host.expect(&[
        ("access0", ACCESS, 1, 1),
        ("eth0.100", "none", 0, 0),
        ("eth0_100", "none", 0, 0),
        ("uplink0", UPLINK, 1, 0),
    ])?;
    ensure!(host.pins()?.len() == 5, "{:?}", host.pins()?);
    host.succeed("detach")?;
    host.expect(&[("access0", "none", 0, 0), ("uplink0", "none", 0, 0)])
}

pub fn another_mode() -> CaseResult {
    let host = Host::new()?;
    for (mode, expected) in [
        ("native", "native"),
        ("generic", "generic"),
        // What forwards is not interrupted for a mode that nobody asked for.
        ("auto", "generic"),
        ("native", "native"),
        ("auto", "native"),
    ] {
        host.configure(&format!("xdp_mode = \"{mode}\"\n{}", host.config))?;
        host.succeed("load").with_context(|| mode)?;
        let (access, uplink) = (
            format!("{expected} xdp_access"),
            format!("{expected} xdp_uplink"),
        );
        host.expect(&[("access0", &access, 1, 1), ("uplink0", &uplink, 1, 0)])
            .with_context(|| mode)?;
    }
    Ok(())
}

pub fn impossible_mode() -> CaseResult {
    let host = Host::new()?;
    // A bridge has no driver that could run the program.
    let netns = &host.gateway().netns;
    netns.ip("link add soft0 type bridge")?;
    netns.ip("link set soft0 up")?;
    let config = host.with_ports(&["soft0"]);
    host.configure(&config)?;
    host.succeed("load")?;
    let generic = ("soft0", "generic xdp_access", 1, 1);
    host.expect(&[generic])?;
    host.configure(&format!("xdp_mode = \"native\"\n{config}"))?;
    let said = host.fail("load")?;
    ensure!(
        said.contains("cannot attach xdp_access to soft0: native: "),
        "{said}"
    );
    host.expect(&[generic])
}

pub fn another_role() -> CaseResult {
    let host = Host::new()?;
    host.succeed("load")?;
    let swap = |text: &str| {
        text.replace("access0", "other0")
            .replace("uplink0", "access0")
            .replace("other0", "uplink0")
    };
    let inventory = host.gateway().config.with_file_name("inventory.csv");
    fs::write(&inventory, swap(&fs::read_to_string(&inventory)?))?;
    host.configure(&swap(&host.config))?;
    // The next hops are on the uplink's networks.
    let netns = &host.gateway().netns;
    let addresses = netns.ip("-o addr show dev uplink0 scope global")?;
    netns.ip("addr flush dev uplink0 scope global")?;
    for line in addresses.lines() {
        let address = line.split_whitespace().nth(3).context("an address")?;
        netns.ip(&format!("addr add {address} dev access0"))?;
    }
    host.succeed("load")?;
    host.expect(&[("access0", UPLINK, 1, 0), ("uplink0", ACCESS, 1, 1)])?;
    ensure!(host.pins()?.len() == 5, "{:?}", host.pins()?);
    Ok(())
}

pub fn detach_removes_pins_only() -> CaseResult {
    let host = Host::new()?;
    host.succeed("load")?;
    let elsewhere = |path: &str| {
        host.config
            .replace("\"bpf/doorstep\"", &format!("\"{path}\""))
    };

    let folder = host.gateway().config.with_file_name("precious");
    let file = folder.join(format!("v{SCHEMA_VERSION}/links/file"));
    fs::create_dir_all(file.parent().context("a parent")?)?;
    fs::write(&file, "mine")?;
    host.configure(&elsewhere("precious"))?;
    for word in ["detach", "load"] {
        let said = host.fail(word)?;
        ensure!(said.contains("not on a BPF file system"), "{word}: {said}");
    }
    ensure!(file.exists(), "{} is gone", file.display());

    host.configure(&elsewhere("bpf"))?;
    for word in ["detach", "load"] {
        let said = host.fail(word)?;
        ensure!(said.contains("the root of a file system"), "{word}: {said}");
    }
    host.expect(&[("access0", ACCESS, 1, 1)])?;

    host.configure(&host.config)?;
    let theirs = host.pinned("maps").join("theirs");
    fs::create_dir(&theirs)?;
    host.succeed("detach")?;
    ensure!(theirs.exists(), "{} is gone", theirs.display());
    let left = fs::read_dir(host.pinned("maps"))?.count();
    ensure!(left == 1, "{left} are left");
    host.expect(&[("access0", "none", 0, 0), ("uplink0", "none", 0, 0)])
}

pub fn not_beside_a_daemon() -> CaseResult {
    let street = Street::new(Plan::default())?;
    let gateway = &street.gateways[0];
    for word in ["load", "detach"] {
        let said = fail(gateway, word)?;
        ensure!(
            said.contains("is another d") && said.contains(" running?"),
            "{word}: {said}"
        );
    }
    connect(&street, 0).map(drop)
}

/// Entries of each map.
fn used(gateway: &Gateway) -> Result<BTreeMap<String, u64>> {
    #[derive(Deserialize)]
    struct Map {
        used: u64,
    }
    #[derive(Deserialize)]
    struct Status {
        maps: BTreeMap<String, Map>,
    }
    let status: Status = gateway.daemon.ask_json(&["status"])?;
    let row = |(name, map): (String, Map)| (name, map.used);
    Ok(status.maps.into_iter().map(row).collect())
}

pub fn maps_counted() -> CaseResult {
    let mut street = Street::new(Plan::default())?;
    let sessions = |street: &Street, expected| -> Result<()> {
        let used = used(&street.gateways[0])?;
        for (map, wanted) in [
            ("UPSTREAM_V4", expected),
            ("UPSTREAM_V6", expected),
            ("DOWNSTREAM_V4", expected),
            ("DOWNSTREAM_V6", expected),
            ("LINES", 2),
        ] {
            ensure!(used.get(map) == Some(&wanted), "{map}: {used:?}");
        }
        Ok(())
    };
    sessions(&street, 0)?;
    let session = connect(&street, 0)?;
    sessions(&street, 1)?;
    street.gateways[0].daemon.stop()?;
    street.restart_gateway(0)?;
    sessions(&street, 1)?;
    street.homes[0].release(&session.session_id)?;
    sessions(&street, 0)
}
