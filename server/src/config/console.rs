//! `[console]`: where people sign in to see and change what the server has.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use doorstep_web::session::Lifetimes;
use serde::{Deserialize, Serialize};

use super::{Rate, Site};

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
    #[serde(flatten)]
    pub site: Site,
    /// How long somebody stays signed in without doing anything.
    pub idle: Duration,
    /// And altogether.
    pub longest: Duration,
    /// Attempts to sign in: from one source, and for one name.
    pub sign_in_rate: Rate,
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
        let site = Site::check(
            "console",
            folder,
            (self.listen, self.tls),
            (self.certificate, self.key),
        )?;
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
            site,
            idle: Duration::from_secs(self.idle_minutes * 60),
            longest: Duration::from_secs(self.hours * 3600),
            sign_in_rate: self.sign_in_rate,
        })
    }
}
