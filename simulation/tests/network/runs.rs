//! Simulations in processes of their own.

use std::process::{Command, ExitCode};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Instant;

use clap::ValueEnum as _;

use super::fast_path::Lie;
use super::world;

const RESTS: &str = "RESTS: ";
const FAILS: &str = "FAILS: ";

/// What a process said.
#[derive(Debug)]
pub struct Run {
    pub trace: Vec<String>,
    pub result: Result<String, String>,
}

/// Runs a seed in this process.
pub fn here(seed: u64, lie: Option<Lie>) -> ExitCode {
    // Before the clock is stopped, and named by real chance.
    let folder = match folder() {
        Ok(folder) => folder,
        Err(error) => {
            println!("{FAILS}cannot make a folder: {error}");
            return ExitCode::FAILURE;
        }
    };
    if std::env::var_os("RUST_LOG").is_some() {
        let filter = tracing_subscriber::EnvFilter::from_default_env();
        tracing_subscriber::fmt()
            .with_env_filter(filter)
            .with_writer(std::io::stderr)
            .with_ansi(false)
            .init();
    }
    let end = world::run(seed, folder.path(), lie);
    for line in &end.trace {
        println!("{line}");
    }
    match end.result {
        Ok(text) => println!("{RESTS}{text}"),
        Err(why) => println!("{FAILS}{why}"),
    }
    ExitCode::SUCCESS
}

/// In memory where the system has a place for that: nothing in it outlives the process.
fn folder() -> std::io::Result<tempfile::TempDir> {
    let prefix = "doorstep-simulation-";
    tempfile::Builder::new()
        .prefix(prefix)
        .tempdir_in("/dev/shm")
        .or_else(|_| tempfile::Builder::new().prefix(prefix).tempdir())
}

/// Runs a seed in a process of its own.
pub fn child(seed: u64, lie: Option<Lie>) -> Result<Run, String> {
    let program = std::env::current_exe().map_err(|error| error.to_string())?;
    let mut command = Command::new(program);
    command.args(["--here", "--seed", &seed.to_string()]);
    if let Some(lie) = lie.and_then(|lie| lie.to_possible_value()) {
        command.args(["--lie", lie.get_name()]);
    }
    let output = command.output().map_err(|error| error.to_string())?;
    let text = String::from_utf8_lossy(&output.stdout);
    let mut trace: Vec<_> = text.lines().map(str::to_owned).collect();
    let last = trace.pop().unwrap_or_default();
    let result = match (last.strip_prefix(RESTS), last.strip_prefix(FAILS)) {
        (Some(text), _) => Ok(text.to_owned()),
        (_, Some(why)) => Err(why.to_owned()),
        // It panicked, and said why elsewhere.
        (None, None) => {
            trace.push(last);
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            Err(format!("{}: {said}", output.status))
        }
    };
    Ok(Run { trace, result })
}

/// Runs a seed twice, at the same time, and compares.
pub fn twice(seed: u64) -> Result<Run, String> {
    let (one, other) = thread::scope(|scope| {
        let other = scope.spawn(|| child(seed, None));
        let one = child(seed, None);
        (one, other.join())
    });
    let (one, other) = (one?, other.map_err(|_| "a thread panicked")??);
    let same = one.trace.iter().zip(&other.trace);
    let same = same.take_while(|(one, other)| one == other).count();
    if same < one.trace.len().max(other.trace.len()) {
        let line = |run: &Run| run.trace.get(same).cloned().unwrap_or_default();
        return Err(format!(
            "seed {seed} goes two ways, after {same} events:\n  {}\n  {}",
            line(&one),
            line(&other)
        ));
    }
    if let Err(why) = &one.result {
        return Err(format!(
            "seed {seed}: {why}\n  what happened: cargo xtask simulate --seed {seed} --trace"
        ));
    }
    Ok(one)
}

/// Runs many seeds, as many at a time as there are processors.
pub fn many(first: u64, count: u64, trace: bool) -> ExitCode {
    let begun = Instant::now();
    let (next, failed) = (AtomicU64::new(0), Mutex::new(Vec::new()));
    let workers = thread::available_parallelism()
        .map_or(1, usize::from)
        .div_ceil(2);
    let work = || {
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= count {
                return;
            }
            let seed = first.wrapping_add(number);
            if trace && let Ok(run) = child(seed, None) {
                println!("{}", run.trace.join("\n"));
            }
            match twice(seed) {
                Ok(run) => {
                    let events = run.trace.len();
                    println!(
                        "seed {seed}: {}; {events} events",
                        run.result.unwrap_or_default()
                    );
                }
                Err(why) => {
                    println!("{why}");
                    if let Ok(mut failed) = failed.lock() {
                        failed.push(seed);
                    }
                }
            }
        }
    };
    thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(work);
        }
    });
    let mut failed = failed.into_inner().unwrap_or_default();
    failed.sort_unstable();
    let seconds = begun.elapsed().as_secs();
    println!("{count} seeds, each twice, in {seconds} s; failed: {failed:?}");
    match failed.is_empty() {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    }
}
