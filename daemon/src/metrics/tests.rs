use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::bail;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

use super::*;

static PACKETS: Family = Family::counter("test_packets_total", "Packets, by reason.", &["reason"]);
static UP: Family = Family::gauge("test_up", "Whether it is up.", &[]);
static SINCE: Family = Family::gauge("test_since_seconds", "Since when, in Unix time.", &[]);
static TOOK: Family = Family::histogram("test_took_seconds", "How long it took.", &[0.1, 1.0]);

fn page() -> Page {
    let took = TOOK.observer();
    took.observe(0.05);
    took.observe(5.0);
    let mut page = Page::default();
    page.count(&PACKETS, &["sent"], 3);
    page.count(&UP, &[], 1);
    page.count(&PACKETS, &["a \"strange\"\nreason"], 4);
    page.time(&SINCE, &[], 1_500);
    page.histogram(&TOOK, &took);
    page
}

#[test]
fn pages_are_in_the_text_format() {
    let expected = "\
# HELP test_packets_total Packets, by reason.
# TYPE test_packets_total counter
test_packets_total{reason=\"sent\"} 3
test_packets_total{reason=\"a \\\"strange\\\"\\nreason\"} 4
# HELP test_up Whether it is up.
# TYPE test_up gauge
test_up 1
# HELP test_since_seconds Since when, in Unix time.
# TYPE test_since_seconds gauge
test_since_seconds 1.5
# HELP test_took_seconds How long it took.
# TYPE test_took_seconds histogram
test_took_seconds_bucket{le=\"0.1\"} 1
test_took_seconds_bucket{le=\"1\"} 1
test_took_seconds_bucket{le=\"+Inf\"} 2
test_took_seconds_sum 5.05
test_took_seconds_count 2
";
    assert_eq!(page().text().unwrap(), expected);
}

#[test]
fn the_reference_is_a_table() {
    assert_eq!(
        reference(&[&PACKETS, &UP]),
        "| metric | type | labels | meaning |\n|---|---|---|---|\n\
         | `test_packets_total` | counter | `reason` | Packets, by reason. |\n\
         | `test_up` | gauge |  | Whether it is up. |\n"
    );
}

struct Once(AtomicBool);

impl Source for Once {
    async fn scrape(&self) -> anyhow::Result<Page> {
        if self.0.swap(true, Ordering::Relaxed) {
            bail!("a secret reason");
        }
        Ok(page())
    }
}

#[tokio::test]
async fn only_get_metrics_is_answered() {
    let listen = "127.0.0.1:0".parse().unwrap();
    let metrics = Metrics::bind(Config { listen }).await.unwrap();
    let address = metrics.local_addr().unwrap();
    let taken = Metrics::bind(Config { listen: address }).await.unwrap_err();
    assert!(format!("{taken:#}").contains("cannot listen on 127.0.0.1:"));
    let stop = CancellationToken::new();
    let serving = tokio::spawn(metrics.serve(Once(AtomicBool::new(false)), stop.clone()));
    for (request, status, content) in [
        ("GET / HTTP/1.1", "404 Not Found", "at /metrics"),
        ("POST /metrics HTTP/1.1", "405 Method", "only GET"),
        ("GET /metrics HTTP/1.1", "200 OK", "test_up 1"),
        ("GET /metrics HTTP/1.1", "500 Internal", "log says why"),
        ("nonsense", "400 Bad Request", ""),
    ] {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let head = format!("{request}\r\nHost: here\r\nConnection: close\r\n\r\n");
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        let begin = format!("HTTP/1.1 {status}");
        assert!(answer.starts_with(&begin), "{request}: {answer}");
        assert!(answer.contains(content), "{request}: {answer}");
        assert!(!answer.contains("secret"), "{answer}");
        if status.starts_with("200") {
            let format = "content-type: text/plain; version=0.0.4";
            assert!(answer.to_lowercase().contains(format), "{answer}");
        }
    }
    // One that is open and says nothing does not hold the daemon up.
    let _open = TcpStream::connect(address).await.unwrap();
    stop.cancel();
    let ended = tokio::time::timeout(Duration::from_secs(10), serving).await;
    ended.expect("it does not stop").unwrap();
}
