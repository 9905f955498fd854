//! The gateway's first certificate. The key is made here and stays here; the token says which
//! authority the server must be of, so that nobody in between is told the token.

#[cfg(test)]
mod tests;
mod witness;

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail};
use doorstep_daemon::dry_run::Run;
use doorstep_daemon::exit::{self, Exit};
use doorstep_daemon::refuse;
use doorstep_pki::certificate::Certificate as Issued;
use doorstep_pki::identity::{self, NewKey};
use doorstep_pki::token::Token;
use doorstep_proto::v1;
use doorstep_proto::v1::enrollment_client::EnrollmentClient;
use tokio::time::timeout;
use tonic::transport::{Certificate, ClientTlsConfig, Endpoint};

use crate::config::{Address, Server};
use crate::control::{chain, install};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// What a gateway has got.
pub struct Enrolled {
    pub files: Server,
    /// None of a dry run.
    pub certificate: Option<Issued>,
}

/// Enrolls with the server at `url`; writes `ca.pem` and `GATEWAY.pem` into `folder`. Files that are
/// there are kept unless they may be replaced. A dry run goes as far as a connection to the server of the token, and
/// does not send it: whether it is still good the server tells only by taking it.
pub async fn enroll(
    url: &str,
    token: &Token,
    folder: &Path,
    replace: bool,
    run: Run,
) -> anyhow::Result<Enrolled> {
    let cert = folder.join(format!("{}.pem", token.gateway));
    let files = Server {
        address: Address {
            url: url.to_owned(),
            server_name: token.operator.clone(),
        },
        replicas: Vec::new(),
        ca: folder.join("ca.pem"),
        key: cert.clone(),
        cert,
    };
    // Before the token is spent.
    for file in [&files.ca, &files.cert] {
        if !replace && file.exists() {
            refuse!(
                "{} exists already; --replace puts another in its place",
                file.display()
            );
        }
    }
    if !run.is_dry() {
        writable(folder)?;
    }
    let key = NewKey::generate()?;
    let request = key.request(&token.gateway)?;
    let authority = witness::authority(url, token).await?;
    let tls = ClientTlsConfig::new()
        .domain_name(&token.operator)
        .ca_certificate(Certificate::from_pem(&authority));
    let endpoint = Endpoint::from_shared(url.to_owned())?
        .tls_config(tls)?
        .connect_timeout(CONNECT_TIMEOUT);
    let channel = endpoint.connect().await;
    let channel = channel.map_err(|error| {
        anyhow::anyhow!(
            "cannot reach the server at {url}: {}; the token has not been sent",
            chain(&error)
        )
    })?;
    if run.is_dry() {
        let certificate = None;
        return Ok(Enrolled { files, certificate });
    }
    let request = v1::EnrollRequest {
        token: token.to_text().to_string(),
        request,
    };
    let mut client = EnrollmentClient::new(channel);
    let issued = match timeout(ANSWER_TIMEOUT, client.enroll(request)).await {
        Err(_) => {
            let text = format!(
                "the server at {url} does not answer; the token may be used up: \
                 `doorstep-server pki tokens` tells"
            );
            return Err(exit::because(Exit::TimedOut, text));
        }
        Ok(Err(status)) => {
            let text = format!("the server refuses: {}", status.message());
            return Err(exit::because(Exit::from(&status), text));
        }
        Ok(Ok(issued)) => issued.into_inner(),
    };
    if !identity::holds(&issued.authorities_pem, &token.authority) {
        bail!("the server does not name the authority of the token among those to trust");
    }
    let certificate = Some(install(&files, &key, &issued, &token.gateway)?);
    Ok(Enrolled { files, certificate })
}

fn writable(folder: &Path) -> anyhow::Result<()> {
    let probe: PathBuf = folder.join(".enroll");
    std::fs::create_dir_all(folder)
        .and_then(|()| std::fs::write(&probe, b""))
        .and_then(|()| std::fs::remove_file(&probe))
        .with_context(|| format!("cannot write into {}", folder.display()))
}
