//! `[app]`: where subscribers are served on their phones.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Rate, Site};

/// As it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct AppFile {
    listen: SocketAddr,
    #[serde(default = "yes")]
    tls: bool,
    certificate: Option<PathBuf>,
    key: Option<PathBuf>,
    #[serde(default = "default_days")]
    days: u64,
    #[serde(default = "default_sign_in_rate")]
    sign_in_rate: Rate,
}

/// Browsers keep no cookie for longer.
const MOST_DAYS: u64 = 400;

fn yes() -> bool {
    true
}
fn default_days() -> u64 {
    90
}
fn default_sign_in_rate() -> Rate {
    Rate::new(5, 5)
}

/// Where subscribers' phones are served.
#[derive(Clone, Debug, Serialize)]
pub struct App {
    #[serde(flatten)]
    pub site: Site,
    /// How long a phone stays signed in that is not used.
    pub idle: Duration,
    /// Attempts with one number, from wherever.
    pub sign_in_rate: Rate,
}

impl AppFile {
    /// `folder` is what relative paths are relative to.
    pub(super) fn check(self, folder: &Path) -> Result<App, String> {
        let site = Site::check(
            "app",
            folder,
            (self.listen, self.tls),
            (self.certificate, self.key),
        )?;
        if !(1..=MOST_DAYS).contains(&self.days) {
            return Err(format!("app: days must be 1 to {MOST_DAYS}"));
        }
        if self.sign_in_rate.limited().is_none() {
            return Err(
                "app: sign_in_rate: per_minute and burst must be at least 1; codes could be guessed \
                 without it"
                    .to_owned(),
            );
        }
        Ok(App {
            site,
            idle: Duration::from_secs(self.days * 24 * 3600),
            sign_in_rate: self.sign_in_rate,
        })
    }
}
