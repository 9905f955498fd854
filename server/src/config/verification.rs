//! `[register.verification]`: the operator's own say about who registers.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Limits;

/// Who is asked before a subscriber is registered.
#[derive(Clone, Debug, Serialize)]
pub struct Verification {
    pub hook: Hook,
    /// How long it may take.
    pub timeout: Duration,
    /// How many may be asked at once.
    pub concurrency: usize,
}

#[derive(Clone, Debug, Serialize)]
pub enum Hook {
    /// A program and its arguments.
    Command(Vec<String>),
    /// Asked by POST. `ca` is what the certificate of an `https` URL is checked against; the
    /// system's authorities without it.
    Url {
        #[serde(serialize_with = "super::shown")]
        url: http::Uri,
        ca: Option<PathBuf>,
    },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct VerificationFile {
    command: Option<Vec<String>>,
    url: Option<String>,
    ca: Option<PathBuf>,
    #[serde(default = "default_timeout_ms")]
    timeout_ms: u64,
    #[serde(default = "default_concurrency")]
    concurrency: usize,
}

fn default_timeout_ms() -> u64 {
    5_000
}
fn default_concurrency() -> usize {
    16
}

impl VerificationFile {
    pub fn check(self, folder: &Path, limits: &Limits) -> Result<Verification, String> {
        if self.ca.is_some() && self.url.is_none() {
            return Err("ca: makes sense only with url".to_owned());
        }
        let hook = match (self.command, self.url) {
            (Some(command), None) => command_hook(command)?,
            (None, Some(url)) => url_hook(&url, self.ca.map(|ca| folder.join(ca)))?,
            _ => return Err("give either command or url".to_owned()),
        };
        if self.timeout_ms == 0 || self.timeout_ms >= limits.request_timeout_ms {
            return Err(format!(
                "timeout_ms: must be at least 1 and less than request_timeout_ms, which is {}",
                limits.request_timeout_ms
            ));
        }
        // Whoever waits for the hook takes a place from those who ask for access.
        if self.concurrency == 0 || self.concurrency > limits.concurrent_requests {
            return Err(format!(
                "concurrency: must be at least 1 and at most concurrent_requests, which is {}",
                limits.concurrent_requests
            ));
        }
        Ok(Verification {
            hook,
            timeout: Duration::from_millis(self.timeout_ms),
            concurrency: self.concurrency,
        })
    }
}

fn command_hook(command: Vec<String>) -> Result<Hook, String> {
    match command.first() {
        Some(program) if Path::new(program).is_absolute() => Ok(Hook::Command(command)),
        _ => Err(
            "command: must be a list that begins with the absolute path of a program".to_owned(),
        ),
    }
}

fn url_hook(url: &str, ca: Option<PathBuf>) -> Result<Hook, String> {
    let problem = "url: must be like \"https://verify.example.net/doorstep\", with http or https";
    let url: http::Uri = url.parse().map_err(|_| problem.to_owned())?;
    let scheme = url.scheme_str().unwrap_or_default();
    // What stands before an @ would be shown with the configuration.
    let authority = url.authority().map_or("", |authority| authority.as_str());
    if !matches!(scheme, "http" | "https")
        || url.host().is_none_or(str::is_empty)
        || authority.contains('@')
    {
        return Err(problem.to_owned());
    }
    if ca.is_some() && scheme != "https" {
        return Err("ca: makes sense only with an https url".to_owned());
    }
    Ok(Hook::Url { url, ca })
}
