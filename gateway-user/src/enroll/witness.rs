//! First contact: which certificates a server shows. Nothing is believed and nothing is sent; the
//! authority among them that the token names is then the only one trusted.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail};
use doorstep_pki::certificate::{digest, to_pem};
use doorstep_pki::token::Token;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::client::danger::{
    HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier,
};
use tokio_rustls::rustls::crypto::{CryptoProvider, ring};
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use tokio_rustls::rustls::{ClientConfig, DigitallySignedStruct, Error, SignatureScheme, version};
use tonic::codegen::http::Uri;

const PATIENCE: Duration = Duration::from_secs(10);

/// The authority that the token names, in PEM, as the server shows it.
pub(super) async fn authority(url: &str, token: &Token) -> anyhow::Result<String> {
    let uri: Uri = url
        .parse()
        .ok()
        .filter(https)
        .with_context(|| format!("'{url}' is not of the form https://host:port"))?;
    let host = uri.host().unwrap_or_default();
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let port = uri.port_u16().unwrap_or(443);
    let provider = Arc::new(ring::default_provider());
    let witness = Arc::new(Witness {
        provider: Arc::clone(&provider),
        seen: Mutex::default(),
    });
    let mut tls = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&version::TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(witness.clone())
        .with_no_client_auth();
    tls.alpn_protocols = vec![b"h2".to_vec()];
    let name = ServerName::try_from(token.operator.clone())?;
    let attempt = async {
        let stream = TcpStream::connect((host, port)).await?;
        TlsConnector::from(Arc::new(tls))
            .connect(name, stream)
            .await
    };
    // The witness refuses whatever it sees; so this fails in any case.
    let failed = match timeout(PATIENCE, attempt).await {
        Err(_) => anyhow!("no answer in {} s", PATIENCE.as_secs()),
        Ok(Err(error)) => error.into(),
        Ok(Ok(_)) => bail!("a certificate that nobody has checked was believed"),
    };
    let seen = witness.seen.lock().unwrap_or_else(PoisonError::into_inner);
    let Some(seen) = &*seen else {
        return Err(failed.context(format!(
            "cannot reach the server at {url}; the token has not been sent"
        )));
    };
    match seen.iter().find(|der| digest(der) == token.authority) {
        Some(der) => Ok(to_pem(der)),
        None => bail!(
            "the server at {url} is not of the authority that the token names: it is another \
             server, or somebody is in between. The token has not been sent; check the URL, and \
             compare `doorstep-server pki show`"
        ),
    }
}

fn https(uri: &Uri) -> bool {
    uri.scheme_str() == Some("https") && uri.host().is_some()
}

/// Looks at certificates and refuses them all.
#[derive(Debug)]
struct Witness {
    provider: Arc<CryptoProvider>,
    /// Whatever comes with the server's own certificate.
    seen: Mutex<Option<Vec<CertificateDer<'static>>>>,
}

impl ServerCertVerifier for Witness {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        *seen = Some(others.iter().map(|der| der.clone().into_owned()).collect());
        Err(Error::General("only looked at".into()))
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::General("only looked at".into()))
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::General("only looked at".into()))
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        let algorithms = self.provider.signature_verification_algorithms;
        algorithms.supported_schemes()
    }
}
