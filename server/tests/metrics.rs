//! What the server tells Prometheus.

use doorstep_proto::v1 as pb;
use doorstep_server::config::Config;
use doorstep_server::metrics::FAMILIES;
use doorstep_test_metrics::{Samples, check, check_reference, scrape};
use pb::AccessKind::{Connect, Move};
use pb::SessionState as S;

use crate::common::{HOME_1, HOME_2, PHONE, Server, Subscriber, UNHURRIED, config_with};

const METRICS: &str = "[metrics]\nlisten = \"127.0.0.1:0\"";

#[test]
fn the_reference_is_that_of_the_code() {
    check_reference("doorstep-server", FAMILIES);
}

async fn text(server: &Server) -> String {
    let address = server.running.as_ref().unwrap().metrics.unwrap();
    tokio::task::spawn_blocking(move || scrape(address))
        .await
        .unwrap()
}

async fn samples(server: &Server) -> Samples {
    check(&text(server).await, FAMILIES)
}

fn in_state(samples: &Samples, state: &str) -> f64 {
    samples[&format!("doorstep_server_sessions{{state=\"{state}\"}}")]
}

#[tokio::test]
async fn a_real_server_is_scraped() {
    let mut server = Server::start_with(&config_with(&format!("{METRICS}\n{UNHURRIED}"))).await;
    let before = samples(&server).await;
    assert_eq!(in_state(&before, "established"), 0.0);
    assert_eq!(before["doorstep_server_gateways_configured"], 2.0);
    assert_eq!(before["doorstep_server_gateways_connected"], 0.0);

    let mut gw1 = server.synced_gateway("gw1").await;
    let mut gw2 = server.synced_gateway("gw2").await;
    let (mut home, connect) = Subscriber::established(&server, &mut gw1).await;
    let mut other = Subscriber::register(&server, "13900001234").await;
    other.ask(&server, Connect, HOME_1).await.unwrap();
    gw1.connect().await;
    // Refused, by what the subscriber has, and by a limit's reason.
    home.ask(&server, Connect, HOME_1).await.unwrap_err();
    home.ask(&server, Move, HOME_2).await.unwrap();
    gw1.disconnect().await;
    let moving = samples(&server).await;
    assert_eq!(in_state(&moving, "disconnecting"), 1.0);
    gw1.receipt(&connect.session_id, 2).await;
    gw1.receipt_ack().await;
    gw2.establish().await;
    server.reaches(&connect.session_id, S::Established).await;

    let told = text(&server).await;
    for hidden in [PHONE, HOME_1, HOME_2, connect.session_id.as_str()] {
        assert!(!told.contains(hidden), "{hidden} is told");
    }
    let after = check(&told, FAMILIES);
    assert_eq!(in_state(&after, "established"), 1.0);
    assert_eq!(in_state(&after, "connecting"), 1.0);
    assert_eq!(in_state(&after, "disconnecting"), 0.0);
    assert_eq!(after["doorstep_server_gateways_connected"], 2.0);
    assert_eq!(
        after["doorstep_server_gateway_connected{gateway=\"gw2\"}"],
        1.0
    );
    assert_eq!(after["doorstep_server_move_duration_seconds"], 1.0);
    for (request, expected) in [
        ("method=\"Register\",status=\"ok\"", 2.0),
        ("method=\"RequestAccess\",status=\"ok\"", 3.0),
        (
            "method=\"RequestAccess\",status=\"failed_precondition\"",
            1.0,
        ),
        ("method=\"Control\",status=\"ok\"", 2.0),
    ] {
        let name = format!("doorstep_server_requests_total{{{request}}}");
        assert_eq!(after[&name], expected, "{name}");
    }
    assert!(after["doorstep_server_commit_duration_seconds"] >= 8.0);
    assert_eq!(
        after["doorstep_server_commit_duration_seconds"],
        after["doorstep_server_commit_jobs"]
    );
    assert_eq!(
        after["doorstep_server_refused_total{limit=\"watches\"}"],
        0.0
    );

    // The counts are the database's, and outlive the server.
    drop((gw1, gw2));
    server.restart().await;
    let again = samples(&server).await;
    assert_eq!(in_state(&again, "established"), 1.0);
    assert_eq!(in_state(&again, "connecting"), 1.0);
    other.at(&server).await.release("").await.unwrap();
    let released = samples(&server).await;
    assert_eq!(in_state(&released, "connecting"), 0.0);
    assert_eq!(in_state(&released, "disconnecting"), 1.0);
}

#[tokio::test]
async fn without_the_section_nothing_listens() {
    let server = Server::start().await;
    assert_eq!(server.running.as_ref().unwrap().metrics, None);
    let path = server.dir.path().join("server.toml");
    for (section, problem) in [
        ("[metrics]", "missing field `listen`"),
        ("[metrics]\nlisten = \"nine\"", "invalid socket address"),
        (
            "[metrics]\nlisten = \"127.0.0.1:9464\"\nport = 1",
            "unknown field `port`",
        ),
    ] {
        let error = Config::parse(&config_with(section), &path).unwrap_err();
        assert!(error.to_string().contains(problem), "{error}");
    }
}
