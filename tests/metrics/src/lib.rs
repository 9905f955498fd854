//! What tests do with a daemon's metrics: ask for them as Prometheus does, read them with a parser,
//! hold them against what the daemon says that it has, and have Prometheus' own tool look at them.
//!
//! Whatever is not as it should be panics.

pub mod promtool;

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::time::Duration;

use doorstep_daemon::metrics::{Family, Kind, reference};
use prometheus_parse::{Sample, Scrape, Value};

const PATIENCE: Duration = Duration::from_secs(20);

/// Samples by name and labels, such as `up{port="1"}`, with labels in the order of their names.
pub type Samples = BTreeMap<String, f64>;

/// The text that a daemon answers a scrape with. Blocks.
#[must_use]
pub fn scrape(address: SocketAddr) -> String {
    let mut stream = TcpStream::connect(address).expect("nobody answers");
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    let request = "GET /metrics HTTP/1.1\r\nHost: daemon\r\nConnection: close\r\n\r\n";
    stream.write_all(request.as_bytes()).expect("a request");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    let (head, text) = answer.split_once("\r\n\r\n").expect("a head and a body");
    assert!(head.starts_with("HTTP/1.1 200 OK"), "{head}\n{text}");
    text.to_owned()
}

/// Reads the text, and finds in it all families, each with its type and labels, and nothing else.
#[must_use]
pub fn check(text: &str, families: &[&Family]) -> Samples {
    let lines = text.lines().map(|line| Ok(line.to_owned()));
    let scraped = Scrape::parse(lines).expect("Prometheus' text format");
    let mut samples = Samples::new();
    for family in families {
        let (name, kind) = (family.name, family.kind);
        for head in [
            format!("# HELP {name} {}", family.help),
            format!("# TYPE {name} {}", kind.name()),
        ] {
            let times = text.lines().filter(|line| *line == head).count();
            assert_eq!(times, 1, "{head}");
        }
        assert_eq!(
            name.ends_with("_total"),
            kind == Kind::Counter,
            "{name}: counters, and they alone, end with _total"
        );
        let own = scraped
            .samples
            .iter()
            .filter(|sample| sample.metric == name);
        let mut count = 0;
        for sample in own {
            count += 1;
            add(&mut samples, family, sample);
        }
        assert!(count > 0, "{name} has no sample");
    }
    let known = |sample: &&Sample| {
        // Sum and count of a histogram stand beside its buckets.
        let name = &sample.metric;
        let plain = name.strip_suffix("_sum").or(name.strip_suffix("_count"));
        families.iter().any(|family| {
            family.name == name
                || (matches!(family.kind, Kind::Histogram(_)) && Some(family.name) == plain)
        })
    };
    let unknown: Vec<_> = scraped.samples.iter().filter(|one| !known(one)).collect();
    assert!(unknown.is_empty(), "not in the reference: {unknown:?}");
    promtool(text);
    samples
}

fn add(samples: &mut Samples, family: &Family, sample: &Sample) {
    let name = family.name;
    let mut labels: Vec<_> = sample.labels.iter().collect();
    labels.sort();
    let mut names: Vec<_> = labels.iter().map(|(label, _)| label.as_str()).collect();
    let mut expected = family.labels.to_vec();
    expected.sort_unstable();
    names.sort_unstable();
    assert_eq!(names, expected, "{name}");
    let value = match (&sample.value, family.kind) {
        (Value::Counter(value), Kind::Counter) | (Value::Gauge(value), Kind::Gauge) => *value,
        (Value::Histogram(buckets), Kind::Histogram(bounds)) => {
            let told: Vec<f64> = buckets.iter().map(|bucket| bucket.less_than).collect();
            assert_eq!(told[..told.len() - 1], *bounds, "{name}");
            let counts: Vec<f64> = buckets.iter().map(|bucket| bucket.count).collect();
            assert!(counts.is_sorted(), "{name}: {counts:?}");
            counts.last().copied().unwrap_or_default()
        }
        (value, kind) => panic!("{name}: {value:?} is no {}", kind.name()),
    };
    let labels: Vec<_> = labels
        .iter()
        .map(|(label, value)| format!("{label}={value:?}"))
        .collect();
    let key = match labels.is_empty() {
        true => name.to_owned(),
        false => format!("{name}{{{}}}", labels.join(",")),
    };
    let former = samples.insert(key.clone(), value);
    assert_eq!(former, None, "{key} is there twice");
}

/// Has Debian's `promtool` look at names, units and help, where it is.
fn promtool(text: &str) {
    if let Some((good, told)) = promtool::run(&["check", "metrics"], text) {
        assert!(good && told.is_empty(), "promtool: {told}");
    }
}

/// Compares a daemon's section of `docs/reference/metrics.md` with its families; with
/// `DOORSTEP_WRITE_REFERENCE` in the environment it is written instead.
pub fn check_reference(daemon: &str, families: &[&Family]) {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/reference/metrics.md");
    let text = std::fs::read_to_string(&file).expect("docs/reference/metrics.md");
    let head = format!("## {daemon}\n\n");
    let (before, rest) = text.split_once(&head).expect("the daemon's section");
    let length = rest.find("\n## ").map_or(rest.len(), |at| at);
    let (section, after) = rest.split_at(length);
    let table = reference(families);
    if std::env::var_os("DOORSTEP_WRITE_REFERENCE").is_some() {
        let written = format!("{before}{head}{table}{after}");
        std::fs::write(&file, written).expect("the reference");
        return;
    }
    assert!(
        section == table,
        "docs/reference/metrics.md is not what {daemon} has; write it anew by running this test with \
         DOORSTEP_WRITE_REFERENCE=1\n{table}"
    );
}
