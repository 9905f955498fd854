//! Restarts and upgrades of a gateway's daemon under traffic that must not notice.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use aya::Pod;
use aya::maps::{Array, HashMap, Map, MapData};
use doorstep_gateway_common::names::{SCHEMA_VERSION, map};
use doorstep_gateway_common::{LineKey, LineValue};
use serde::{Deserialize, Serialize};

use crate::lab::daemon::bin_dir;
use crate::lab::netns::run;
use crate::lab::steady::{Outcome, Steady};
use crate::lab::street::{Gateway, Session, Street};
use crate::objects::Fault;

/// How long a daemon may take until it answers.
const PATIENCE: Duration = Duration::from_secs(120);

/// What became of the traffic while something was done again and again.
#[derive(Clone, Debug, Serialize)]
pub struct Phase {
    pub what: &'static str,
    pub times: u32,
    pub traffic: Outcome,
    /// Packets that did not arrive.
    pub lost: u64,
    pub packets_per_s: f64,
    /// Packets that the gateway has counted for the session, both ways, less those sent.
    pub miscounted: i64,
    /// Rows of sessions and lines in the maps.
    pub entries: usize,
    /// Of those, all that were not the same at each look.
    pub entries_changed: usize,
}

impl Phase {
    /// Whether nobody has noticed.
    pub fn holds(&self) -> bool {
        let traffic = &self.traffic;
        let strange = traffic.upstream.strange + traffic.downstream.strange;
        self.lost == 0 && self.entries_changed == 0 && self.miscounted == 0 && strange == 0
    }
}

/// A street whose first home is connected, at its first gateway.
pub struct Rig {
    pub street: Street,
    pub session: Session,
    /// Packets per second, each way.
    pub rate: u32,
}

impl Rig {
    /// Kills the daemon without warning and starts it again. Every other time it is killed before
    /// its start has come to an end.
    pub fn kill(&mut self, times: u32) -> Result<Phase> {
        self.under_traffic("kill -9 and restart", times, |street, rows, number| {
            street.gateways[0].daemon.kill()?;
            rows.look(street)?;
            street.start_gateway(0)?;
            if number % 2 == 1 && number + 1 < times {
                let moment = u64::from(number * 37 % 400);
                std::thread::sleep(Duration::from_millis(moment));
            } else {
                answers(&street.gateways[0])?;
            }
            Ok(())
        })
    }

    /// Puts a good object in place of the programs.
    pub fn upgrade(&mut self, times: u32) -> Result<Phase> {
        let file = self.street.dir().join("good.o");
        std::fs::write(
            &file,
            doorstep_gateway::dataplane::Object::built_in().bytes(),
        )?;
        self.under_traffic("upgrade", times, |street, _, _| {
            let before = programs(&street.gateways[0])?;
            let done = upgrade(&street.gateways[0], Some(&file))?;
            let after = programs(&street.gateways[0])?;
            done.check(&before, &after)
        })
    }

    /// Tries to upgrade to objects that are refused, each for a reason of its own.
    pub fn refuse(&mut self, times: u32) -> Result<Phase> {
        let mut objects = Vec::new();
        for (number, fault) in Fault::ALL.into_iter().enumerate() {
            let file = self.street.dir().join(format!("fault{number}.o"));
            std::fs::write(&file, fault.object()?)?;
            objects.push((fault, file));
        }
        self.under_traffic("upgrade refused", times, |street, _, number| {
            let (fault, file) = &objects[number as usize % objects.len()];
            let before = programs(&street.gateways[0])?;
            let said = refused(&street.gateways[0], file)?;
            ensure!(said.contains(fault.said()), "{}: {said}", fault.name());
            let after = programs(&street.gateways[0])?;
            ensure!(before == after, "{}: {before:?} {after:?}", fault.name());
            Ok(())
        })
    }

