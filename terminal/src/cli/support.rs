//! `support-bundle`: what may be told of the terminal.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use doorstep_daemon::output::{self, Output};
use doorstep_daemon::support::{Bundle, Options, Shape};
use serde_json::Value;

use super::views;
use super::{Client, client, doctor};
use crate::daemon::metrics::FAMILIES;
use Shape::{
    Address, ByName, Each, Fields, Flag, Id, Label, Name, Number, OneOf, Path as File, Present,
    Time, Url,
};

/// The crates whose log messages are literals.
const OWN: &[&str] = &["doorstep_terminal", "doorstep_daemon", "doorstep_establish"];

#[derive(Debug, Args)]
pub(super) struct Support {
    #[command(flatten)]
    options: Options,
    /// The configuration file.
    #[arg(long, default_value = "/etc/doorstep/terminal.toml")]
    config: PathBuf,
    #[command(flatten)]
    client: Client,
}

const SERVER: Shape = Fields(&[
    ("url", Url),
    ("ca", File),
    ("server_name", OneOf(&[Address, Name])),
]);
/// A session's id, or an operator's name.
const SESSION: Shape = OneOf(&[Id, Name]);

const CONFIG: Shape = Fields(&[
    ("state_dir", File),
    ("admin_socket", File),
    ("server", SERVER),
    ("operators", ByName(&SERVER)),
    ("metrics", Fields(&[("listen", Address)])),
    ("traces", Fields(&[("endpoint", Url), ("ca", File)])),
    (
        "wan",
        Fields(&[
            ("ports", Each(&Name)),
            ("tags", OneOf(&[Name, Each(&Number)])),
            ("route_metric", Number),
            ("garden", Flag),
        ]),
    ),
    (
        "home",
        Fields(&[
            ("bridge", Name),
            ("room_ports", Each(&Name)),
            ("mode", Name),
            ("session", SESSION),
            ("ipv4", Address),
            ("masquerade", Flag),
            ("dhcp", Flag),
            ("resolver_file", File),
            ("app", Fields(&[("name", Name), ("port", Number)])),
            (
                "rooms",
                ByName(&Fields(&[("session", SESSION), ("ipv4", Address)])),
            ),
        ]),
    ),
]);

/// Without subscribers, seals, tags and addresses of sessions; `detail` is free text.
const STATUS: Shape = Fields(&[
    (
        "garden",
        Fields(&[("gateway_id", Name), ("servers", Each(&Address))]),
    ),
    (
        "operators",
        Each(&Fields(&[
            ("name", Name),
            ("url", Url),
            ("connected", Flag),
            ("detail", Present),
            ("registered", Flag),
        ])),
    ),
    (
        "sessions",
        Each(&Fields(&[
            ("session_id", Id),
            ("operator", Name),
            ("replaces", Id),
            ("generation", Number),
            ("state", Name),
            ("detail", Present),
            ("server_state", Name),
            ("gateway_id", Name),
            ("dns", Each(&Address)),
            ("wan_interface", Name),
            ("established_at_unix_ms", Time),
            ("silent_since_unix_ms", Time),
            ("default_route", Flag),
        ])),
    ),
    (
        "ports",
        Each(&Fields(&[
            ("name", Name),
            ("listening", Flag),
            ("detail", Present),
        ])),
    ),
    ("rooms", Fields(&[("served", Flag), ("detail", Present)])),
    ("confirm_by_unix_ms", Time),
    ("repairs", Number),
    ("last_repair_unix_ms", Time),
]);

/// What was looked at, and whether there is something to do about it.
const FINDINGS: Shape = Each(&Fields(&[("what", Label), ("advice", Present)]));

pub(super) async fn execute(args: Support) -> anyhow::Result<ExitCode> {
    let options = &args.options;
    let mut bundle = Bundle::new("doorstep-terminal", env!("CARGO_PKG_VERSION"), options);
    let configuration = bundle.configuration(&args.config, &CONFIG);
    files(&mut bundle, &configuration, &args.config);
    match client::status(&args.client.socket).await {
        Ok(status) => {
            bundle.answer("status.json", &STATUS, Ok(views::Status::from(&status)));
            let findings = doctor::look_at(&status).await;
            bundle.answer("doctor.json", &FINDINGS, findings);
        }
        Err(_) => bundle.lacks("status.json", "the daemon cannot be reached"),
    }
    bundle.metrics(&configuration, FAMILIES).await;
    bundle.log(options, OWN);
    let written = bundle.write(options)?;
    match args.client.output {
        Output::Json => output::json(&written)?,
        Output::Table => output::print(&written.to_string())?,
    }
    Ok(ExitCode::SUCCESS)
}

/// What lies on the disk, and what of it must not be told.
fn files(bundle: &mut Bundle, configuration: &Value, file: &Path) {
    let folder = file.parent().unwrap_or(Path::new("."));
    let state = configuration["state_dir"].as_str();
    let state = folder.join(state.unwrap_or("/var/lib/doorstep-terminal"));
    bundle.folder("state_dir.json", &state);
    bundle.secret_files(&[state.join("state.json")]);
}

#[cfg(test)]
mod tests {
    use doorstep_daemon::support::Picking;

    use super::*;

    /// Each key of the example is known here.
    #[test]
    fn the_example_is_told() {
        let example = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../deploy/etc/doorstep/terminal.toml"
        );
        let text = std::fs::read_to_string(example).expect("the example");
        let value: Value = toml::from_str(&text).expect("TOML");
        let mut picking = Picking::default();
        assert_eq!(CONFIG.pick(&value, &mut picking), value);
        assert_eq!((picking.withheld, picking.left_out), (0, 0));
    }
}
