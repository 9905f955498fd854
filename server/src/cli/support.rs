//! `support-bundle`: what may be told of the server.

use std::path::{Path, PathBuf};

use anyhow::Result;
use clap::Args;
use doorstep_daemon::client::refused;
use doorstep_daemon::output::{Output, json, print};
use doorstep_daemon::support::{Bundle, Options, Shape};
use doorstep_proto::v1 as pb;
use doorstep_proto::v1::operator_client::OperatorClient;
use doorstep_server::metrics::FAMILIES;
use serde_json::Value;
use tonic::transport::Channel;

use super::{Socket, client, views};
use Shape::{
    Address, ByName, Each, Fields, Flag, Id, Label, Name, Number, OneOf, Path as File, Present,
    Time, Url, Whereabouts,
};

/// Sessions that are told, and pages of them that are asked for.
const TOLD: usize = 500;
const PAGES: usize = 20;
const UNSETTLED: [pb::SessionState; 5] = [
    pb::SessionState::Connecting,
    pb::SessionState::Establishing,
    pb::SessionState::Disconnecting,
    pb::SessionState::DisconnectingUnconfirmed,
    pb::SessionState::Refused,
];
/// The crates whose log messages are literals.
const OWN: &[&str] = &["doorstep_server", "doorstep_daemon", "doorstep_pki"];

#[derive(Debug, Args)]
pub struct SupportArgs {
    #[command(flatten)]
    options: Options,
    /// The configuration file
    #[arg(long, value_name = "FILE", default_value = "/etc/doorstep/server.toml")]
    config: PathBuf,
    #[command(flatten)]
    socket: Socket,
}

const RATE: Shape = OneOf(&[Number, Name]);
const HOST: Shape = OneOf(&[Address, Name]);
const LIMIT: Shape = OneOf(&[Number, Fields(&[("per_minute", Number), ("burst", Number)])]);

const CONFIG: Shape = Fields(&[
    ("operator", Name),
    ("data_dir", File),
    ("database", Present),
    ("listen", Address),
    ("admin_socket", File),
    ("server_names", Each(&HOST)),
    ("country_code", Name),
    ("unconfirmed_after_ms", Number),
    ("legacy_seal", Fields(&[("passphrase_file", File)])),
    ("limits", ByName(&LIMIT)),
    ("retention", ByName(&Number)),
    ("metrics", Fields(&[("listen", Address)])),
    ("traces", Fields(&[("endpoint", Url), ("ca", File)])),
    (
        "console",
        Fields(&[
            ("listen", Address),
            ("tls", Flag),
            ("certificate", File),
            ("key", File),
            ("idle_minutes", Number),
            ("hours", Number),
            ("sign_in_rate", LIMIT),
        ]),
    ),
    (
        "app",
        Fields(&[
            ("listen", Address),
            ("tls", Flag),
            ("certificate", File),
            ("key", File),
            ("days", Number),
            ("sign_in_rate", LIMIT),
        ]),
    ),
    (
        "register",
        Fields(&[(
            "verification",
            Fields(&[
                ("command", Present),
                ("url", Present),
                ("ca", File),
                ("timeout_ms", Number),
                ("concurrency", Number),
            ]),
        )]),
    ),
    ("certificates", ByName(&Number)),
    (
        "dhcp",
        Fields(&[("lease_s", Number), ("replace", Name), ("hold_s", Number)]),
    ),
    (
        "gateway",
        Each(&Fields(&[
            ("id", Name),
            ("locations", Each(&Whereabouts)),
            ("ipv4_pool", Address),
            ("ipv4_gateway", Address),
            ("ipv6_pool", Address),
            ("ipv6_line_pool", Address),
            ("delegated_prefix_len", Number),
            ("dns", Each(&Address)),
            ("mtu", Number),
        ])),
    ),
    (
        "plan",
        Each(&Fields(&[
            ("name", Name),
            ("upstream", RATE),
            ("downstream", RATE),
            ("shape", Flag),
            ("priority", Number),
            ("time_to_live_s", Number),
            ("offered", Flag),
            ("title", Present),
            ("price", Present),
        ])),
    ),
    ("default_plan", Name),
]);