    /// Does something so many times while packets go both ways.
    pub fn under_traffic(
        &mut self,
        what: &'static str,
        times: u32,
        mut action: impl FnMut(&mut Street, &mut Rows, u32) -> Result<()>,
    ) -> Result<Phase> {
        let counted_before = counted(&self.street.gateways[0], &self.session)?;
        let mut rows = Rows::of(&self.street)?;
        let steady = self.start()?;
        // Packets are on their way before anything happens.
        let end = Instant::now() + PATIENCE;
        while steady.received() < u64::from(self.rate / 20) {
            ensure!(Instant::now() < end, "no traffic");
            std::thread::sleep(Duration::from_millis(5));
        }
        for number in 0..times {
            action(&mut self.street, &mut rows, number)
                .with_context(|| format!("{what}, {number}"))?;
            rows.look(&self.street)?;
        }
        let traffic = steady.stop()?;
        answers(&self.street.gateways[0])?;
        let counted = counted(&self.street.gateways[0], &self.session)? - counted_before;
        let sent = traffic.upstream.sent + traffic.downstream.sent;
        Ok(Phase {
            what,
            times,
            lost: traffic.lost(),
            packets_per_s: traffic.packets_per_s(),
            miscounted: counted - i64::try_from(sent)?,
            entries: rows.first.len(),
            entries_changed: rows.changed,
            traffic,
        })
    }

    /// Starts the traffic alone.
    pub fn start(&self) -> Result<Steady> {
        let home = &self.street.homes[0];
        let world = self.street.echo(false).ip();
        Steady::start(
            (&home.netns, self.session.v4()?),
            (&self.street.inet, world),
            self.rate,
        )
    }
}

/// Packets that the gateway has counted for a session.
fn counted(gateway: &Gateway, session: &Session) -> Result<i64> {
    let sessions: Vec<Counted> = gateway.daemon.ask_json(&["sessions"])?;
    let own = sessions
        .iter()
        .find(|row| row.session_id == session.session_id);
    let counters = own.context("the gateway does not know the session")?;
    let counters = &counters.counters;
    Ok(counters.upstream_packets + counters.downstream_packets)
}

#[derive(Deserialize)]
struct Counted {
    session_id: String,
    counters: Counters,
}

#[derive(Deserialize)]
struct Counters {
    upstream_packets: i64,
    downstream_packets: i64,
}

