//! `support-bundle`: what may be told of the gateway.

use std::fs;
use std::path::{Path, PathBuf};

use clap::Args;
use doorstep_daemon::client::refused;
use doorstep_daemon::output::{self, Output};
use doorstep_daemon::support::{Bundle, Options, Shape};
use doorstep_proto::v1;
use serde_json::{Value, json};

use super::show::{Client, connect};
use super::{Ask, json as views};
use crate::metrics::FAMILIES;
use crate::preflight;
use Shape::{
    Address, ByName, Each, Fields, Flag, Id, Label, Name, Number, OneOf, Path as File, Present,
    Time, Url, Whereabouts,
};

/// Sessions that are told.
const TOLD: usize = 500;
/// The crates whose log messages are literals.
const OWN: &[&str] = &["doorstep_gateway", "doorstep_daemon", "doorstep_pki"];

#[derive(Args)]
pub struct Support {
    #[command(flatten)]
    options: Options,
    /// Configuration file
    #[arg(
        long,
        value_name = "FILE",
        default_value = "/etc/doorstep/gateway.toml"
    )]
    config: PathBuf,
    #[command(flatten)]
    ask: Ask,
}

const RATE: Shape = OneOf(&[Number, Name]);
const HOST: Shape = OneOf(&[Address, Name]);

const CONFIG: Shape = Fields(&[
    ("id", Name),
    ("state_dir", File),
    ("pin_path", File),
    ("admin_socket", File),
    ("inventory", File),
    ("delegated_prefix_len", Number),
    ("line_prefixes", Flag),
    ("max_sessions", Number),
    ("xdp_mode", Name),
    ("shaper", Name),
    ("accounting_interval_ms", Number),
    (
        "garden",
        Fields(&[("lines", Number), ("rate", RATE), ("lease_s", Number)]),
    ),
    ("metrics", Fields(&[("listen", Address)])),
    ("traces", Fields(&[("endpoint", Url), ("ca", File)])),
    ("access_port", Each(&Fields(&[("name", Name)]))),
    (
        "operator",
        Each(&Fields(&[
            ("name", Name),
            ("index", Number),
            ("uplink", Name),
            ("uplink_vlan", Number),
            ("next_hops", Each(&Address)),
            ("routing_table", Number),
            ("subscriber_prefixes", Each(&Address)),
            ("gateway_addresses", Each(&Address)),
            ("hairpin", Flag),
            ("clamp_mss", Flag),
            ("tag_priority", Name),
            (
                "garden",
                Fields(&[("servers", Each(&Address)), ("prefixes", Each(&Address))]),
            ),
            (
                "server",
                Fields(&[
                    ("url", Url),
                    ("replicas", Each(&Url)),
                    ("server_name", HOST),
                    ("ca", File),
                    ("cert", File),
                    ("key", File),
                ]),
            ),
        ])),
    ),
]);

const NEXT_HOP: Shape = Fields(&[("address", Address), ("resolved", Flag)]);

const STATUS: Shape = Fields(&[
    ("gateway_id", Name),
    ("version", Name),
    ("kernel", Name),
    ("uptime_ms", Number),
    (
        "ports",
        Each(&Fields(&[
            ("name", Name),
            ("ifindex", Number),
            ("mtu", Number),
            ("role", Name),
            ("xdp_mode", Name),
            ("shaper", Flag),
            ("state", Name),
        ])),
    ),
    (
        "servers",
        Each(&Fields(&[
            ("operator", Name),
            ("url", Url),
            ("connected", Flag),
            ("since_unix_ms", Time),
            ("last_error", Present),
        ])),
    ),
    (
        "operators",
        Each(&Fields(&[
            ("name", Name),
            ("index", Number),
            ("uplink", Name),
            ("uplink_vlan", Number),
            ("routing_table", Number),
            ("next_hop_v4", NEXT_HOP),
            ("next_hop_v6", NEXT_HOP),
        ])),
    ),
    ("sessions", ByName(&Number)),
    ("traces", Number),
    ("dhcp", ByName(&Number)),
    ("lines", ByName(&Number)),
    ("garden", ByName(&Number)),
    ("packets", ByName(&Number)),
    (
        "maps",
        ByName(&Fields(&[
            ("used", Number),
            ("max", Number),
            ("pressure", Number),
        ])),
    ),
]);

/// Without addresses; `detail` is free text.
const SESSIONS: Shape = Each(&Fields(&[
    ("session_id", Id),
    ("operator", Name),
    ("location_id", Whereabouts),
    ("line", Whereabouts),
    ("generation", Number),
    ("phase", Name),
    ("detail", Present),
    ("establishment", Name),
    ("silent_since_unix_ms", Time),
    ("upstream_bps", Number),
    ("downstream_bps", Number),
    ("shape_downstream", Flag),
    ("priority", Number),
    ("counters", ByName(&Number)),
    (
        "steps",
        Each(&Fields(&[("step", Name), ("at_unix_ms", Time)])),
    ),
]));

const CHECKS: Shape = Fields(&[
    ("ok", Flag),
    (
        "checks",
        Each(&Fields(&[("name", Label), ("outcome", Name)])),
    ),
]);

const PORTS: Shape = ByName(&Fields(&[
    ("driver", Name),
    ("mtu", Number),
    ("state", Name),
    ("speed", Number),
    ("queues_in", Number),
    ("queues_out", Number),
]));