const STATUS: Shape = Fields(&[
    ("operator", Name),
    ("version", Name),
    ("listen", Address),
    ("started_unix_ms", Time),
    ("subscribers", Number),
    ("sessions_by_state", ByName(&Number)),
    ("silent", Number),
    ("gateways_connected", Number),
    ("gateways_configured", Number),
    ("legacy_seal_enabled", Flag),
    ("legacy_seal_uses", Number),
    ("receipts", Number),
    ("watches", Number),
    (
        "identity_keys",
        Each(&Fields(&[
            ("key", Number),
            ("state", Name),
            ("subscribers", Number),
            ("sessions", Number),
            ("answers", Number),
        ])),
    ),
    ("counted_unix_ms", Time),
    ("refused", ByName(&Number)),
]);

const GATEWAYS: Shape = Each(&Fields(&[
    ("gateway_id", Name),
    ("connected", Flag),
    ("since_unix_ms", Time),
    ("sessions", Number),
    ("last_receipt", Number),
    ("software_version", Name),
    ("peer", Address),
]));

const SERVICE: Shape = Fields(&[
    ("upstream_bps", Number),
    ("downstream_bps", Number),
    ("shape_downstream", Flag),
    ("priority", Number),
    ("time_to_live_s", Number),
]);

const PLANS: Shape = Each(&Fields(&[
    ("name", Name),
    ("service", SERVICE),
    ("is_default", Flag),
    ("offered", Flag),
    ("title", Present),
    ("price", Present),
]));

/// Without subscribers and addresses; `detail` and `service_problem` are free text.
const SESSIONS: Shape = Each(&Fields(&[
    ("session_id", Id),
    ("location_id", Whereabouts),
    ("gateway_id", Name),
    ("generation", Number),
    ("state", Name),
    ("detail", Present),
    ("establishment", Name),
    ("counters", ByName(&Number)),
    ("since_unix_ms", Time),
    ("created_unix_ms", Time),
    ("target_location_id", Whereabouts),
    ("target_gateway_id", Name),
    ("line", Whereabouts),
    ("plan", Name),
    ("service", SERVICE),
    ("service_revision", Number),
    ("service_acknowledged", Flag),
    ("service_problem", Present),
    ("liveness", Name),
    ("silent_since_unix_ms", Time),
]));

const DATABASE: Shape = Fields(&[("kind", Label)]);

pub async fn bundle(args: SupportArgs, output: Output) -> Result<()> {
    let options = &args.options;
    let mut bundle = Bundle::new("doorstep-server", env!("CARGO_PKG_VERSION"), options);
    let configuration = bundle.configuration(&args.config, &CONFIG);
    let folder = args.config.parent().unwrap_or(Path::new("."));
    files(&mut bundle, &configuration, folder);
    let connected = client::connect(&args.socket.socket).await;
    match connected {
        Ok(client) => answers(&mut bundle, client).await,
        Err(_) => bundle.lacks("status.json", "the daemon cannot be reached"),
    }
    bundle.metrics(&configuration, FAMILIES).await;
    bundle.log(options, OWN);
    let written = bundle.write(options)?;
    match output {
        Output::Json => json(&written),
        Output::Table => print(&written.to_string()),
    }
}

/// What lies on the disk, and what of it must not be told.
fn files(bundle: &mut Bundle, configuration: &Value, folder: &Path) {
    let data = configuration["data_dir"].as_str();
    let data = folder.join(data.unwrap_or("/var/lib/doorstep-server"));
    bundle.folder("data_dir.json", &data);
    bundle.folder("keys.json", &data.join("keys"));
    let mut secret = vec![data.join("keys")];
    let legacy = &configuration["legacy_seal"]["passphrase_file"];
    let console = &configuration["console"]["key"];
    let app = &configuration["app"]["key"];
    let named = [legacy, console, app].into_iter().filter_map(Value::as_str);
    secret.extend(named.map(|file| folder.join(file)));
    bundle.secret_files(&secret);
    let database = configuration["database"].as_str().unwrap_or_default();
    let kind = match database.starts_with("postgres") {
        true => "PostgreSQL",
        false => "SQLite",
    };
    bundle.add(
        "database.json",
        &DATABASE,
        &serde_json::json!({ "kind": kind }),
    );
    if let Some(password) = password(database) {
        bundle.secret(password);
    }
}

