//! Whether this host can be the gateway that the configuration describes, before anything is
//! changed.

mod host;
mod network;

use std::fmt;
use std::path::Path;

use serde::Serialize;

use crate::config::Config;
use crate::control;
use crate::inventory::Inventory;
use crate::journal::Journal;

/// What was looked at, in order.
#[derive(Debug, Default, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Report {
    pub ok: bool,
    pub checks: Vec<Check>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Check {
    pub name: String,
    pub outcome: Outcome,
    /// What was found, and, unless all is well, what to do.
    pub detail: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    Ok,
    Warn,
    Fail,
}

impl Report {
    pub fn failed(&self) -> bool {
        self.checks
            .iter()
            .any(|check| check.outcome == Outcome::Fail)
    }

    fn add(&mut self, outcome: Outcome, name: impl Into<String>, detail: impl fmt::Display) {
        self.checks.push(Check {
            name: name.into(),
            outcome,
            detail: detail.to_string(),
        });
    }

    fn ok(&mut self, name: impl Into<String>, detail: impl fmt::Display) {
        self.add(Outcome::Ok, name, detail);
    }

    fn warn(&mut self, name: impl Into<String>, detail: impl fmt::Display) {
        self.add(Outcome::Warn, name, detail);
    }

    fn fail(&mut self, name: impl Into<String>, detail: impl fmt::Display) {
        self.add(Outcome::Fail, name, detail);
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = self
            .checks
            .iter()
            .map(|check| check.name.chars().count())
            .max();
        let width = width.unwrap_or_default();
        for Check {
            name,
            outcome,
            detail,
        } in &self.checks
        {
            let outcome = match outcome {
                Outcome::Ok => "ok  ",
                Outcome::Warn => "warn",
                Outcome::Fail => "FAIL",
            };
            let indent = format!("\n{:1$}", "", width + 8);
            writeln!(
                f,
                "{outcome}  {name:<width$}  {}",
                detail.replace('\n', &indent)
            )?;
        }
        Ok(())
    }
}

/// Looks at everything, whatever fails on the way.
pub async fn check(file: &Path) -> Report {
    let mut report = Report::default();
    host::check(&mut report);
    match Config::load(file) {
        Ok(mut config) => {
            let operators: Vec<&str> = config
                .operators
                .iter()
                .map(|operator| operator.name.as_str())
                .collect();
            report.ok(
                "configuration",
                format_args!(
                    "{}: gateway {}, operators {}",
                    file.display(),
                    config.id,
                    operators.join(", ")
                ),
            );
            journal(&mut report, &mut config);
            let double_tagged = inventory(&mut report, &config);
            host::check_pins(&mut report, &config.pin_path);
            network::check(&mut report, &config, double_tagged).await;
            servers(&mut report, &config).await;
        }
        Err(error) => report.fail("configuration", error),
    }
    report.ok = !report.failed();
    report
}

/// Whether the configuration fits what is held. Nothing is written.
fn journal(report: &mut Report, config: &mut Config) {
    let name = "journal";
    let folder = config.state_dir.display().to_string();
    match Journal::look(&config.state_dir) {
        Ok(None) => report.ok(name, format_args!("none in {folder} yet")),
        Ok(Some(journal)) => match journal.check(config) {
            Ok(_) => report.ok(name, format_args!("{folder}: fits the configuration")),
            Err(error) => report.fail(name, error),
        },
        Err(error) if error.is_in_use() => {
            report.ok(name, format_args!("{folder}: in use by the running daemon"));
        }
        // To be repaired by the next daemon.
        Err(error) => report.warn(name, format_args!("not looked at: {error}")),
    }
}

/// Returns whether a line has two tags.
fn inventory(report: &mut Report, config: &Config) -> bool {
    // Whether the ports are there is looked at apart: any index will do.
    let port = |name: &str| {
        let mut ports = config.access_ports.iter();
        let position = ports.position(|port| port.name == name)?;
        u32::try_from(position + 1).ok()
    };
    match Inventory::load(&config.inventory, port) {
        Ok(inventory) => {
            let file = config.inventory.display();
            match inventory.len() {
                0 => report.warn(
                    "inventory",
                    format_args!("{file}: no line; every Connect will be refused"),
                ),
                lines => report.ok("inventory", format_args!("{file}: lines: {lines}")),
            }
            inventory.iter().any(|(_, line)| line.key.s_vid != 0)
        }
        Err(error) => {
            report.fail("inventory", error);
            false
        }
    }
}

async fn servers(report: &mut Report, config: &Config) {
    for operator in &config.operators {
        let name = format!("server of {}", operator.name);
        if let Err(error) = control::check_credentials(&operator.server).await {
            report.fail(name, format_args!("certificates and key: {error}"));
            continue;
        }
        for address in operator.server.addresses() {
            let url = &address.url;
            match control::check_server(&operator.server, &address).await {
                Ok(()) => report.ok(name.clone(), format_args!("{url} answers")),
                // A server that is away stops nothing: the gateway dials for ever.
                Err(error) => report.warn(name.clone(), format_args!("{url}: {error}")),
            }
        }
    }
}
