//! The fast path, seen from user space: programs, maps and ports of this host.
//!
//! Everything that outlives the daemon is pinned below the configured path, under the version of
//! the maps' layout. A daemon that starts adopts what it finds there.

mod attach;
mod elf;
mod error;
mod examine;
mod follow;
mod grace;
mod host;
mod inject;
mod line_routes;
mod lock;
mod log;
mod maps;
mod migrate;
mod netlink;
mod object;
mod offload;
mod pins;
mod ports;
mod punt;
mod ring;
mod running;
mod sysctl;
mod trace;

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use doorstep_daemon::dry_run::Run;
use doorstep_establish::{Mac, ProbeKey};
use doorstep_gateway_common::{LineKey, LineValue, OperatorIndex, Reason, Slot};

use crate::config::Config;
use crate::plan::{self, Change, Plan, Tables};
use crate::session::{Counters, Reading, SessionEntry};

use self::running::Running;

pub use attach::Attachment;
pub use elf::{InUse, Object, ObjectError};
pub use error::DataplaneError;
pub use examine::{Action, ExamineError, Examined, Examiner, FRAME_BYTES};
pub use follow::{Follower, NextHop, UplinkStates, look as next_hops};
pub use host::is_own_table;
pub use inject::Injector;
pub use maps::{CellTable, MapUse};
pub use object::{OBJECT, size_maps};
pub use offload::{Feature, FeatureState, Offloads};
pub use ports::{Port, Role, State};
pub use punt::{Punt, PuntStream};
pub use trace::{Packet, Told, Trace, TraceError, Tracer, Tracing};

/// The loaded fast path. Dropping it leaves everything in place.
pub struct Dataplane {
    pins: pins::Pins,
    running: Arc<Mutex<Running>>,
    ports: Vec<Port>,
    gateway_mac: Mac,
    maps: maps::Maps,
    punt: Option<PuntStream>,
    injector: Injector,
    follower: Option<Follower>,
    line_routes: Arc<line_routes::LineRoutes>,
    log: Option<log::ProgramLog>,
    tracing: Option<Tracing>,
    tracer: Tracer,
}

impl Dataplane {
    /// Loads the programs, adopting maps that are pinned already. Ports, sysctls, addresses and
    /// routes are set as the fast path needs them; what was there before is recorded in the state
    /// directory for [`Dataplane::detach`].
    ///
    /// The programs are not on the ports yet: [`Dataplane::attach`] puts them there, once the maps
    /// hold what they should.
    pub async fn open(config: &Config, object: InUse) -> Result<Self, DataplaneError> {
        let lock = Arc::new(lock::Lock::take(&config.state_dir)?);
        let pins = pins::Pins::new(&config.pin_path);
        pins.prepare()?;
        migrate::share(&pins, &object::shapes(config.into())?)?;
        let netlink = netlink::Netlink::open()?;
        let mut ports = ports::resolve(config, &netlink).await?;
        let gateway_mac = ports::gateway_mac(&ports)?;
        host::prepare(config, &ports, gateway_mac, &netlink).await?;
        host::note_shapers(&mut ports, &netlink).await?;
        let mut ebpf = object::load(config, gateway_mac, &pins, &object.get(), 0)?;
        let log = log::ProgramLog::open(&mut ebpf);
        let programs = attach::Programs::load(ebpf)?;
        let mut maps = maps::Maps::open(&pins, object::layout(config))?;
        maps.set_garden(config)?;
        let line_routes = Arc::new(line_routes::LineRoutes::new(config, &ports)?);
        let mut follower = Follower::new(config, &ports, &pins, netlink, line_routes.clone())?;
        follower.prime().await?;
        let punt = Some(PuntStream::open(&pins)?);
        let running = Running::new(
            config,
            gateway_mac,
            pins.clone(),
            &ports,
            object,
            programs,
            lock,
        );
        let running = Arc::new(Mutex::new(running));
        let (tracer, tracing) = trace::open(&pins, running.clone())?;
        Ok(Self {
            pins,
            running,
            ports,
            gateway_mac,
            maps,
            punt,
            injector: Injector::open()?,
            follower: Some(follower),
            line_routes,
            log,
            tracing: Some(tracing),
            tracer,
        })
    }

