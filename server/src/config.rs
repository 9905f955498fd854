//! The configuration file: TOML, every default here, errors with file, line and column.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use doorstep_location::{LocationId, LocationPrefix};
use ipnet::{Ipv4Net, Ipv6Net};
use serde::{Deserialize, Serialize};
use toml::Spanned;

use crate::pool::{self, Pool};

/// Where the command line looks for the administration socket unless told otherwise.
pub const DEFAULT_ADMIN_SOCKET: &str = "/run/doorstep-server/admin.sock";

#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("cannot read the configuration {}: {source}", path.display())]
    Read {
        path: PathBuf,
        source: std::io::Error,
    },
    #[error("{}: {source}", path.display())]
    Syntax {
        path: PathBuf,
        source: Box<toml::de::Error>,
    },
    #[error("{}:{line}:{column}: {problem}", path.display())]
    Invalid {
        path: PathBuf,
        line: usize,
        column: usize,
        problem: String,
    },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    operator: Spanned<String>,
    #[serde(default = "default_data_dir")]
    data_dir: PathBuf,
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
    #[serde(default)]
    gateway: Vec<Spanned<GatewayFile>>,
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
    #[serde(default = "default_delegated_prefix_len")]
    delegated_prefix_len: u8,
    #[serde(default)]
    dns: Vec<IpAddr>,
    #[serde(default = "default_mtu")]
    mtu: u16,
}

/// What one client, or all of them, may take.
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Requests worked on at once, all connections together; more are refused at once.
    pub concurrent_requests: usize,
    /// HTTP/2 streams of one connection.
    pub streams_per_connection: u32,
    /// Milliseconds a unary call may take.
    pub request_timeout_ms: u64,
    /// Open Watch streams.
    pub watches: usize,
    /// Sessions of one subscriber that are not released.
    pub sessions_per_subscriber: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            concurrent_requests: 256,
            streams_per_connection: 64,
            request_timeout_ms: 10_000,
            watches: 16_384,
            sessions_per_subscriber: 8,
        }
    }
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

/// A checked configuration; all paths are as good as absolute.
#[derive(Clone, Debug, Serialize)]
pub struct Config {
    pub operator: String,
    pub data_dir: PathBuf,
    pub listen: SocketAddr,
    pub admin_socket: PathBuf,
    pub server_names: Vec<String>,
    pub country_code: Option<String>,
    pub unconfirmed_after: Duration,
    pub legacy_passphrase_file: Option<PathBuf>,
    pub limits: Limits,
    pub gateways: Vec<Gateway>,
}

#[derive(Clone, Debug, Serialize)]
pub struct Gateway {
    pub id: String,
    pub locations: Vec<LocationPrefix>,
    pub ipv4: Option<Ipv4Pool>,
    pub ipv6: Option<Ipv6Pool>,
    pub dns: Vec<IpAddr>,
    pub mtu: u16,
}

#[derive(Clone, Copy, Debug, Serialize)]
pub struct Ipv4Pool {
    pub net: Ipv4Net,
    pub gateway: Ipv4Addr,
    #[serde(skip)]
    pub pool: Pool,
}

#[derive(Clone, Copy, Debug, Serialize)]
pub struct Ipv6Pool {
    pub net: Ipv6Net,
    pub delegated_prefix_len: u8,
    #[serde(skip)]
    pub pool: Pool,
}

impl Config {
    pub fn load(path: &Path) -> Result<Config, ConfigError> {
        let text = std::fs::read_to_string(path).map_err(|source| ConfigError::Read {
            path: path.to_owned(),
            source,
        })?;
        Self::parse(&text, path)
    }

