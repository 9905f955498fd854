//! The file as it is written, and what is checked beyond its syntax.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use doorstep_location::LocationPrefix;
use ipnet::{Ipv4Net, Ipv6Net};
use serde::Deserialize;
use toml::Spanned;

use super::app::AppFile;
use super::claims::Claims;
use super::console::ConsoleFile;
use super::{
    Certificates, Config, DEFAULT_ADMIN_SOCKET, Gateway, Ipv4Pool, Ipv6Pool, Limits, LinePool,
    Offer, Plan, Plans, Retention, is_name, verification::VerificationFile,
};
use crate::pool;
use crate::session::establishment::Dhcp;
use crate::session::service::{MAX_PRIORITY, Service, ServiceError, TIME_TO_LIVE_S};
use crate::store::Database;
use doorstep_daemon::{metrics, rate::Rate, traces};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct File {
    operator: Spanned<String>,
    #[serde(default = "default_data_dir")]
    data_dir: PathBuf,
    database: Option<Spanned<String>>,
    #[serde(default = "default_listen")]
    listen: SocketAddr,
    #[serde(default = "default_admin_socket")]
    admin_socket: PathBuf,
    #[serde(default)]
    server_names: Vec<String>,
    country_code: Option<Spanned<String>>,
    #[serde(default = "default_unconfirmed_after_ms")]
    unconfirmed_after_ms: u64,
    legacy_seal: Option<LegacySeal>,
    #[serde(default)]
    limits: Limits,
    retention: Option<Spanned<Retention>>,
    metrics: Option<metrics::Config>,
    traces: Option<traces::Config>,
    console: Option<Spanned<ConsoleFile>>,
    app: Option<Spanned<AppFile>>,
    #[serde(default)]
    register: RegisterFile,
    #[serde(default)]
    certificates: CertificatesFile,
    dhcp: Option<Spanned<Dhcp>>,
    #[serde(default)]
    gateway: Vec<Spanned<GatewayFile>>,
    #[serde(default)]
    plan: Vec<PlanFile>,
    default_plan: Option<Spanned<String>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PlanFile {
    name: Spanned<String>,
    #[serde(default)]
    upstream: Rate,
    #[serde(default)]
    downstream: Rate,
    #[serde(default)]
    shape: bool,
    priority: Option<Spanned<i64>>,
    time_to_live_s: Option<Spanned<i64>>,
    #[serde(default)]
    offered: bool,
    #[serde(default)]
    title: String,
    #[serde(default)]
    price: String,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct CertificatesFile {
    gateway_hours: Option<Spanned<u64>>,
    server_hours: Option<Spanned<u64>>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct RegisterFile {
    verification: Option<Spanned<VerificationFile>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LegacySeal {
    passphrase_file: PathBuf,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct GatewayFile {
    id: String,
    locations: Vec<LocationPrefix>,
    ipv4_pool: Option<Ipv4Net>,
    ipv4_gateway: Option<Ipv4Addr>,
    ipv6_pool: Option<Ipv6Net>,
    ipv6_line_pool: Option<Ipv6Net>,
    #[serde(default = "default_delegated_prefix_len")]
    delegated_prefix_len: u8,
    #[serde(default)]
    dns: Vec<IpAddr>,
    #[serde(default = "default_mtu")]
    mtu: u16,
}

fn default_data_dir() -> PathBuf {
    "/var/lib/doorstep-server".into()
}
fn default_listen() -> SocketAddr {
    SocketAddr::from(([0u16; 8], 7443))
}
fn default_admin_socket() -> PathBuf {
    DEFAULT_ADMIN_SOCKET.into()
}
fn default_unconfirmed_after_ms() -> u64 {
    5_000
}
fn default_delegated_prefix_len() -> u8 {
    56
}
fn default_mtu() -> u16 {
    1500
}

const NAME_RULE: &str = "must be 1 to 63 of a-z, 0-9 and -, neither beginning nor ending with -";

type Problem = (usize, String);

/// `folder` is what relative paths are relative to. A problem comes with its place in the file.
pub(super) fn check(file: File, path: &Path) -> Result<Config, Problem> {
    let folder = path.parent().unwrap_or(Path::new("."));
    if !is_name(file.operator.get_ref()) {
        return Err((file.operator.span().start, format!("operator {NAME_RULE}")));
    }
    if let Some(code) = &file.country_code
        && !((1..=3).contains(&code.get_ref().len())
            && code.get_ref().bytes().all(|byte| byte.is_ascii_digit()))
    {
        return Err((
            code.span().start,
            "country_code must be 1 to 3 digits, like \"86\"".to_owned(),
        ));
    }
    let mut gateways: Vec<Gateway> = Vec::with_capacity(file.gateway.len());
    let mut claims = Claims::default();
    let mut prefixes: HashMap<LocationPrefix, String> = HashMap::new();
    for spanned in file.gateway {
        let at = spanned.span().start;
        let gateway = gateway(spanned.into_inner()).map_err(|problem| (at, problem))?;
        for prefix in &gateway.locations {
            if let Some(other) = prefixes.insert(prefix.clone(), gateway.id.clone()) {
                return Err((
                    at,
                    format!(
                        "gateway \"{}\": locations: \"{prefix}\" is listed for gateway \"{other}\" already",
                        gateway.id
                    ),
                ));
            }
        }
        claims.claim(&gateway).map_err(|problem| (at, problem))?;
        gateways.push(gateway);
    }
    let plans = plans(file.plan, file.default_plan)?;
    let limits = file.limits;
    limits.check().map_err(|problem| (0, problem))?;
    let (at, retention) = file.retention.map_or((0, Retention::default()), |given| {
        (given.span().start, given.into_inner())
    });
    retention.check().map_err(|problem| (at, problem))?;
    let verification = file
        .register
        .verification
        .map(|given| {
            let at = given.span().start;
            given
                .into_inner()
                .check(folder, &limits)
                .map_err(|problem| (at, format!("register.verification: {problem}")))
        })
        .transpose()?;
    let console = file
        .console
        .map(|given| {
            let at = given.span().start;
            let checked = given.into_inner().check(folder);
            checked.map_err(|problem| (at, problem))
        })
        .transpose()?;
    let app = file
        .app
        .map(|given| {
            let at = given.span().start;
            let checked = given.into_inner().check(folder);
            checked.map_err(|problem| (at, problem))
        })
        .transpose()?;
    let certificates = Certificates {
        gateway: lifetime("gateway_hours", file.certificates.gateway_hours, 7 * 24)?,
        server: lifetime("server_hours", file.certificates.server_hours, 30 * 24)?,
    };
    let (at, dhcp) = file.dhcp.map_or((0, Dhcp::default()), |given| {
        (given.span().start, given.into_inner())
    });
    dhcp.check().map_err(|problem| (at, problem))?;
    let mut server_names = file.server_names;
    // By the operator's name gateways and terminals know the server, wherever it is.
    if !server_names.contains(file.operator.get_ref()) {
        server_names.push(file.operator.get_ref().clone());
    }
    let data_dir = folder.join(file.data_dir);
    let database = match &file.database {
        None => Database::Sqlite(data_dir.join("server.sqlite")),
        Some(url) => Database::parse(url.get_ref())
            .map_err(|problem| (url.span().start, format!("database: {problem}")))?,
    };
    Ok(Config {
        file: path.to_owned(),
        operator: file.operator.into_inner(),
        data_dir,
        database,
        listen: file.listen,
        admin_socket: folder.join(file.admin_socket),
        server_names,
        country_code: file.country_code.map(Spanned::into_inner),
        unconfirmed_after: Duration::from_millis(file.unconfirmed_after_ms),
        legacy_passphrase_file: file
            .legacy_seal
            .map(|seal| folder.join(seal.passphrase_file)),
        limits,
        retention,
        metrics: file.metrics,
        traces: file.traces.map(|traces| traces.below(folder)),
        console,
        app,
        verification,
        certificates,
        dhcp,
        gateways: gateways.into(),
        plans,
    })
}

/// An hour is the least in which a gateway can miss a few attempts to renew.
fn lifetime(key: &str, given: Option<Spanned<u64>>, default: u64) -> Result<Duration, Problem> {
    const LONGEST: u64 = 5 * 365 * 24;
    let (at, hours) = given.map_or((0, default), |given| {
        (given.span().start, given.into_inner())
    });
    if (1..=LONGEST).contains(&hours) {
        Ok(Duration::from_secs(hours * 3600))
    } else {
        let problem = format!("certificates: {key} must be 1 to {LONGEST}");
        Err((at, problem))
    }
}

fn plans(files: Vec<PlanFile>, default: Option<Spanned<String>>) -> Result<Plans, Problem> {
    let mut plans: Vec<Plan> = Vec::with_capacity(files.len());
    for file in files {
        let at = file.name.span().start;
        let name = file.name.into_inner();
        if !is_name(&name) {
            return Err((at, format!("plan name {NAME_RULE}")));
        }
        if plans.iter().any(|plan| plan.name == name) {
            return Err((at, format!("plan \"{name}\" is there twice")));
        }
        let priority = match file.priority {
            None => 0,
            Some(given) => u8::try_from(*given.get_ref())
                .ok()
                .filter(|priority| *priority <= MAX_PRIORITY)
                .ok_or_else(|| {
                    let problem = format!("plan \"{name}\": priority: must be 0 to {MAX_PRIORITY}");
                    (given.span().start, problem)
                })?,
        };
        let time_to_live_s = match file.time_to_live_s {
            None => 0,
            Some(given) => u32::try_from(*given.get_ref())
                .ok()
                .filter(|seconds| *seconds == 0 || TIME_TO_LIVE_S.contains(seconds))
                .ok_or_else(|| {
                    let problem = format!("plan \"{name}\": {}", ServiceError::TimeToLive);
                    (given.span().start, problem)
                })?,
        };
        let offer = Offer {
            offered: file.offered,
            title: file.title,
            price: file.price,
        };
        if let Some(problem) = offer.problem() {
            return Err((at, format!("plan \"{name}\": {problem}")));
        }
        plans.push(Plan {
            name,
            offer,
            service: Service {
                upstream_bps: file.upstream.0,
                downstream_bps: file.downstream.0,
                shape_downstream: file.shape,
                priority,
                time_to_live_s,
            },
        });
    }
    if let Some(default) = &default
        && !plans.iter().any(|plan| plan.name == *default.get_ref())
    {
        let at = default.span().start;
        let name = default.get_ref();
        return Err((at, format!("default_plan: there is no [[plan]] \"{name}\"")));
    }
    Ok(Plans {
        all: plans,
        default: default.map(Spanned::into_inner),
    })
}

fn gateway(file: GatewayFile) -> Result<Gateway, String> {
    let id = file.id;
    if !is_name(&id) {
        return Err(format!("gateway id {NAME_RULE}"));
    }
    let named = |problem: String| format!("gateway \"{id}\": {problem}");
    if file.locations.is_empty() {
        return Err(named("locations: name at least one prefix".to_owned()));
    }
    if file.mtu < 1280 {
        return Err(named(
            "mtu: must be at least 1280, which IPv6 needs".to_owned(),
        ));
    }
    let ipv4 = match (file.ipv4_pool, file.ipv4_gateway) {
        (Some(net), own) => {
            let net = net.trunc();
            let own = own.unwrap_or_else(|| pool::first_host(net));
            Some(Ipv4Pool {
                net,
                gateway: own,
                pool: pool::ipv4(net, own).map_err(|error| named(format!("ipv4_pool: {error}")))?,
            })
        }
        (None, Some(_)) => {
            return Err(named(
                "ipv4_gateway: makes sense only with ipv4_pool".to_owned(),
            ));
        }
        (None, None) => None,
    };
    let ipv6 = match file.ipv6_pool {
        Some(net) => {
            let net = net.trunc();
            Some(Ipv6Pool {
                net,
                delegated_prefix_len: file.delegated_prefix_len,
                pool: pool::ipv6(net, file.delegated_prefix_len)
                    .map_err(|error| named(format!("ipv6_pool: {error}")))?,
            })
        }
        None => None,
    };
    if ipv4.is_none() && ipv6.is_none() {
        return Err(named("give it an ipv4_pool or an ipv6_pool".to_owned()));
    }
    let ipv6_line = match file.ipv6_line_pool {
        Some(net) => {
            let net = net.trunc();
            Some(LinePool {
                net,
                pool: pool::ipv6_lines(net, file.delegated_prefix_len)
                    .map_err(|error| named(format!("ipv6_line_pool: {error}")))?,
            })
        }
        None => None,
    };
    if let (Some(lines), Some(homes)) = (&ipv6_line, &ipv6)
        && overlap(&lines.net, &homes.net)
    {
        return Err(named(format!(
            "ipv6_line_pool {} overlaps its ipv6_pool {}",
            lines.net, homes.net
        )));
    }
    Ok(Gateway {
        id,
        locations: file.locations,
        ipv4,
        ipv6,
        ipv6_line,
        dns: file.dns,
        mtu: file.mtu,
    })
}

fn overlap(one: &Ipv6Net, other: &Ipv6Net) -> bool {
    one.contains(other) || other.contains(one)
}
