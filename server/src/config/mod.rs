//! The configuration file: TOML, every default here, errors with file, line and column.

mod app;
mod claims;
mod console;
mod file;
mod gateways;
mod limits;
mod plans;
mod retention;
mod site;
mod verification;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

pub use app::App;
pub use console::Console;
use doorstep_daemon::{metrics, traces};
use doorstep_location::{LocationId, LocationPrefix};
pub use doorstep_pki::token::is_name;
pub use gateways::Gateways;
use ipnet::{Ipv4Net, Ipv6Net};
pub use limits::{Limits, Rate};
pub use plans::{Offer, Plan, PlanChange, Plans};
pub use retention::{Retention, kept_for};
use serde::Serialize;
pub use site::{Files, Site};
pub use verification::{Hook, Verification};

use crate::pool::Pool;
use crate::session::establishment::Dhcp;
use crate::store::Database;

/// Where the command line looks for the administration socket unless told otherwise.
pub const DEFAULT_ADMIN_SOCKET: &str = "/run/doorstep-server/admin.sock";

#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("cannot read the configuration {}: {source}", path.display())]
    Read {
        path: PathBuf,
        source: std::io::Error,
    },
    /// Without the line itself: it may be the one with the database's password.
    #[error("{}:{line}:{column}: {problem}", path.display())]
    Invalid {
        path: PathBuf,
        line: usize,
        column: usize,
        problem: String,
    },
}

/// How long certificates hold that this server issues.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Certificates {
    pub gateway: Duration,
    /// The server's own.
    pub server: Duration,
}

impl Certificates {
    /// How often files and revocations are looked at again.
    pub fn look_every(&self) -> Duration {
        (self.gateway.min(self.server) / 100)
            .clamp(Duration::from_millis(20), Duration::from_secs(5))
    }
}

/// A checked configuration; all paths are as good as absolute.
#[derive(Clone, Debug, Serialize)]
pub struct Config {
    /// Where it was read.
    #[serde(skip)]
    pub file: PathBuf,
    pub operator: String,
    pub data_dir: PathBuf,
    #[serde(serialize_with = "shown")]
    pub database: Database,
    pub listen: SocketAddr,
    pub admin_socket: PathBuf,
    pub server_names: Vec<String>,
    pub country_code: Option<String>,
    pub unconfirmed_after: Duration,
    pub legacy_passphrase_file: Option<PathBuf>,
    pub limits: Limits,
    pub retention: Retention,
    /// Where Prometheus may ask; without it nowhere.
    pub metrics: Option<metrics::Config>,
    /// Who collects traces; without it nobody.
    pub traces: Option<traces::Config>,
    /// Where people sign in; without it nowhere.
    pub console: Option<Console>,
    /// Where subscribers are served on their phones; without it nowhere.
    pub app: Option<App>,
    /// Who says whether a number is its owner's; without it every registration is believed.
    pub verification: Option<Verification>,
    pub certificates: Certificates,
    /// Of sessions that come up by DHCP.
    pub dhcp: Dhcp,
    pub gateways: Gateways,
    #[serde(flatten)]
    pub plans: Plans,
}

fn shown<T: ToString, S: serde::Serializer>(value: &T, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(&value.to_string())
}

#[derive(Clone, Debug, Serialize)]
pub struct Gateway {
    pub id: String,
    pub locations: Vec<LocationPrefix>,
    pub ipv4: Option<Ipv4Pool>,
    pub ipv6: Option<Ipv6Pool>,
    /// What each session gets a /64 of for the line itself.
    pub ipv6_line: Option<LinePool>,
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

#[derive(Clone, Copy, Debug, Serialize)]
pub struct LinePool {
    pub net: Ipv6Net,
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
        let invalid = |(offset, problem): (usize, String)| {
            let before = &text[..text.floor_char_boundary(offset)];
            ConfigError::Invalid {
                path: path.to_owned(),
                line: before.matches('\n').count() + 1,
                column: before.len() - before.rfind('\n').map_or(0, |at| at + 1) + 1,
                problem,
            }
        };
        let file: file::File = toml::from_str(text).map_err(|error| {
            let at = error.span().map_or(0, |span| span.start);
            invalid((at, error.message().to_owned()))
        })?;
        file::check(file, path).map_err(invalid)
    }

    /// The keys that `later` has otherwise, those of plans aside.
    pub fn differing_keys(&self, later: &Config) -> Vec<String> {
        let plans = ["plans", "default_plan"];
        let keys = |config| match serde_json::to_value(config) {
            Ok(serde_json::Value::Object(keys)) => keys,
            // A configuration is a table of plain values.
            _ => serde_json::Map::default(),
        };
        let (own, later) = (keys(self), keys(later));
        let other = later
            .iter()
            .filter(|(key, value)| own.get(*key) != Some(value));
        let other = other.filter(|(key, _)| !plans.contains(&key.as_str()));
        other.map(|(key, _)| key.clone()).collect()
    }

    pub fn gateway(&self, id: &str) -> Option<&Gateway> {
        self.gateways.get(id)
    }

    /// The gateway that serves a location: of all prefixes that contain it, the most specific.
    pub fn gateway_for(&self, location: &LocationId) -> Option<&Gateway> {
        self.gateways.serving(location)
    }

    pub fn keys_dir(&self) -> PathBuf {
        self.data_dir.join("keys")
    }
}

#[cfg(test)]
mod tests;