    /// Puts the programs on the configured ports. What an earlier daemon left there is replaced
    /// between two packets, whatever version of the maps it works with; its links and counters are
    /// taken over.
    pub fn attach(&mut self) -> Result<Vec<Attachment>, DataplaneError> {
        migrate::take_links(&self.pins)?;
        let (attached, ports) = {
            let mut running = self.running();
            (running.attach()?, running.ports().to_vec())
        };
        self.ports = ports;
        migrate::finish(&self.pins, self.maps.accounts())?;
        if let Some(follower) = &mut self.follower {
            follower.set_ports(&self.ports);
        }
        Ok(attached)
    }

    /// Puts the programs of another object on the ports, which work with the same maps. No packet
    /// is lost by it. An object that is refused, by this gateway or by the kernel, changes nothing.
    ///
    /// It is in use as long as the process lives: one that starts puts its own on the ports.
    /// A dry run has the kernel verify it, and tells what it would take the place of.
    pub fn upgrade(
        &mut self,
        object: &Object,
        run: Run,
    ) -> Result<Vec<Attachment>, DataplaneError> {
        match run {
            Run::Real => self.running().upgrade(object),
            Run::Dry => self.running().would_upgrade(object),
        }
    }

    fn running(&self) -> MutexGuard<'_, Running> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// As [`Dataplane::upgrade`], where no daemon runs and one has left its programs.
    pub async fn upgrade_alone(
        config: &Config,
        object: &Object,
        run: Run,
    ) -> Result<Vec<Attachment>, DataplaneError> {
        let _lock = lock::Lock::take(&config.state_dir)?;
        let pins = pins::Pins::new(&config.pin_path);
        if pins.links()?.is_empty() {
            return Err(DataplaneError::NotLoaded);
        }
        let netlink = netlink::Netlink::open()?;
        let mut ports = ports::resolve(config, &netlink).await?;
        let ebpf = object::load(config, ports::gateway_mac(&ports)?, &pins, object, 0)?;
        let mut programs = attach::Programs::load(ebpf)?;
        match run {
            Run::Real => programs.attach(config.xdp_mode, &pins, &mut ports),
            Run::Dry => programs.places(&ports),
        }
    }

    /// What [`Dataplane::detach`] would remove: pins of programs and maps.
    pub fn pinned(config: &Config) -> Result<Vec<PathBuf>, DataplaneError> {
        let _lock = lock::Lock::take(&config.state_dir)?;
        pins::Pins::new(&config.pin_path).all()
    }

    /// Takes the programs off, removes every pin, and puts ports, sysctls, addresses, routes and
    /// rules back.
    pub async fn detach(config: &Config) -> Result<(), DataplaneError> {
        let _lock = lock::Lock::take(&config.state_dir)?;
        pins::Pins::new(&config.pin_path).remove()?;
        attach::detach_filters(config);
        let netlink = netlink::Netlink::open()?;
        host::restore(config, &netlink).await
    }

    pub fn ports(&self) -> &[Port] {
        &self.ports
    }

    /// The gateway's MAC address on every line.
    pub fn gateway_mac(&self) -> Mac {
        self.gateway_mac
    }

    /// Makes `LINES` equal to this. `open` is what the maps of sessions hold.
    pub fn set_lines(
        &mut self,
        lines: &[(LineKey, LineValue)],
        open: &Tables,
    ) -> Result<(), DataplaneError> {
        self.line_routes.start(lines, open);
        self.maps.set_lines(lines)
    }

    /// Changes what the fast path knows of one line.
    pub fn set_line(&mut self, key: LineKey, value: LineValue) -> Result<(), DataplaneError> {
        self.maps.set_line(key, value)
    }

    /// What the four maps of sessions hold.
    pub fn tables(&self) -> Result<Tables, DataplaneError> {
        Ok(self.maps.tables())
    }

    /// Applies a plan. When it removes rows, no program still forwards by them on return.
    pub fn apply(&mut self, plan: &Plan) -> Result<(), DataplaneError> {
        let mut removed = false;
        for change in &plan.changes {
            self.line_routes.note(change)?;
            self.maps.apply(change)?;
            removed |= change.is_removal();
        }
        if removed {
            grace::wait();
            self.maps.settle();
        }
        Ok(())
    }

    /// Has the kernel answer packets for the operator's lines that are bigger than this, if it let
    /// bigger ones pass. [`Dataplane::apply`] does so for each row that it writes.
    pub fn lower_line_mtu(
        &mut self,
        operator: OperatorIndex,
        mtu: u16,
    ) -> Result<(), DataplaneError> {
        self.line_routes.lower(operator, mtu)
    }

