//! `watch`: what becomes of the sessions, line by line, until it is interrupted.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use doorstep_daemon::output::Output;
use doorstep_daemon::say;
use doorstep_proto::v1 as pb;
use serde_json::{Value, json};
use tokio::time::sleep;

use super::client;

/// Between two looks.
const EVERY: Duration = Duration::from_millis(250);

/// What is shown of one thing, by its name.
type Shown = BTreeMap<String, Value>;

pub(super) async fn execute(socket: &Path, output: Output) -> anyhow::Result<ExitCode> {
    // The first look must succeed: whoever has named another socket is told so.
    let mut before = Shown::new();
    let mut now = shown(&client::status(socket).await?);
    loop {
        for line in changes(&before, &now) {
            match output {
                Output::Json => say!("{line}")?,
                Output::Table => say!("{}", text(&line))?,
            }
        }
        before = now;
        sleep(EVERY).await;
        now = match client::status(socket).await {
            Ok(status) => shown(&status),
            Err(_) => Shown::from([("daemon".to_owned(), json!({ "state": "away" }))]),
        };
    }
}

fn shown(status: &pb::TerminalStatus) -> Shown {
    let sessions = status.sessions.iter().map(|session| {
        let value = json!({
            "state": session.state, "generation": session.generation, "detail": session.detail,
            "gateway_id": session.gateway_id, "ipv4_address": session.ipv4_address,
            "wan_interface": session.wan_interface, "default_route": session.default_route,
        });
        (format!("session {}", session.session_id), value)
    });
    let operators = status.operators.iter().map(|operator| {
        let state = match (operator.connected, operator.detail.is_empty()) {
            (true, _) => "connected",
            (false, true) => "idle",
            (false, false) => "lost",
        };
        let value = json!({ "state": state, "detail": operator.detail });
        (format!("server {}", operator.name), value)
    });
    let ports = status.ports.iter().map(|port| {
        let state = if port.listening { "heard" } else { "lost" };
        let value = json!({ "state": state, "detail": port.detail });
        (format!("port {}", port.name), value)
    });
    let links = json!({ "state": "as made", "repairs": status.repairs });
    let garden = status.garden.as_ref().map(|garden| {
        let value = json!({ "state": "visited", "gateway_id": garden.gateway_id });
        ("garden".to_owned(), value)
    });
    sessions
        .chain(operators)
        .chain(ports)
        .chain([("links".to_owned(), links)])
        .chain(garden)
        .collect()
}

/// A line for each thing that is not as it was.
fn changes(before: &Shown, now: &Shown) -> Vec<Value> {
    let changed = now
        .iter()
        .filter(|(name, value)| before.get(*name) != Some(*value));
    let changed = changed.map(|(name, value)| line(name, value.clone()));
    let gone = before.keys().filter(|name| !now.contains_key(*name));
    let gone = gone.map(|name| line(name, json!({ "state": "gone" })));
    changed.chain(gone).collect()
}

fn line(name: &str, mut value: Value) -> Value {
    if let Some(fields) = value.as_object_mut() {
        fields.insert("what".to_owned(), name.into());
    }
    value
}

/// The name, the state, and what else is not empty.
fn text(line: &Value) -> String {
    let mut text = format!(
        "{:<45} {}",
        line["what"].as_str().unwrap_or_default(),
        line["state"].as_str().unwrap_or_default()
    );
    for (name, value) in line.as_object().into_iter().flatten() {
        let is_named = name == "what" || name == "state";
        let shown = match value {
            Value::String(value) => value.clone(),
            other => other.to_string(),
        };
        if !is_named && !shown.is_empty() {
            text += &format!("  {name}: {shown}");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(state: &str, repairs: u64) -> pb::TerminalStatus {
        pb::TerminalStatus {
            sessions: vec![pb::TerminalSession {
                session_id: "s1".into(),
                state: state.into(),
                gateway_id: "gw1".into(),
                ..Default::default()
            }],
            repairs,
            ..Default::default()
        }
    }

    #[test]
    fn only_what_has_changed_is_told() {
        let first = shown(&status("establishing", 0));
        assert_eq!(changes(&Shown::new(), &first).len(), 2, "all at first");
        assert!(changes(&first, &first).is_empty());
        let second = shown(&status("established", 0));
        let told = changes(&first, &second);
        assert_eq!(told.len(), 1);
        assert_eq!(told[0]["what"], "session s1");
        assert!(text(&told[0]).starts_with("session s1 "));
        assert!(
            text(&told[0]).contains("established  "),
            "{}",
            text(&told[0])
        );
        assert!(!text(&told[0]).contains("detail"), "it is empty");
        let third = shown(&status("established", 1));
        assert_eq!(changes(&second, &third)[0]["repairs"], 1);
        let fourth = shown(&pb::TerminalStatus::default());
        let told = changes(&third, &fourth);
        let gone = told.iter().find(|line| line["state"] == "gone");
        assert_eq!(gone.unwrap()["what"], "session s1");
    }
}
