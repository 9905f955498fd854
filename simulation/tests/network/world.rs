//! One simulation, from its seed to its end.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use doorstep_daemon::blocking;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use turmoil::Sim;

use super::auditor::Auditor;
use super::fast_path::{Lie, Maps};
use super::gateway::Gateway;
use super::homes::{GATEWAYS, SERVER};
use super::observer::Observer;
use super::scenario::{Act, MENDED, Scenario};
use super::server::Server;
use super::system;
use super::terminal::Terminal;
use super::timetable::Timetable;

/// Time that goes by in one step of a host.
const TICK: Duration = Duration::from_millis(5);
/// How long everything must be at rest to have come to rest.
const REST: Duration = Duration::from_secs(12);
/// How long after everything works again it may take until then.
const SETTLES: Duration = Duration::from_secs(120);
const AUDITOR: &str = "auditor";

/// What became of it.
pub struct End {
    pub trace: Vec<String>,
    pub result: Result<String, String>,
}

/// Runs it on this thread, which is good for nothing else afterwards. The gateways' maps may lie.
pub fn run(seed: u64, folder: &Path, lie: Option<Lie>) -> End {
    system::simulate(seed);
    let mut disk = StdRng::seed_from_u64(!seed);
    blocking::simulate(move || {
        let longest_us = match disk.random_range(0..100) {
            0 => 300_000,
            1..=10 => 20_000,
            _ => 2_000,
        };
        Duration::from_micros(disk.random_range(0..longest_us))
    });
    let observer = Observer::default();
    let result = World::build(seed, folder, &observer, lie)
        .map_err(|error| format!("{error:#}"))
        .and_then(|world| world.run());
    End {
        trace: observer.take_trace(),
        result,
    }
}

struct World {
    sim: Sim<'static>,
    scenario: Scenario,
    server: Server,
    gateways: Vec<Gateway>,
    terminals: Vec<Terminal>,
    auditor: Auditor,
    observer: Observer,
}

impl World {
    fn build(
        seed: u64,
        folder: &Path,
        observer: &Observer,
        lie: Option<Lie>,
    ) -> anyhow::Result<Self> {
        let scenario = Scenario::of(seed);
        let mut sim = turmoil::Builder::new()
            .rng_seed(seed)
            .tick_duration(TICK)
            .simulation_duration(Duration::from_secs(86_400))
            .min_message_latency(Duration::from_millis(1))
            .max_message_latency(scenario.latency)
            .udp_capacity(1024)
            .tcp_capacity(4096)
            .build();
        let server = Server::new(folder, observer.clone())?;
        let own = server.clone();
        sim.host(SERVER, move || own.clone().run());
        let mut gateways = Vec::new();
        for (name, number) in GATEWAYS.into_iter().zip(1..) {
            let maps = Maps::new(name, observer.clone(), lie);
            let gateway = Gateway::new(name, number, &folder.join(name), observer.clone(), maps)?;
            let own = gateway.clone();
            sim.host(name, move || own.clone().run());
            gateways.push(gateway);
        }
        let mut terminals = Vec::new();
        for (number, wishes) in scenario.wishes.iter().enumerate() {
            let terminal = Terminal::new(number, &server, wishes.clone(), observer.clone())?;
            let own = terminal.clone();
            sim.host(terminal.name(), move || own.clone().run());
            terminals.push(terminal);
        }
        let auditor = Auditor {
            server: server.clone(),
            terminals: terminals.clone(),
            observer: observer.clone(),
            verdict: Arc::default(),
        };
        let mut world = World {
            sim,
            scenario,
            server,
            gateways,
            terminals,
            auditor,
            observer: observer.clone(),
        };
        world.lose_frames(world.scenario.loss);
        Ok(world)
    }

    fn lose_frames(&mut self, rate: f64) {
        for gateway in &self.gateways {
            for terminal in &self.terminals {
                self.sim
                    .set_link_fail_rate(gateway.name, terminal.name(), rate);
            }
        }
    }

    fn run(mut self) -> Result<String, String> {
        let mut timetable = Timetable::new(std::mem::take(&mut self.scenario.faults));
        let mut mended = false;
        loop {
            let now = self.sim.elapsed();
            if now >= MENDED && !mended {
                self.mend();
                mended = true;
            }
            if mended {
                self.start_what_has_ended();
            } else {
                for act in timetable.due(now, self.observer.requests()) {
                    self.act(act);
                }
            }
            self.sim
                .step()
                .map_err(|error| format!("a host failed: {error}"))?;
            system::advance(self.sim.elapsed());
            if let Some(violation) = self.observer.violated() {
                return Err(violation);
            }
            if !mended {
                continue;
            }
            let verdict = self.auditor.verdict();
            if let Some(since) = verdict.since
                && now > since + REST
            {
                let after = since.saturating_sub(MENDED).as_secs_f64();
                let established = verdict.established;
                return Ok(format!(
                    "at rest {after:.1} s after all works again, {established} sessions established"
                ));
            }
            if now > MENDED + SETTLES {
                return Err(format!("no rest: {}", verdict.open.join("; ")));
            }
        }
    }

    fn act(&mut self, act: Act) {
        self.observer.note("", &format!("{act:?}"));
        match act {
            Act::Cut(one, other) => self.sim.partition(one, other),
            Act::CutOneWay(from, to) => self.sim.partition_oneway(from, to),
            Act::Hold(one, other) => self.sim.hold(one, other),
            Act::Slow(one, other, longest) => {
                self.sim.set_link_max_message_latency(one, other, longest);
            }
            Act::Mend(one, other) => self.mend_link(&one, &other),
            Act::Kill(host) => self.sim.crash(host),
            Act::Stop(host) if host == SERVER => self.server.stop(),
            Act::Stop(host) => {
                let stopped = self.gateways.iter().filter(|gateway| gateway.name == host);
                stopped.for_each(Gateway::stop);
            }
            Act::Start(host) => self.sim.bounce(host),
        }
    }

    fn mend_link(&self, one: &str, other: &str) {
        self.sim.release(one, other);
        self.sim.repair(one, other);
        let latency = self.scenario.latency;
        self.sim.set_link_max_message_latency(one, other, latency);
    }

    /// As whoever supervises processes does; some were still stopping when all was mended.
    fn start_what_has_ended(&mut self) {
        for host in [SERVER].into_iter().chain(GATEWAYS) {
            if !self.sim.is_host_running(host) {
                self.sim.bounce(host);
            }
        }
    }

    /// Everything works from now on.
    fn mend(&mut self) {
        self.observer.note("", "all works again");
        self.lose_frames(0.0);
        let terminals = self.terminals.iter().map(|own| own.name().to_owned());
        let mut links: Vec<(String, String)> = Vec::new();
        for end in terminals.chain(GATEWAYS.map(str::to_owned)) {
            links.push((end.clone(), SERVER.to_owned()));
            if !GATEWAYS.contains(&end.as_str()) {
                links.extend(GATEWAYS.map(|gateway| (gateway.to_owned(), end.clone())));
            }
        }
        for (one, other) in links {
            self.mend_link(&one, &other);
        }
        let auditor = self.auditor.clone();
        self.sim.host(AUDITOR, move || auditor.clone().run());
    }
}
