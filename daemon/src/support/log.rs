//! The log, as far as it has structure: times, levels, who says it, and fields that are known to be
//! harmless.
//!
//! Messages of this project's own code are literals (a test sees to it; what changes stands in fields), so
//! they are told. Those of libraries may quote anything and are not; nor is a line of plain text, of which
//! nobody can say where the message ends.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::{Map, Value, json};

use super::shape::{Picking, Shape, is_name, moment};

/// Fields of events.
const FIELDS: &[(&str, Shape)] = &[
    ("applied", Shape::Flag),
    ("attempt", Shape::Number),
    ("blocked", Shape::Flag),
    ("bytes", Shape::Number),
    ("changes", Shape::Number),
    ("code", Shape::Name),
    ("event", Shape::Name),
    ("gateway", Shape::Name),
    ("gateways", Shape::Number),
    ("generation", Shape::Number),
    ("held", Shape::Number),
    ("ifindex", Shape::Number),
    ("jobs", Shape::Number),
    ("lines", Shape::Number),
    ("listen", Shape::Address),
    ("mtu", Shape::Number),
    ("needed", Shape::Number),
    ("new", Shape::Number),
    ("number", Shape::Number),
    ("offered", Shape::Number),
    ("older", Shape::Number),
    ("operator", Shape::Name),
    ("outcome", Shape::Name),
    ("pause_ms", Shape::Number),
    ("pause_s", Shape::Number),
    ("plan", Shape::Name),
    ("port", Shape::Name),
    ("port_mtu", Shape::Number),
    ("receipts", Shape::Number),
    ("request", Shape::Id),
    ("requests", Shape::Number),
    ("retry_ms", Shape::Number),
    ("revision", Shape::Number),
    ("ring", Shape::Name),
    ("rows", Shape::Number),
    ("session", Shape::Id),
    ("sessions", Shape::Number),
    ("signal", Shape::Name),
    ("silent_ms", Shape::Number),
    ("slot", Shape::Number),
    ("software_version", Shape::Name),
    ("state", Shape::Name),
    ("step", Shape::Name),
    ("steps", Shape::Number),
    ("task", Shape::Name),
    ("timeout_ms", Shape::Number),
    ("total", Shape::Number),
    ("uplink", Shape::Name),
    ("version", Shape::Name),
    ("vlan", Shape::Number),
];

/// By syslog's priorities, as the journal has them; traces are debugging to it.
const LEVELS: [&str; 8] = [
    "ERROR", "ERROR", "ERROR", "ERROR", "WARN", "INFO", "INFO", "DEBUG",
];
/// How the journal calls an event's fields.
const JOURNAL_FIELD: &str = "F_";

/// Events, oldest first, and how many lines had no structure.
#[derive(Debug, Default)]
pub struct Log {
    pub events: Vec<Value>,
    pub without_structure: u64,
}

/// The last lines of a file.
pub fn of_file(file: &Path, lines: usize) -> Result<Vec<String>, &'static str> {
    let content = fs::read(file).map_err(|_| "the file cannot be read")?;
    let text = String::from_utf8_lossy(&content);
    let mut last: Vec<String> = text.lines().rev().take(lines).map(str::to_owned).collect();
    last.reverse();
    Ok(last)
}

/// The last entries of a unit in the system's journal.
pub fn of_journal(unit: &str, lines: usize) -> Result<Vec<String>, &'static str> {
    let output = Command::new("journalctl")
        .args(["--quiet", "--no-pager", "--output=json"])
        .args([format!("--unit={unit}.service"), format!("--lines={lines}")])
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output()
        .map_err(|_| "there is no journalctl on this host; --log names a file")?;
    if !output.status.success() {
        return Err("journalctl gives nothing; --log names a file");
    }
    let text = String::from_utf8_lossy(&output.stdout);
    Ok(text.lines().map(str::to_owned).collect())
}

/// What may be told of lines; `own` are the crates whose messages are literals.
pub fn read(lines: &[String], own: &[&str], picking: &mut Picking) -> Log {
    let mut log = Log::default();
    for line in lines.iter().filter(|line| !line.trim().is_empty()) {
        let parsed = serde_json::from_str::<Map<String, Value>>(line).ok();
        match parsed.and_then(|entry| event(&entry, own, picking)) {
            Some(event) => log.events.push(event),
            None => log.without_structure += 1,
        }
    }
    log
}

