//! What a real gateway tells Prometheus.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use doorstep_daemon::metrics::Family;
use doorstep_gateway::metrics::FAMILIES;
use doorstep_test_metrics::{Samples, check, scrape};
use doorstep_tests::lab::street::{Gateway, Plan, Street};
use doorstep_tests::suite::CaseResult;

use crate::support::{connect, packets};

/// Counters of sessions are read every ten seconds.
const READ: Duration = Duration::from_secs(40);

/// The metrics, by whoever is on the gateway's host.
fn samples(gateway: &Gateway) -> Result<(String, Samples)> {
    let address: SocketAddr = ([127, 0, 0, 1], 9464).into();
    let text = gateway.netns.run(move || scrape(address))?;
    // It has samples once a router has said something.
    let dhcp = |family: &&Family| family.name == "doorstep_gateway_dhcp_messages_total";
    let families: Vec<_> = FAMILIES.iter().copied().filter(|one| !dhcp(one)).collect();
    let samples = check(&text, &families);
    Ok((text, samples))
}

fn of(samples: &Samples, name: &str) -> Result<f64> {
    let found = samples.get(&format!("doorstep_gateway_{name}"));
    found
        .copied()
        .with_context(|| format!("no {name} in {samples:?}"))
}

pub fn scraped() -> CaseResult {
    let street = Street::new(Plan {
        metrics: true,
        ..Plan::default()
    })?;
    let gateway = &street.gateways[0];
    let session = connect(&street, 0)?;
    let before = packets(gateway)?;
    let (text, told) = samples(gateway)?;
    ensure!(!text.contains(&session.session_id), "a session is named");
    let up = of(&told, "packets_total{reason=\"forwarded_upstream\"}")?;
    let forwarded = before.get("forwarded_upstream").copied();
    let forwarded = forwarded.context("nothing was forwarded")?;
    ensure!(up >= forwarded as f64, "{up} packets, not {forwarded}");
    let rows = of(&told, "map_entries{map=\"UPSTREAM_V4\"}")?;
    ensure!(rows == 1.0, "{rows} rows for one session");
    let role = "port_up{port=\"access0\",role=\"access\"}";
    ensure!(of(&told, role)? == 1.0, "the access port is not up");
    ensure!(of(&told, "slots_used")? == 1.0);

    // At least the megabyte that the session has downloaded over each family.
    let end = Instant::now() + READ;
    let carried = |told: &Samples| {
        let down = told.iter().filter(|(name, _)| {
            name.contains("session_bytes_total") && name.contains("direction=\"down\"")
        });
        down.map(|(_, bytes)| bytes).sum::<f64>()
    };
    while carried(&samples(gateway)?.1) < 2e6 {
        ensure!(
            Instant::now() < end,
            "too few bytes: {:?}",
            samples(gateway)?.1
        );
        std::thread::sleep(Duration::from_millis(500));
    }
    Ok(())
}
