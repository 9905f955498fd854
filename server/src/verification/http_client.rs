//! A URL of the operator's: one POST over a connection of its own for each question. Registrations
//! are rare, and so nothing is kept open.

use std::io;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, Result, anyhow};
use http::header::{CONTENT_TYPE, HOST, USER_AGENT};
use http::{HeaderValue, Method, Request, StatusCode, Uri};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper_util::rt::TokioIo;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::{ClientConfig, RootCertStore};
use zeroize::Zeroizing;

use super::{HookError, MAX_ANSWER_LEN, Verdict, reason};

pub(super) struct Client {
    host: String,
    port: u16,
    /// As in the header.
    authority: HeaderValue,
    path: Uri,
    /// For `https`.
    tls: Option<(TlsConnector, ServerName<'static>)>,
}

impl Client {
    /// The authorities are read once, here.
    pub fn new(url: &Uri, ca: Option<&Path>) -> Result<Self> {
        // IPv6 addresses stand in brackets in a URL, and nowhere else.
        let host = url
            .host()
            .context("the url of the verification has no host")?;
        let host = host.trim_matches(['[', ']']).to_owned();
        let authority = url.authority().map_or("", |authority| authority.as_str());
        let path = url.path_and_query().map_or("/", |path| path.as_str());
        let secure = url.scheme_str() == Some("https");
        let tls = secure
            .then(|| -> Result<_> {
                let name = ServerName::try_from(host.clone())
                    .with_context(|| format!("verification url: {host} is not a server's name"))?;
                Ok((TlsConnector::from(Arc::new(tls_config(ca)?)), name))
            })
            .transpose()?;
        if !secure {
            tracing::warn!("registrations are verified over http: numbers are sent in the clear");
        }
        Ok(Client {
            port: url.port_u16().unwrap_or(if secure { 443 } else { 80 }),
            authority: HeaderValue::from_str(authority)?,
            path: path.parse()?,
            host,
            tls,
        })
    }

    pub async fn ask(&self, question: Zeroizing<Vec<u8>>) -> Result<Verdict, HookError> {
        let stream = TcpStream::connect((self.host.as_str(), self.port));
        let stream = stream.await.map_err(HookError::Connect)?;
        let response = match &self.tls {
            None => self.post(stream, &question).await?,
            Some((connector, name)) => {
                let stream = connector.connect(name.clone(), stream);
                self.post(stream.await.map_err(HookError::Connect)?, &question)
                    .await?
            }
        };
        match response.status() {
            // They say nothing about the registration.
            status @ (StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS) => {
                Err(HookError::Status(status))
            }
            StatusCode::ACCEPTED => Ok(Verdict::CodeSent),
            status if status.is_success() => Ok(Verdict::Accepted),
            status if status.is_client_error() => {
                let body = Limited::new(response.into_body(), MAX_ANSWER_LEN).collect();
                // The refusal stands, with or without a reason that can be read.
                let body = body.await.map(|body| body.to_bytes()).unwrap_or_default();
                Ok(Verdict::Refused(reason(&body)))
            }
            status => Err(HookError::Status(status)),
        }
    }

    async fn post<S>(
        &self,
        stream: S,
        question: &[u8],
    ) -> Result<http::Response<Incoming>, HookError>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        // Ends when the answer has been read, or nobody waits for it any more.
        tokio::spawn(async move {
            let _ = connection.await;
        });
        let mut request = Request::new(Full::new(Bytes::copy_from_slice(question)));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.path.clone();
        let headers = request.headers_mut();
        headers.insert(HOST, self.authority.clone());
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(USER_AGENT, HeaderValue::from_static("doorstep-server"));
        Ok(sender.send_request(request).await?)
    }
}

fn tls_config(ca: Option<&Path>) -> Result<ClientConfig> {
    let mut roots = RootCertStore::empty();
    match ca {
        Some(path) => {
            let wrong = || format!("{}: no CA certificate in it (PEM)", path.display());
            for certificate in CertificateDer::pem_file_iter(path).with_context(wrong)? {
                roots.add(certificate.with_context(wrong)?)?;
            }
            if roots.is_empty() {
                return Err(anyhow!(wrong()));
            }
        }
        None => {
            let loaded = rustls_native_certs::load_native_certs();
            roots.add_parsable_certificates(loaded.certs);
            if roots.is_empty() {
                let error = io::Error::other("no certificate authority in the system's store");
                return Err(error).context("verification url: name one by `ca`");
            }
        }
    }
    let provider = Arc::new(tokio_rustls::rustls::crypto::ring::default_provider());
    Ok(ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth())
}