    /// Opens the fast path for a session. Doing it again changes nothing.
    pub fn open_session(&mut self, entry: &SessionEntry) -> Result<(), DataplaneError> {
        let desired = plan::rows(entry);
        if !self.maps.holds(&desired) {
            self.maps.accounts().reset(entry.slot);
            self.maps.lives().forget(entry.slot);
        }
        self.apply(&Plan {
            changes: inserts(&desired),
        })
    }

    /// Gives an open session another service. No packet is lost by it.
    pub fn change_session(&mut self, entry: &SessionEntry) -> Result<(), DataplaneError> {
        self.apply(&Plan {
            changes: inserts(&plan::rows(entry)),
        })
    }

    /// Closes the fast path for a session, waits until no program can still forward for it, and
    /// returns the final counters. Doing it again changes nothing. Blocks for some milliseconds.
    pub fn close_session(&mut self, entry: &SessionEntry) -> Result<Counters, DataplaneError> {
        let rows = plan::rows(entry);
        let held = self.maps.held(&rows);
        self.apply(&Plan { changes: held })?;
        self.maps.lives().forget(entry.slot);
        Ok(self.maps.accounts().counters(entry.slot))
    }

    /// Has the terminal of an open session answered when it asks whether the session is alive. Doing
    /// it again changes nothing.
    pub fn expect_probes(&mut self, slot: Slot, line: &LineKey, key: &ProbeKey) {
        self.maps.lives().expect(slot, line, key);
    }

    /// Has nobody answered whose session is not among these.
    pub fn forget_strangers(&mut self, held: &Tables) {
        self.maps.forget_strangers(held);
    }

    /// Terminals that have asked and do not ask any more.
    pub fn silent(&self) -> u64 {
        self.maps.lives().silent()
    }

    /// What is known of a slot's session, for people.
    pub fn reading(&self, slot: Slot) -> Result<Reading, DataplaneError> {
        Ok(Reading {
            counters: self.counters(slot)?,
            silent: self.maps.lives().silence(slot),
        })
    }

    pub fn counters(&self, slot: Slot) -> Result<Counters, DataplaneError> {
        Ok(self.maps.accounts().counters(slot))
    }

    /// Packets by reason since the maps were made, every reason included.
    pub fn reasons(&self) -> Result<Vec<(Reason, u64)>, DataplaneError> {
        self.maps.reasons()
    }

    /// Entries of each map, used and possible.
    pub fn map_use(&self) -> Result<Vec<MapUse>, DataplaneError> {
        Ok(self.maps.usage())
    }

    /// The frames for the daemon; the first call has it, later ones have none.
    pub fn take_punt(&mut self) -> Option<PuntStream> {
        self.punt.take()
    }

    /// The task that follows uplinks and ports; the first call has it, later ones have none.
    pub fn take_follower(&mut self) -> Option<Follower> {
        self.follower.take()
    }

    /// The task that carries the programs' own log lines to `tracing`.
    pub fn take_log(&mut self) -> Option<impl Future<Output = ()> + Send + use<>> {
        self.log.take().map(log::ProgramLog::run)
    }

    /// Follows packets, as long as the task of [`Dataplane::take_tracing`] runs.
    pub fn tracer(&self) -> Tracer {
        self.tracer.clone()
    }

    /// Tells what the programs would do with a packet.
    pub fn examiner(&self) -> Examiner {
        Examiner::new(&self.running)
    }

    /// The task that carries followed packets to whoever follows them; the first call has it, later
    /// ones have none.
    pub fn take_tracing(&mut self) -> Option<Tracing> {
        self.tracing.take()
    }

    pub fn injector(&self) -> Injector {
        self.injector.clone()
    }
}

/// Rates before rows; downstream before upstream, so that the answer to the first packet out finds its way back.
fn inserts(rows: &plan::Rows) -> Vec<Change> {
    let (slot, rates) = rows.rates;
    let rates = std::iter::once(Change::SetRates(slot, rates));
    let down_v4 = rows.downstream_v4.iter();
    let down_v4 = down_v4.map(|&(key, value)| Change::UpsertDownstreamV4(key, value));
    let down_v6 = rows.downstream_v6.iter().flatten();
    let down_v6 = down_v6.map(|&(key, value)| Change::UpsertDownstreamV6(key, value));
    let up_v4 = rows.upstream_v4.iter();
    let up_v4 = up_v4.map(|&(key, value)| Change::UpsertUpstreamV4(key, value));
    let up_v6 = rows.upstream_v6.iter().flatten();
    let up_v6 = up_v6.map(|&(key, value)| Change::UpsertUpstreamV6(key, value));
    let down = down_v4.chain(down_v6);
    rates.chain(down).chain(up_v4).chain(up_v6).collect()
}