/// Waits until the daemon answers.
pub fn answers(gateway: &Gateway) -> Result<()> {
    let end = Instant::now() + PATIENCE;
    while !gateway
        .daemon
        .client(&["status"])?
        .output()?
        .status
        .success()
    {
        let log = gateway.daemon.log_tail();
        ensure!(Instant::now() < end, "no answer; the daemon's log:\n{log}");
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}

/// What `upgrade` prints.
#[derive(Debug, Deserialize)]
pub struct Upgraded {
    programs: Vec<Program>,
}

#[derive(Debug, Deserialize)]
struct Program {
    port: String,
    hook: String,
    before: Option<u32>,
    after: u32,
}

impl Upgraded {
    /// Whether it tells what the kernel had on the ports before and has after it.
    pub fn check(&self, before: &Programs, after: &Programs) -> Result<()> {
        let told = |which: fn(&Program) -> Option<u32>| -> Programs {
            let xdp = self.programs.iter().filter(|it| it.hook == "xdp");
            xdp.filter_map(|it| Some((it.port.clone(), which(it)?)))
                .collect()
        };
        ensure!(told(|it| it.before) == *before, "{self:?} {before:?}");
        ensure!(told(|it| Some(it.after)) == *after, "{self:?} {after:?}");
        for program in &self.programs {
            let Program { before, after, .. } = program;
            ensure!(*before != Some(*after), "{program:?}");
        }
        Ok(())
    }
}

/// Ids of the XDP programs by port.
pub type Programs = BTreeMap<String, u32>;

/// What the kernel has on the ports.
pub fn programs(gateway: &Gateway) -> Result<Programs> {
    let mut programs = Programs::new();
    for port in ["access0", "uplink0"] {
        let text = gateway.netns.ip(&format!("-d link show dev {port}"))?;
        let id = text.split("prog/xdp id ").nth(1);
        let id = id.and_then(|rest| rest.split_whitespace().next());
        let id = id.with_context(|| format!("no program on {port}: {text}"))?;
        programs.insert(port.to_owned(), id.parse()?);
    }
    Ok(programs)
}

fn client(gateway: &Gateway, object: Option<&Path>) -> Result<std::process::Command> {
    // Inside: where no daemon runs, it does it by itself.
    let mut command = gateway.netns.command(bin_dir()?.join("doorstep-gateway"))?;
    command.args(["upgrade", "-o", "json", "--config"]);
    command.arg(&gateway.config);
    if let Some(object) = object {
        command.arg("--object").arg(object);
    }
    Ok(command)
}

/// Upgrades to an object, or to the built-in one.
pub fn upgrade(gateway: &Gateway, object: Option<&Path>) -> Result<Upgraded> {
    let said = run(&mut client(gateway, object)?)?;
    serde_json::from_str(&said).with_context(|| said.clone())
}

/// Tries to upgrade; what the refusal says.
pub fn refused(gateway: &Gateway, object: &Path) -> Result<String> {
    let output = client(gateway, Some(object))?.output()?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(
        output.status.code() == Some(6) && said.starts_with("error: "),
        "{}: {said}",
        output.status
    );
    Ok(said)
}

/// Name of the map, key and value.
type Row = (&'static str, Vec<u8>, Vec<u8>);

/// The rows of the maps of sessions and lines.
pub struct Rows {
    first: Vec<Row>,
    changed: usize,
}

impl Rows {
    fn of(street: &Street) -> Result<Self> {
        Ok(Self {
            first: dump(&pinned(&street.gateways[0], "maps"))?,
            changed: 0,
        })
    }

    /// Counts the rows that are not as they were at first.
    pub fn look(&mut self, street: &Street) -> Result<()> {
        let now = dump(&pinned(&street.gateways[0], "maps"))?;
        let gone = self.first.iter().filter(|row| !now.contains(row)).count();
        let new = now.iter().filter(|row| !self.first.contains(row)).count();
        self.changed += gone + new;
        Ok(())
    }
}

/// A folder of a gateway's pins.
pub fn pinned(gateway: &Gateway, folder: &str) -> PathBuf {
    let version = format!("bpf/doorstep/v{SCHEMA_VERSION}");
    gateway.config.with_file_name(version).join(folder)
}

fn dump(maps: &Path) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for name in [
        map::UPSTREAM_V4,
        map::UPSTREAM_V6,
        map::DOWNSTREAM_V4,
        map::DOWNSTREAM_V6,
    ] {
        cells_of(maps, name, &mut rows)?;
    }
    const LINE: usize = size_of::<LineKey>();
    rows_of::<LINE, { size_of::<LineValue>() }>(maps, map::LINES, &mut rows)?;
    rows.sort();
    Ok(rows)
}

/// The cells of a sessions' table that were ever used.
fn cells_of(maps: &Path, name: &'static str, rows: &mut Vec<Row>) -> Result<()> {
    const EMPTY: [u8; 64] = [0; 64];
    let data = MapData::from_pin(maps.join(name)).with_context(|| name.to_owned())?;
    let cells: Array<_, [u8; 64]> = Map::from_map_data(data)?.try_into()?;
    for (index, cell) in cells.iter().enumerate() {
        let cell = cell.with_context(|| name.to_owned())?;
        if cell != EMPTY {
            rows.push((name, index.to_ne_bytes().to_vec(), cell.to_vec()));
        }
    }
    Ok(())
}

fn rows_of<const K: usize, const V: usize>(
    maps: &Path,
    name: &'static str,
    rows: &mut Vec<Row>,
) -> Result<()>
where
    [u8; K]: Pod,
    [u8; V]: Pod,
{
    let data = MapData::from_pin(maps.join(name)).with_context(|| name.to_owned())?;
    let map: HashMap<_, [u8; K], [u8; V]> = Map::from_map_data(data)?.try_into()?;
    for row in map.iter() {
        let (key, value) = row.with_context(|| name.to_owned())?;
        rows.push((name, key.to_vec(), value.to_vec()));
    }
    Ok(())
}
