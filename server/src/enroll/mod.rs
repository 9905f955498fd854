//! Which gateway gets a certificate: with a one-time token, or with the certificate that it has.

mod revocations;

use std::sync::Arc;
use std::time::Duration;

use doorstep_daemon::dry_run::Run;
use doorstep_pki::certificate::Certificate;
use doorstep_pki::token::{Token, TokenError};
use thiserror::Error;

pub use revocations::{Revocations, Revoked};

use crate::engine::{Engine, EngineError, now_ms};
use crate::keys::{self, pki};
use crate::store::StoreError;

/// What a token may last.
pub const TOKEN_LIFE: std::ops::RangeInclusive<u64> = 60..=7 * 24 * 3600;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenRow {
    pub gateway: String,
    pub created_ms: i64,
    pub expires_ms: i64,
    pub used_ms: Option<i64>,
}

/// What came of an attempt to use a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    Now,
    Before,
    Expired,
    Unknown,
}

/// A certificate, and the authorities to trust.
pub struct Issued {
    pub certificate_pem: String,
    pub authorities_pem: String,
}

#[derive(Debug, Error)]
pub enum EnrollError {
    #[error("token: {0}")]
    Token(#[from] TokenError),
    #[error("token: {0}; make another with `doorstep-server pki token {1}`")]
    Refused(&'static str, String),
    #[error(transparent)]
    Request(#[from] pki::RequestError),
    #[error(
        "gateway {0} is not in this server's configuration; add a [[gateway]] and restart the server"
    )]
    NotConfigured(String),
    #[error(transparent)]
    Revoked(#[from] Revoked),
    #[error("lifetime: must be {} s to {} s", TOKEN_LIFE.start(), TOKEN_LIFE.end())]
    Lifetime,
    /// What is wrong stands in the log: it may name files.
    #[error("this server cannot issue certificates; its log says why")]
    Authority(anyhow::Error),
    #[error(transparent)]
    Engine(#[from] EngineError),
}

impl From<StoreError> for EnrollError {
    fn from(error: StoreError) -> Self {
        EnrollError::Engine(error.into())
    }
}

pub type Result<T> = std::result::Result<T, EnrollError>;

/// Issues certificates to gateways.
#[derive(Clone)]
pub struct Enroller {
    engine: Arc<Engine>,
    revocations: Revocations,
}

impl Enroller {
    pub fn new(engine: Arc<Engine>, revocations: Revocations) -> Self {
        Enroller {
            engine,
            revocations,
        }
    }

    fn configured(&self, gateway: &str) -> Result<()> {
        match self.engine.config.gateway(gateway) {
            Some(_) => Ok(()),
            None => Err(EnrollError::NotConfigured(gateway.to_owned())),
        }
    }

    /// A new token, and when it ends.
    pub async fn create_token(
        &self,
        gateway: &str,
        lifetime: Duration,
        run: Run,
    ) -> Result<(Token, i64)> {
        self.configured(gateway)?;
        if !TOKEN_LIFE.contains(&lifetime.as_secs()) {
            return Err(EnrollError::Lifetime);
        }
        let config = &self.engine.config;
        let authority = keys::signing_authority(config).map_err(EnrollError::Authority)?;
        let digest = authority.digest().map_err(EnrollError::Authority)?;
        let token = Token::generate(gateway, &config.operator, digest)?;
        let created_ms = now_ms();
        let row = TokenRow {
            gateway: gateway.to_owned(),
            created_ms,
            expires_ms: created_ms.saturating_add(lifetime.as_millis() as i64),
            used_ms: None,
        };
        self.engine.add_token(&token.hash(), &row, run).await?;
        Ok((token, row.expires_ms))
    }

    pub async fn tokens(&self) -> Result<Vec<TokenRow>> {
        Ok(self.engine.store.tokens().await?)
    }

    /// Whatever else can be wrong is looked at before the token is used up.
    pub async fn enroll(&self, token: &str, request: &[u8]) -> Result<Issued> {
        let token = Token::parse(token)?;
        let gateway = &token.gateway;
        let request = pki::Request::check(request, gateway)?;
        let authority =
            keys::signing_authority(&self.engine.config).map_err(EnrollError::Authority)?;
        let refused = |why| Err(EnrollError::Refused(why, gateway.clone()));
        if token.operator != self.engine.config.operator {
            return refused("it is another operator's");
        }
        self.configured(gateway)?;
        match self.engine.take_token(&token.hash(), gateway).await? {
            Taken::Now => {}
            Taken::Before => return refused("it has been used already"),
            Taken::Expired => return refused("it has expired"),
            Taken::Unknown => return refused("it is not known here"),
        }
        let issued = self.issue(&authority, &request)?;
        tracing::info!(gateway, "gateway enrolled");
        Ok(issued)
    }

    /// `shown` is the certificate that the connection was authenticated with.
    pub async fn renew(&self, shown: &Certificate, request: &[u8]) -> Result<Issued> {
        let gateway = shown.names.first().map_or("", String::as_str);
        self.configured(gateway)?;
        let request = pki::Request::check(request, gateway)?;
        let authority =
            keys::signing_authority(&self.engine.config).map_err(EnrollError::Authority)?;
        let issued = self.issue(&authority, &request)?;
        // Looked at last, and in the database: a revocation after this covers the new one too.
        self.revocations.refresh(&self.engine.store).await?;
        self.revocations.check(gateway, shown.issued_ms)?;
        tracing::info!(gateway, "gateway's certificate renewed");
        Ok(issued)
    }

    fn issue(&self, authority: &pki::Authority, request: &pki::Request) -> Result<Issued> {
        let config = &self.engine.config;
        let issue = || {
            Ok(Issued {
                certificate_pem: authority.issue_gateway(request, config.certificates.gateway)?,
                authorities_pem: keys::ca_pem(config)?,
            })
        };
        issue().map_err(EnrollError::Authority)
    }

    /// Voids all certificates of a gateway; one that the configuration does not know any more too.
    pub async fn revoke(&self, gateway: &str, run: Run) -> Result<i64> {
        if !crate::config::is_name(gateway) {
            return Err(EnrollError::NotConfigured(gateway.to_owned()));
        }
        let until_ms = self.engine.revoke_gateway(gateway, run).await?;
        if run.is_dry() {
            return Ok(until_ms);
        }
        self.revocations.refresh(&self.engine.store).await?;
        tracing::info!(gateway, "gateway's certificates revoked");
        Ok(until_ms)
    }
}