pub async fn bundle(args: Support) -> anyhow::Result<()> {
    let options = &args.options;
    let mut bundle = Bundle::new("doorstep-gateway", env!("CARGO_PKG_VERSION"), options);
    let configuration = bundle.configuration(&args.config, &CONFIG);
    let folder = args.config.parent().unwrap_or(Path::new("."));
    files(&mut bundle, &configuration, folder);
    bundle.add("ports.json", &PORTS, &ports(&configuration));
    let report = preflight::check(&args.config).await;
    bundle.add("check.json", &CHECKS, &serde_json::to_value(&report)?);
    match connect(&args.ask.socket).await {
        Ok(client) => answers(&mut bundle, client).await,
        Err(_) => bundle.lacks("status.json", "the daemon cannot be reached"),
    }
    bundle.metrics(&configuration, FAMILIES).await;
    bundle.log(options, OWN);
    let written = bundle.write(options)?;
    match args.ask.output {
        Output::Json => output::json(&written),
        Output::Table => output::print(&written.to_string()),
    }
}

/// What lies on the disk and is pinned, and what of it must not be told.
fn files(bundle: &mut Bundle, configuration: &Value, folder: &Path) {
    let path = |key: &str, default: &str| {
        let path = configuration[key].as_str();
        folder.join(path.unwrap_or(default))
    };
    let state = path("state_dir", "/var/lib/doorstep-gateway");
    bundle.folder("state_dir.json", &state);
    let pins = path("pin_path", "/sys/fs/bpf/doorstep");
    bundle.folder("pins.json", &pins);
    let within = fs::read_dir(&pins).into_iter().flatten().flatten();
    for version in within.filter(|entry| entry.path().is_dir()) {
        let name = version.file_name();
        let name = name.to_string_lossy();
        if name.len() <= 8 && name.chars().all(|c| c.is_ascii_alphanumeric()) {
            bundle.folder(&format!("pins_{name}.json"), &version.path());
        }
    }
    let operators = configuration["operator"].as_array();
    let secret: Vec<PathBuf> = operators
        .into_iter()
        .flatten()
        .flat_map(|operator| ["cert", "key"].map(|key| &operator["server"][key]))
        .filter_map(|file| Some(folder.join(file.as_str()?)))
        .collect();
    bundle.secret_files(&secret);
}

/// What the kernel says of the ports that the configuration names.
fn ports(configuration: &Value) -> Value {
    let each = |key: &str, name: &'static str| {
        let rows = configuration[key].as_array();
        let rows = rows.into_iter().flatten();
        rows.filter_map(move |row| row[name].as_str())
    };
    let names = each("access_port", "name").chain(each("operator", "uplink"));
    // A port is one name, nothing that leads elsewhere.
    let names = names.filter(|name| !name.contains('/') && !name.starts_with('.'));
    names
        .map(|name| (name.to_owned(), port(name)))
        .collect::<serde_json::Map<_, _>>()
        .into()
}

fn port(name: &str) -> Value {
    let folder = Path::new("/sys/class/net").join(name);
    let read = |file: &str| {
        let text = fs::read_to_string(folder.join(file)).ok()?;
        Some(text.trim().to_owned())
    };
    let number = |file: &str| read(file).and_then(|text| text.parse::<i64>().ok());
    let driver = fs::read_link(folder.join("device/driver")).ok();
    let driver = driver.and_then(|path| Some(path.file_name()?.to_string_lossy().into_owned()));
    let queues = |kind: &str| {
        let entries = fs::read_dir(folder.join("queues")).into_iter().flatten();
        let names = entries.flatten().map(|entry| entry.file_name());
        names
            .filter(|name| name.to_string_lossy().starts_with(kind))
            .count()
    };
    json!({
        "driver": driver,
        "mtu": number("mtu"),
        "state": read("operstate"),
        "speed": number("speed"),
        "queues_in": queues("rx-"),
        "queues_out": queues("tx-"),
    })
}

async fn answers(bundle: &mut Bundle, mut client: Client) {
    let status = client.status(v1::GatewayStatusRequest {}).await;
    let status = status.map(|status| views::status(status.get_ref()));
    bundle.answer("status.json", &STATUS, status.map_err(refused));
    let sessions = unsettled(&mut client).await;
    bundle.answer("sessions_not_established.json", &SESSIONS, sessions);
}

/// The first sessions that are not established.
async fn unsettled(client: &mut Client) -> anyhow::Result<Vec<views::Session>> {
    let answer = client.sessions(v1::GatewaySessionsRequest::default()).await;
    let mut parts = answer.map_err(refused)?.into_inner();
    let mut told = Vec::new();
    while let Some(part) = parts.message().await.map_err(refused)? {
        let others = part.sessions.iter();
        let others = others.filter(|session| session.phase != "established");
        told.extend(others.map(views::session));
        if told.len() >= TOLD {
            told.truncate(TOLD);
            break;
        }
    }
    Ok(told)
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
            "/../deploy/etc/doorstep/gateway.toml"
        );
        let text = fs::read_to_string(example).expect("the example");
        let value: Value = toml::from_str(&text).expect("TOML");
        let mut picking = Picking::default();
        let told = CONFIG.pick(&value, &mut picking);
        assert_eq!(told, value);
        assert_eq!((picking.withheld, picking.left_out), (0, 0));
        let ports = ports(&value);
        assert_eq!(
            ports.as_object().map(serde_json::Map::len),
            Some(2),
            "{ports}"
        );
    }
}