    /// `path` names the file in errors; its folder is what relative paths are relative to.
    pub fn parse(text: &str, path: &Path) -> Result<Config, ConfigError> {
        let file: File = toml::from_str(text).map_err(|source| ConfigError::Syntax {
            path: path.to_owned(),
            source: Box::new(source),
        })?;
        check(file, path.parent().unwrap_or(Path::new("."))).map_err(|(offset, problem)| {
            let before = &text[..offset.min(text.len())];
            ConfigError::Invalid {
                path: path.to_owned(),
                line: before.matches('\n').count() + 1,
                column: before.len() - before.rfind('\n').map_or(0, |at| at + 1) + 1,
                problem,
            }
        })
    }

    pub fn gateway(&self, id: &str) -> Option<&Gateway> {
        self.gateways.iter().find(|gateway| gateway.id == id)
    }

    /// The gateway that serves a location: of all prefixes that contain it, the most specific.
    pub fn gateway_for(&self, location: &LocationId) -> Option<&Gateway> {
        self.gateways
            .iter()
            .flat_map(|gateway| {
                gateway
                    .locations
                    .iter()
                    .map(move |prefix| (prefix, gateway))
            })
            .filter(|(prefix, _)| prefix.contains(location))
            .max_by_key(|(prefix, _)| prefix.specificity())
            .map(|(_, gateway)| gateway)
    }

    pub fn database(&self) -> PathBuf {
        self.data_dir.join("server.sqlite")
    }

    pub fn keys_dir(&self) -> PathBuf {
        self.data_dir.join("keys")
    }
}

/// Names of operators and gateways stand in certificates, logs and file names.
pub fn is_name(text: &str) -> bool {
    (1..=63).contains(&text.len())
        && !text.starts_with('-')
        && !text.ends_with('-')
        && text
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
}

const NAME_RULE: &str = "must be 1 to 63 of a-z, 0-9 and -, neither beginning nor ending with -";

type Problem = (usize, String);

