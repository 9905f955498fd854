//! `[console]`: where people sign in to see and change what the server has.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use doorstep_web::session::Lifetimes;
use serde::{Deserialize, Serialize};

use super::Rate;

/// As it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ConsoleFile {
    listen: SocketAddr,
    #[serde(default = "yes")]
    tls: bool,
    certificate: Option<PathBuf>,
    key: Option<PathBuf>,
    #[serde(default = "default_idle_minutes")]
    idle_minutes: u64,
    #[serde(default = "default_hours")]
    hours: u64,
    #[serde(default = "default_sign_in_rate")]
    sign_in_rate: Rate,
}

fn yes() -> bool {
    true
}
fn default_idle_minutes() -> u64 {
    30
}
fn default_hours() -> u64 {
    12
}
fn default_sign_in_rate() -> Rate {
    Rate::new(10, 10)
}

/// Where the operator's people are served.
#[derive(Clone, Debug, Serialize)]
pub struct Console {
    pub listen: SocketAddr,
    /// Without it only this host is served.
    pub tls: bool,
    /// Certificate and key that browsers trust; none: the server's own.
    pub certificate: Option<Files>,
    /// How long somebody stays signed in without doing anything.
    pub idle: Duration,
    /// And altogether.
    pub longest: Duration,
    /// Attempts to sign in: from one source, and for one name.
    pub sign_in_rate: Rate,
}

/// A certificate's chain and its key, PEM.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Files {
    pub certificate: PathBuf,
    pub key: PathBuf,
}

impl Console {
    #[must_use]
    pub fn lifetimes(&self) -> Lifetimes {
        Lifetimes {
            idle: self.idle,
            absolute: self.longest,
        }
    }
}

impl ConsoleFile {
    /// `folder` is what relative paths are relative to.
    pub(super) fn check(self, folder: &Path) -> Result<Console, String> {
        let certificate = match (self.certificate, self.key) {
            (Some(certificate), Some(key)) => Some(Files {
                certificate: folder.join(certificate),
                key: folder.join(key),
            }),
            (None, None) => None,
            _ => {
                return Err(
                    "console: certificate and key belong together; give both or neither".to_owned(),
                );
            }
        };
        if !self.tls && certificate.is_some() {
            return Err("console: a certificate is of no use with `tls = false`".to_owned());
        }
        if !self.tls && !self.listen.ip().is_loopback() {
            return Err(format!(
                "console: without TLS it may listen on this host's loopback only, such as \
                 127.0.0.1:{}; leave `tls` out for any other address",
                self.listen.port()
            ));
        }
        for (key, given, most) in [
            ("idle_minutes", self.idle_minutes, 24 * 60),
            ("hours", self.hours, 7 * 24),
        ] {
            if !(1..=most).contains(&given) {
                return Err(format!("console: {key} must be 1 to {most}"));
            }
        }
        if self.sign_in_rate.limited().is_none() {
            return Err(
                "console: sign_in_rate: per_minute and burst must be at least 1; passwords could be \
                 guessed without it"
                    .to_owned(),
            );
        }
        Ok(Console {
            listen: self.listen,
            tls: self.tls,
            certificate,
            idle: Duration::from_secs(self.idle_minutes * 60),
            longest: Duration::from_secs(self.hours * 3600),
            sign_in_rate: self.sign_in_rate,
        })
    }
}
