//! The operator's own say about who registers: a program or a URL is asked whether the number is
//! its owner's.
//!
//! What is asked holds numbers and codes, so neither the question nor what the hook writes about it
//! goes to the log. The log says only that a hook fails, and how.

mod command;
mod http_client;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use serde::Serialize;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use zeroize::Zeroizing;

use crate::config::{Hook, Verification};

/// Most bytes looked at of what a hook answers.
const MAX_ANSWER_LEN: usize = 4096;

/// Who claims to be whom, as the hook reads it.
#[derive(Serialize)]
pub struct Claim<'a> {
    pub operator: &'a str,
    /// E.164.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub phone: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id_card: Option<&'a str>,
    /// Not there in the first step.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<&'a str>,
    /// Where the terminal asks from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<IpAddr>,
}

/// What the hook says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    Accepted,
    /// The owner of the number has been sent a code.
    CodeSent,
    /// With a reason for the subscriber, which may be empty.
    Refused(String),
    /// The hook has not said anything of use.
    Failed,
}

/// Why a hook has said nothing of use; for the log.
#[derive(Debug, thiserror::Error)]
enum HookError {
    #[error("the command cannot be run: {0}")]
    Run(std::io::Error),
    #[error("the command ended with {0}; 0 accepts, 1 refuses, 10 says that a code was sent")]
    Exit(std::process::ExitStatus),
    #[error("no connection: {0}")]
    Connect(std::io::Error),
    #[error("no answer: {0}")]
    Http(#[from] hyper::Error),
    #[error("the answer is {0}; 2xx accepts, 202 says that a code was sent, 4xx refuses")]
    Status(http::StatusCode),
}

/// Asks the operator's hook.
pub struct Verifier {
    way: Way,
    timeout: Duration,
    places: Arc<Semaphore>,
}

enum Way {
    Command(command::Program),
    Url(http_client::Client),
}

impl Verifier {
    pub fn new(config: &Verification) -> Result<Self> {
        let way = match &config.hook {
            Hook::Command(command) => Way::Command(command::Program::new(command)),
            Hook::Url { url, ca } => Way::Url(http_client::Client::new(url, ca.as_deref())?),
        };
        Ok(Verifier {
            way,
            timeout: config.timeout,
            places: Arc::new(Semaphore::new(config.concurrency)),
        })
    }

    /// A place among those that may be asked about at once.
    pub fn place(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.places).try_acquire_owned().ok()
    }

    /// Asks about one registration.
    pub async fn ask(&self, claim: &Claim<'_>, _place: OwnedSemaphorePermit) -> Verdict {
        let question = match serde_json::to_vec(claim) {
            Ok(question) => Zeroizing::new(question),
            Err(_) => return Verdict::Failed,
        };
        let asked = async {
            match &self.way {
                Way::Command(program) => program.ask(question).await,
                Way::Url(client) => client.ask(question).await,
            }
        };
        match tokio::time::timeout(self.timeout, asked).await {
            Ok(Ok(verdict)) => verdict,
            Ok(Err(error)) => {
                tracing::error!(%error, "a registration could not be verified");
                Verdict::Failed
            }
            Err(_) => {
                tracing::error!(
                    timeout_ms = self.timeout.as_millis(),
                    "a registration could not be verified: the hook did not answer in time"
                );
                Verdict::Failed
            }
        }
    }
}

/// The reason in an answer: its first line.
fn reason(answer: &[u8]) -> String {
    let line = answer.split(|byte| *byte == b'\n').next().unwrap_or(b"");
    String::from_utf8_lossy(line).trim().to_owned()
}