/// That of a database's URL.
fn password(database: &str) -> Option<&str> {
    let (_, rest) = database.split_once("://")?;
    let (user, _) = rest.rsplit_once('@')?;
    user.split_once(':').map(|(_, password)| password)
}

async fn answers(bundle: &mut Bundle, mut client: OperatorClient<Channel>) {
    let status = client.status(pb::OperatorStatusRequest {}).await;
    let status = status.map(|status| views::Status::from(status.into_inner()));
    bundle.answer("status.json", &STATUS, status.map_err(refused));
    let gateways = client.list_gateways(pb::ListGatewaysRequest {}).await;
    let gateways = gateways.map(|listed| {
        let gateways = listed.into_inner().gateways.into_iter();
        gateways.map(views::Gateway::from).collect::<Vec<_>>()
    });
    bundle.answer("gateways.json", &GATEWAYS, gateways.map_err(refused));
    let plans = client.list_plans(pb::ListPlansRequest {}).await;
    let plans = plans.map(|listed| {
        let plans = listed.into_inner().plans.into_iter();
        plans.map(views::Plan::from).collect::<Vec<_>>()
    });
    bundle.answer("plans.json", &PLANS, plans.map_err(refused));
    let sessions = unsettled(&mut client).await;
    bundle.answer("sessions_not_established.json", &SESSIONS, sessions);
}

/// Sessions that are not established, of the first that there are.
async fn unsettled(client: &mut OperatorClient<Channel>) -> Result<Vec<views::Session>> {
    let mut request = pb::ListSessionsRequest {
        states: UNSETTLED.map(i32::from).to_vec(),
        ..Default::default()
    };
    let mut told = Vec::new();
    for _ in 0..PAGES {
        let page = client.list_sessions(request.clone()).await;
        let page = page.map_err(refused)?.into_inner();
        told.extend(page.sessions.into_iter().map(views::Session::from));
        if page.next_page_token.is_empty() || told.len() >= TOLD {
            break;
        }
        request.page_token = page.next_page_token;
    }
    told.truncate(TOLD);
    Ok(told)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each key of the example is known here: told, or left out on purpose.
    #[test]
    fn the_example_is_told_but_for_locations() {
        let example =
            Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/etc/doorstep/server.toml");
        let mut picking = doorstep_daemon::support::Picking::default();
        let text = std::fs::read_to_string(example).expect("the example");
        // With what it only proposes.
        let proposed: String = text
            .lines()
            .map(|line| {
                let key = line.strip_prefix('#').filter(|rest| !rest.starts_with(' '));
                format!("{}\n", key.unwrap_or(line))
            })
            .collect();
        let value: Value = toml::from_str(&proposed).expect("TOML");
        let told = CONFIG.pick(&value, &mut picking);
        assert_eq!(picking.withheld, 0, "{told}");
        // The location, and default_plan, which stands in another section once it is no comment.
        assert_eq!(picking.left_out, 2, "{told}");
        assert_eq!(told["limits"]["source_rate"]["burst"], 500);
        assert_eq!(told["plan"][0]["upstream"], "100M");
    }

    #[test]
    fn passwords_of_databases_are_found() {
        for (database, expected) in [
            (
                "postgres://doorstep:hush@db.example.net/doorstep",
                Some("hush"),
            ),
            ("postgres://doorstep:hu@sh@db/doorstep", Some("hu@sh")),
            ("postgres://doorstep@db/doorstep", None),
            ("/var/lib/doorstep-server/doorstep.db", None),
        ] {
            assert_eq!(password(database), expected, "{database}");
        }
    }
}