fn check(file: File, folder: &Path) -> Result<Config, Problem> {
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
        if let Some(problem) = gateways.iter().find_map(|other| clash(other, &gateway)) {
            return Err((at, problem));
        }
        gateways.push(gateway);
    }
    let limits = file.limits;
    if limits.concurrent_requests == 0
        || limits.streams_per_connection == 0
        || limits.request_timeout_ms == 0
        || limits.watches == 0
        || limits.sessions_per_subscriber == 0
    {
        return Err((0, "limits: every limit must be at least 1".to_owned()));
    }
    let mut server_names = file.server_names;
    if server_names.is_empty() {
        server_names.push(file.operator.get_ref().clone());
    }
    Ok(Config {
        operator: file.operator.into_inner(),
        data_dir: folder.join(file.data_dir),
        listen: file.listen,
        admin_socket: folder.join(file.admin_socket),
        server_names,
        country_code: file.country_code.map(Spanned::into_inner),
        unconfirmed_after: Duration::from_millis(file.unconfirmed_after_ms),
        legacy_passphrase_file: file
            .legacy_seal
            .map(|seal| folder.join(seal.passphrase_file)),
        limits,
        gateways,
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
    Ok(Gateway {
        id,
        locations: file.locations,
        ipv4,
        ipv6,
        dns: file.dns,
        mtu: file.mtu,
    })
}

/// Two gateways must not share a name or an address.
fn clash(one: &Gateway, other: &Gateway) -> Option<String> {
    let mut problem = String::new();
    if one.id == other.id {
        let _ = write!(problem, "gateway \"{}\" is there twice", one.id);
    } else if let (Some(a), Some(b)) = (&one.ipv4, &other.ipv4)
        && (a.net.contains(&b.net) || b.net.contains(&a.net))
    {
        let _ = write!(
            problem,
            "gateway \"{}\": ipv4_pool {} overlaps that of gateway \"{}\"",
            other.id, b.net, one.id
        );
    } else if let (Some(a), Some(b)) = (&one.ipv6, &other.ipv6)
        && (a.net.contains(&b.net) || b.net.contains(&a.net))
    {
        let _ = write!(
            problem,
            "gateway \"{}\": ipv6_pool {} overlaps that of gateway \"{}\"",
            other.id, b.net, one.id
        );
    }
    (!problem.is_empty()).then_some(problem)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"
operator = "north-net"
data_dir = "data"
listen = "127.0.0.1:0"
admin_socket = "admin.sock"
[legacy_seal]
passphrase_file = "legacy.pass"
[[gateway]]
id = "gw1"
locations = ["110103-xinjingjiayuan"]
ipv4_pool = "100.64.1.0/24"
ipv6_pool = "2001:db8:1000::/40"
dns = ["192.0.2.53"]
[[gateway]]
id = "gw2"
locations = ["110103-xinjingjiayuan-002", "1101"]
ipv4_pool = "100.64.2.0/24"
ipv4_gateway = "100.64.2.254"
"#;

    #[test]
    fn a_good_file_is_read_and_paths_follow_it() {
        let config = Config::parse(GOOD, Path::new("/etc/doorstep/server.toml")).unwrap();
        assert_eq!(config.data_dir, Path::new("/etc/doorstep/data"));
        assert_eq!(
            config.legacy_passphrase_file.as_deref(),
            Some(Path::new("/etc/doorstep/legacy.pass"))
        );
        assert_eq!(config.server_names, ["north-net"]);
        let gw1 = config.gateway("gw1").unwrap().ipv4.unwrap();
        assert_eq!(gw1.gateway, Ipv4Addr::new(100, 64, 1, 1));
        let served = |location: &str| {
            config
                .gateway_for(&location.parse().unwrap())
                .map(|gateway| gateway.id.as_str())
        };
        assert_eq!(served("110103-xinjingjiayuan-001-002-004"), Some("gw1"));
        assert_eq!(served("110103-xinjingjiayuan-002-002-004"), Some("gw2"));
        assert_eq!(served("110199-other-001-001-001"), Some("gw2"));
        assert_eq!(served("440305-nanshan-001-001-001"), None);
    }

    #[test]
    fn errors_name_file_line_and_what_is_wrong() {
        let cases = [
            (
                "operator = \"north-net\"",
                "operator = \"North\"",
                "server.toml:2:12: operator must be",
            ),
            ("data_dir = ", "data_dri = ", "line 3, column 1"),
            (
                "listen = \"127.0.0.1:0\"",
                "listen = \"here\"",
                "line 4, column 10",
            ),
            (
                "id = \"gw2\"",
                "id = \"gw1\"",
                ":14:1: gateway \"gw1\" is there twice",
            ),
            ("id = \"gw2\"", "id = \"gw_2\"", ":14:1: gateway id must be"),
            (
                "100.64.2.0/24",
                "100.64.0.0/16",
                "overlaps that of gateway \"gw1\"",
            ),
            (
                "100.64.1.0/24",
                "100.64.1.0/31",
                "ipv4_pool: an IPv4 pool needs",
            ),
            (
                "\"1101\"",
                "\"110103-xinjingjiayuan\"",
                "is listed for gateway \"gw1\" already",
            ),
            ("\"1101\"", "\"11\"", "line 16, column"),
            (
                "ipv4_pool = \"100.64.2.0/24\"\n",
                "",
                "ipv4_gateway: makes sense only with",
            ),
            ("dns =", "mtu = 100\ndns =", "mtu: must be at least 1280"),
            (
                "dns =",
                "delegated_prefix_len = 65\ndns =",
                "ipv6_pool: the delegated prefix length",
            ),
        ];
        for (from, to, want) in cases {
            let text = GOOD.replacen(from, to, 1);
            assert_ne!(text, GOOD, "{from}");
            let error = Config::parse(&text, Path::new("server.toml"))
                .expect_err(to)
                .to_string();
            assert!(error.contains("server.toml"), "{error}");
            assert!(error.contains(want), "{want}: {error}");
        }
    }
}
