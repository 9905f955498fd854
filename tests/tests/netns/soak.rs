//! A server that is away for long: nothing ends and nothing changes.
//!
//! How long is a matter of patience: `cargo xtask soak --minutes 10`.

use std::io::Write as _;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use doorstep_tests::lab::steady::Steady;
use doorstep_tests::lab::street::{Plan, Session, Street};
use doorstep_tests::lab::traffic::Pinger;
use doorstep_tests::suite::CaseResult;
use serde_json::Value;

use crate::support::{at_server, connect, flows};

/// Set by `cargo xtask soak`.
const SECONDS: &str = "DOORSTEP_SOAK_SECONDS";
/// Longer than the keepalives of streams, and than it takes to notice.
const BRIEF: u64 = 25;
const LOOK: Duration = Duration::from_secs(2);
/// Packets per second, each way.
const RATE: u32 = 1_000;
const PING_EVERY: Duration = Duration::from_millis(50);

fn away() -> Result<Duration> {
    let seconds = match std::env::var(SECONDS) {
        Ok(text) => text.parse().with_context(|| format!("{SECONDS}={text}"))?,
        Err(_) => BRIEF,
    };
    Ok(Duration::from_secs(seconds))
}

/// What the gateway holds, without what counts.
fn bindings(street: &Street) -> Result<Vec<Value>> {
    let mut sessions: Vec<Value> = street.gateways[0].daemon.ask_json(&["sessions"])?;
    for session in &mut sessions {
        session
            .as_object_mut()
            .context("a session is an object")?
            .remove("counters");
    }
    sessions.sort_by_key(|session| session["session_id"].to_string());
    Ok(sessions)
}

/// What the server has of the sessions: where they are, and their histories.
fn table(street: &Street, sessions: &[Session]) -> Result<Vec<Value>> {
    let parts = ["state", "generation", "gateway_id", "location_id", "steps"];
    let rows = sessions.iter().map(|session| {
        let shown = at_server(street.server(), &session.session_id)?;
        let parts = parts.map(|name| shown[name].clone());
        ensure!(parts.iter().all(|part| !part.is_null()), "{shown}");
        Ok(Value::Array(parts.into()))
    });
    rows.collect()
}

pub fn server_away() -> CaseResult {
    let away = away()?;
    let mut street = Street::new(Plan {
        homes: 2,
        ..Plan::default()
    })?;
    let sessions = [connect(&street, 0)?, connect(&street, 1)?];
    let (held, rows) = (bindings(&street)?, table(&street, &sessions)?);
    ensure!(held.len() == sessions.len(), "{held:?}");
    let said = street.gateways[0].daemon.log().len();
    let steady = Steady::start(
        (&street.homes[0].netns, sessions[0].v4()?),
        (&street.inet, street.echo(false).ip()),
        RATE,
    )?;
    let pinger = Pinger::start(&street.homes[1].netns, street.echo(true), PING_EVERY)?;

    street.server().kill()?;
    let end = Instant::now() + away;
    let mut received = steady.received();
    while Instant::now() < end {
        std::thread::sleep(LOOK.min(end.saturating_duration_since(Instant::now())));
        let now = bindings(&street)?;
        ensure!(now == held, "{now:?}, not {held:?}");
        let more = steady.received();
        ensure!(more > received, "nothing arrives any more");
        received = more;
    }
    street.restart_server()?;
    // Whatever the server would want to change it says at once.
    std::thread::sleep(LOOK);

    let traffic = steady.stop()?;
    let strange = traffic.upstream.strange + traffic.downstream.strange;
    ensure!(traffic.lost() == 0 && strange == 0, "{traffic:?}");
    let echoes = pinger.stop()?;
    // The last ones may still have been on their way.
    let settled = &echoes[..echoes.len().saturating_sub(20)];
    let lost = settled.iter().filter(|echo| echo.answered.is_none());
    let lost = lost.count();
    ensure!(lost == 0, "{lost} of {} pings were lost", settled.len());
    // Whoever waits for ten minutes wants to see what of; the suite tells of success alone.
    writeln!(
        std::io::stdout(),
        "away for {} s: {} packets and {} pings, none lost",
        away.as_secs(),
        traffic.upstream.sent + traffic.downstream.sent,
        settled.len()
    )?;

    ensure!(
        bindings(&street)? == held,
        "the resynchronisation changed bindings"
    );
    let now = table(&street, &sessions)?;
    ensure!(now == rows, "{now:?}, not {rows:?}");
    let log = street.gateways[0].daemon.log();
    let since = log.get(said..).context("the log was cut")?;
    for told in ["connect recorded", "disconnect recorded", "session closed"] {
        ensure!(
            !since.contains(told),
            "the gateway was told something: {since}"
        );
    }
    // And everything goes on as before.
    for (home, session) in street.homes.iter().zip(&sessions) {
        flows(&street, home, session)?;
        home.release(&session.session_id)?;
    }
    Ok(())
}