fn event(entry: &Map<String, Value>, own: &[&str], picking: &mut Picking) -> Option<Value> {
    if let Some(fields) = entry.get("fields") {
        let at = text(entry, "timestamp")?;
        let at = super::shape::is_time(at).then(|| at.to_owned())?;
        let (level, target) = (text(entry, "level")?, text(entry, "target")?);
        let fields = fields.as_object()?;
        let mut shown = told(level, target, at, fields.get("message"), own)?;
        pick(&mut shown, fields.iter(), picking);
        return Some(Value::Object(shown));
    }
    let priority: usize = text(entry, "PRIORITY")?.parse().ok()?;
    let level = *LEVELS.get(priority)?;
    let at: i128 = text(entry, "__REALTIME_TIMESTAMP")?.parse().ok()?;
    let message = entry.get("MESSAGE");
    let Some(target) = text(entry, "TARGET") else {
        // The daemon logs JSON, and the journal has kept it as it is.
        let inner = serde_json::from_str::<Map<String, Value>>(message?.as_str()?);
        return event(&inner.ok()?, own, picking);
    };
    let mut shown = told(level, target, moment(at * 1000)?, message, own)?;
    let place = [
        ("CODE_FILE", "file", Shape::Path),
        ("CODE_LINE", "line", Shape::Number),
    ];
    for (key, name, shape) in place {
        if let Some(value) = entry.get(key) {
            shown.insert(name.to_owned(), shape.pick(value, picking));
        }
    }
    let fields: Vec<(String, &Value)> = entry
        .iter()
        .filter_map(|(key, value)| {
            let name = key.strip_prefix(JOURNAL_FIELD)?;
            Some((name.to_ascii_lowercase(), value))
        })
        .collect();
    pick(
        &mut shown,
        fields.iter().map(|(name, value)| (name, *value)),
        picking,
    );
    Some(Value::Object(shown))
}

fn text<'a>(entry: &'a Map<String, Value>, key: &str) -> Option<&'a str> {
    entry.get(key)?.as_str()
}

/// Who says what when; None if the line is no event.
fn told(
    level: &str,
    target: &str,
    at: String,
    message: Option<&Value>,
    own: &[&str],
) -> Option<Map<String, Value>> {
    if !(LEVELS.contains(&level) || level == "TRACE") || !is_name(target) {
        return None;
    }
    let mut shown = Map::new();
    shown.insert("at".to_owned(), json!(at));
    shown.insert("level".to_owned(), json!(level));
    shown.insert("target".to_owned(), json!(target));
    let package = target.split("::").next();
    if package.is_some_and(|package| own.contains(&package)) {
        let message = message.and_then(Value::as_str);
        shown.insert("message".to_owned(), json!(message));
    }
    Some(shown)
}

fn pick<'a>(
    shown: &mut Map<String, Value>,
    fields: impl Iterator<Item = (&'a String, &'a Value)>,
    picking: &mut Picking,
) {
    for (name, value) in fields.filter(|(name, _)| *name != "message") {
        match FIELDS.iter().find(|(known, _)| known == name) {
            Some((_, shape)) => {
                shown.insert(format!("field_{name}"), shape.pick(value, picking));
            }
            None => picking.left_out += 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "0190f2c4-5a1e-7c3b-9d2e-1f0a5b6c7d8e";
    const OWN: &[&str] = &["doorstep_server"];

    #[test]
    fn structure_is_told_and_text_is_not() {
        let own = json!({
            "timestamp": "2026-03-01T12:34:56.789Z", "level": "WARN", "target": "doorstep_server::hub",
            "fields": {"message": "the gateway is gone", "gateway": "gw1", "session": ID,
                       "error": "13800138000 asked", "generation": 7},
            "span": {"name": "stream", "subscriber": "13800138000"},
        });
        let library = json!({
            "timestamp": "2026-03-01T12:34:56.789Z", "level": "ERROR", "target": "h2::codec",
            "fields": {"message": "bad header: 13800138000", "port": "13800138000"},
        });
        let journal = json!({
            "__REALTIME_TIMESTAMP": "1700000000000000", "PRIORITY": "4",
            "TARGET": "doorstep_server::hub", "MESSAGE": "the gateway is gone",
            "CODE_FILE": "server/src/hub.rs", "CODE_LINE": "7", "F_GATEWAY": "gw1",
            "F_ERROR": "13800138000", "_CMDLINE": "doorstep-server --secret",
        });
        let wrapped = json!({
            "__REALTIME_TIMESTAMP": "1700000000000000", "PRIORITY": "6",
            "MESSAGE": own.to_string(),
        });
        let plain = json!({
            "__REALTIME_TIMESTAMP": "1700000000000000", "PRIORITY": "6",
            "MESSAGE": "INFO doorstep_server::hub: 13800138000",
        });
        let mut lines: Vec<_> = [&own, &library, &journal, &wrapped, &plain]
            .iter()
            .map(ToString::to_string)
            .collect();
        lines.push("2026-03-01T12:34:56Z  INFO doorstep_server: phone=13800138000".to_owned());
        let mut picking = Picking::default();
        let log = read(&lines, OWN, &mut picking);
        let first = json!({
            "at": "2026-03-01T12:34:56.789Z", "level": "WARN", "target": "doorstep_server::hub",
            "message": "the gateway is gone", "field_gateway": "gw1", "field_session": ID,
            "field_generation": 7,
        });
        let expected = [
            first.clone(),
            json!({
                "at": "2026-03-01T12:34:56.789Z", "level": "ERROR", "target": "h2::codec",
                "field_port": "(withheld)",
            }),
            json!({
                "at": "2023-11-14T22:13:20Z", "level": "WARN", "target": "doorstep_server::hub",
                "message": "the gateway is gone", "file": "server/src/hub.rs", "line": 7,
                "field_gateway": "gw1",
            }),
            first,
        ];
        assert_eq!(log.events, expected);
        assert_eq!(log.without_structure, 2);
        // The errors of three events, and a port that is none.
        assert_eq!((picking.left_out, picking.withheld), (3, 1));
    }
}
