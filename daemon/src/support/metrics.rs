//! What Prometheus would be told, sample by sample.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, Result};
use http::Request;
use http_body_util::{BodyExt as _, Empty};
use hyper::body::Bytes;
use hyper::client::conn::http1::handshake;
use hyper_util::rt::TokioIo;
use serde_json::{Map, Value, json};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::shape::{Picking, Shape};
use crate::metrics::Family;

const PATIENCE: Duration = Duration::from_secs(10);

/// Asks the daemon as Prometheus does.
pub async fn scrape(address: SocketAddr) -> Result<String> {
    let asked = async {
        let stream = TcpStream::connect(address).await?;
        let (mut sender, connection) = handshake(TokioIo::new(stream)).await?;
        let driven = tokio::spawn(connection);
        let request = Request::get("/metrics")
            .header(http::header::HOST, address.to_string())
            .body(Empty::<Bytes>::new())?;
        let answer = sender.send_request(request).await?;
        let body = answer.into_body().collect().await?.to_bytes();
        driven.abort();
        Ok(String::from_utf8_lossy(&body).into_owned())
    };
    let answer = timeout(PATIENCE, asked).await;
    answer.context("the daemon does not answer the scrape")?
}

/// The samples of the daemon's own families, with the labels that they have.
pub fn samples(text: &str, families: &[&Family], picking: &mut Picking) -> Value {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let samples = lines.filter_map(|line| {
        let sample = sample(line, families, picking);
        picking.left_out += u64::from(sample.is_none());
        sample
    });
    samples.collect()
}

fn sample(line: &str, families: &[&Family], picking: &mut Picking) -> Option<Value> {
    let (series, value) = line.rsplit_once(' ')?;
    let value: f64 = value.parse().ok()?;
    let (name, pairs) = match series.split_once('{') {
        Some((name, pairs)) => (name, pairs.strip_suffix('}')?),
        None => (series, ""),
    };
    let family = families.iter().find(|family| {
        let suffix = name.strip_prefix(family.name);
        suffix.is_some_and(|suffix| ["", "_bucket", "_sum", "_count"].contains(&suffix))
    })?;
    let mut labels = Map::new();
    // A value with a quotation mark or comma in it has a form that is not told anyway.
    for pair in pairs.split(',').filter(|pair| !pair.is_empty()) {
        let (label, value) = pair.split_once('=')?;
        let value = value.strip_prefix('"')?.strip_suffix('"')?;
        if label != "le" && !family.labels.contains(&label) {
            return None;
        }
        let value = Shape::Name.pick(&value.into(), picking);
        labels.insert(label.to_owned(), value);
    }
    Some(json!({ "metric": name, "labels": labels, "value": value }))
}

#[cfg(test)]
mod tests {
    use super::*;

    static SESSIONS: Family = Family::gauge("doorstep_x_sessions", "Sessions.", &["state"]);
    static SECONDS: Family = Family::histogram("doorstep_x_seconds", "Time.", &[0.5]);

    #[test]
    fn samples_have_names_labels_and_values() {
        let text = "# HELP doorstep_x_sessions Sessions.\n\
                    doorstep_x_sessions{state=\"established\"} 7\n\
                    doorstep_x_sessions{state=\"13800138000\"} 1\n\
                    doorstep_x_sessions{phone=\"1\"} 1\n\
                    doorstep_x_seconds_bucket{le=\"0.5\"} 3\n\
                    doorstep_x_seconds_sum 0.25\n\
                    other 1\n";
        let mut picking = Picking::default();
        let told = samples(text, &[&SESSIONS, &SECONDS], &mut picking);
        let expected = json!([
            {"metric": "doorstep_x_sessions", "labels": {"state": "established"}, "value": 7.0},
            {"metric": "doorstep_x_sessions", "labels": {"state": "(withheld)"}, "value": 1.0},
            {"metric": "doorstep_x_seconds_bucket", "labels": {"le": "0.5"}, "value": 3.0},
            {"metric": "doorstep_x_seconds_sum", "labels": {}, "value": 0.25},
        ]);
        assert_eq!(told, expected);
        assert_eq!((picking.withheld, picking.left_out), (1, 2));
    }
}
