//! The certificate is renewed while it still opens the door: over a connection of its own, so that
//! the stream in use goes on. The next dial reads the new one.

use std::time::Duration;

use anyhow::{Context as _, bail};
use doorstep_pki::certificate::{self, Certificate};
use doorstep_pki::files;
use doorstep_pki::identity::NewKey;
use doorstep_pki::lifetime::Validity;
use doorstep_proto::v1;
use doorstep_proto::v1::enrollment_client::EnrollmentClient;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;
use tracing::{Instrument as _, error, info, info_span, warn};

use super::client::endpoint;
use crate::clock;
use crate::config::Server;

const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// How often clock and file are looked at: one may be set, the other replaced by somebody.
const LOOK_EVERY: Duration = Duration::from_secs(60);

/// Keeps the certificate for one operator's server good.
pub struct Renewal {
    pub gateway_id: String,
    pub operator: String,
    pub server: Server,
}

/// What is to be done now.
#[derive(Debug, PartialEq, Eq)]
enum Next {
    Wait(Duration),
    Renew,
}

fn next(validity: Validity, now_ms: i64, roll: f64) -> Next {
    match u64::try_from(validity.renewal_ms(roll).saturating_sub(now_ms)) {
        Ok(left) if left > 0 => Next::Wait(Duration::from_millis(left).min(LOOK_EVERY)),
        _ => Next::Renew,
    }
}

impl Renewal {
    pub async fn run(self, stop: CancellationToken) {
        let span = info_span!("certificate", operator = self.operator);
        let work = async {
            tokio::select! {
                () = stop.cancelled() => {}
                () = self.keep() => {}
            }
        };
        work.instrument(span).await;
    }

    async fn keep(&self) {
        let mut roll = rand::random_range(0.0..=1.0);
        loop {
            let pause = match self.validity().await {
                // The stream says what is wrong with the file.
                Err(_) => LOOK_EVERY,
                Ok(validity) => match next(validity, clock::unix_ms(), roll) {
                    Next::Wait(pause) => pause,
                    Next::Renew => {
                        roll = rand::random_range(0.0..=1.0);
                        self.attempt(validity, roll).await
                    }
                },
            };
            sleep(pause).await;
        }
    }

    async fn validity(&self) -> anyhow::Result<Validity> {
        let pem = tokio::fs::read(&self.server.cert).await?;
        Ok(Certificate::from_pem(&pem)?.validity)
    }

    /// Renews; returns how long to wait then.
    async fn attempt(&self, validity: Validity, roll: f64) -> Duration {
        match self.renew().await {
            Ok(renewed) => {
                let until_unix_ms = renewed.validity.until_ms;
                info!(until_unix_ms, "certificate renewed");
                Duration::ZERO
            }
            Err(error) => {
                let now = clock::unix_ms();
                let pause = validity.retry(now, roll);
                let (error, pause_s) = (format!("{error:#}"), pause.as_secs());
                let file = self.server.cert.display();
                if validity.is_over(now) {
                    error!(%file, error, pause_s, "the certificate has expired and is not renewed; \
                        enroll anew with a token of the operator's (`doorstep-gateway enroll --replace`)");
                } else {
                    let until_unix_ms = validity.until_ms;
                    warn!(%file, error, pause_s, until_unix_ms, "the certificate is not renewed yet");
                }
                pause
            }
        }
    }

    async fn renew(&self) -> anyhow::Result<Certificate> {
        // One file is replaced in one step, with a new key. Two cannot be: then the key stays.
        let key = if self.server.key == self.server.cert {
            NewKey::generate()?
        } else {
            let pem = files::read_private(&self.server.key)?;
            NewKey::from_pem(&pem).with_context(|| self.server.key.display().to_string())?
        };
        let request = key.request(&self.gateway_id)?;
        let channel = self.dial().await?;
        let mut client = EnrollmentClient::new(channel);
        let answer = client.renew(v1::RenewRequest { request });
        let issued = match timeout(ANSWER_TIMEOUT, answer).await {
            Err(_) => bail!("the server does not answer"),
            Ok(Err(status)) => bail!(
                "the server answers {:?}: {}",
                status.code(),
                status.message()
            ),
            Ok(Ok(issued)) => issued.into_inner(),
        };
        let (server, name) = (self.server.clone(), self.gateway_id.clone());
        tokio::task::spawn_blocking(move || install(&server, &key, &issued, &name)).await?
    }
}

impl Renewal {
    /// The first of the server's addresses that answers.
    async fn dial(&self) -> anyhow::Result<Channel> {
        let mut failed = None;
        for address in self.server.addresses() {
            match endpoint(&self.server, &address).await?.connect().await {
                Ok(channel) => return Ok(channel),
                Err(error) => {
                    let text = format!("{}: {}", address.url, super::chain(&error));
                    failed.get_or_insert(text);
                }
            }
        }
        bail!("{}", failed.unwrap_or_default())
    }
}

/// Checks what a server has issued, and puts it into the files: each of them is the old one or the
/// new one, whenever this is interrupted, and any of these pairs works.
pub fn install(
    server: &Server,
    key: &NewKey,
    issued: &v1::IssuedCertificate,
    name: &str,
) -> anyhow::Result<Certificate> {
    let certificate = key.check(&issued.certificate_pem, name)?;
    certificate::chain(issued.authorities_pem.as_bytes())
        .context("the authorities that the server names")?;
    let trusted = std::fs::read_to_string(&server.ca).unwrap_or_default();
    if trusted != issued.authorities_pem {
        files::replace(&server.ca, issued.authorities_pem.as_bytes(), 0o644)?;
    }
    if server.key == server.cert {
        let both = key.file(&issued.certificate_pem);
        files::replace(&server.cert, both.as_bytes(), 0o600)?;
    } else {
        files::replace(&server.cert, issued.certificate_pem.as_bytes(), 0o600)?;
    }
    Ok(certificate)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A week, hour by hour.
    #[test]
    fn renewed_within_a_week_and_looked_at_every_minute() {
        const HOUR: i64 = 3_600_000;
        let week = Validity {
            from_ms: 0,
            until_ms: 168 * HOUR,
        };
        for roll in [0.0, 0.3, 1.0] {
            let due = (0..168).find(|hour| next(week, hour * HOUR, roll) == Next::Renew);
            let due = due.expect("before the end");
            assert!((103..=121).contains(&due), "{due}");
            assert_eq!(next(week, 0, roll), Next::Wait(LOOK_EVERY));
        }
        // A clock far ahead or far behind.
        assert_eq!(next(week, i64::MAX, 0.5), Next::Renew);
        assert_eq!(next(week, i64::MIN, 0.5), Next::Wait(LOOK_EVERY));
        let last = week.renewal_ms(0.5) - 5;
        assert_eq!(next(week, last, 0.5), Next::Wait(Duration::from_millis(5)));
    }
}
