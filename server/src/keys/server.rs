//! The server's own certificate: `server.pem` holds it, its CA's, and its key, so that it is
//! replaced in one step; renewed by whoever has the CA's key, read again by all.

use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;
use std::sync::{Arc, PoisonError, RwLock};

use anyhow::{Context, Result};
use doorstep_pki::certificate::{self, Certificate};
use doorstep_pki::files;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use sha2::{Digest as _, Sha256};
use tokio_rustls::rustls::crypto::{CryptoProvider, ring};
use tokio_rustls::rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use tokio_rustls::rustls::{RootCertStore, ServerConfig, version};
use zeroize::Zeroizing;

use super::pki::{self, Authority};
use super::{authority, ca_pem, existing_dir};
use crate::config::{self, Config};

const SERVER: &str = "server.pem";
/// A key of its own file, where `server.pem` was put there by somebody else and holds none.
const SERVER_KEY: &str = "server.key";

/// Puts a new certificate and key in the place of the server's.
pub fn issue(config: &Config, authority: &Authority) -> Result<()> {
    let life = config.certificates.server;
    let file = authority.issue_server(&config.operator, &config.server_names, life)?;
    files::replace(&config.keys_dir().join(SERVER), file.as_bytes(), 0o600)
}

/// The server's certificate, for people to see.
pub fn current(config: &Config) -> Result<(Certificate, String)> {
    let pem = read(config)?;
    Ok((
        Certificate::from_pem(pem.as_bytes())?,
        pki::fingerprint(&pem)?,
    ))
}

fn read(config: &Config) -> Result<Zeroizing<String>> {
    let path = existing_dir(config)?.join(SERVER);
    std::fs::read_to_string(&path)
        .map(Zeroizing::new)
        .with_context(|| format!("cannot read {}", path.display()))
}

/// Why a certificate is to be replaced now, if it is.
fn due(config: &Config, authority: &Authority, now_ms: i64, roll: f64) -> Option<&'static str> {
    let Ok(pem) = read(config) else {
        return Some("there is none");
    };
    let Ok(certificate) = Certificate::from_pem(pem.as_bytes()) else {
        return Some("it cannot be read");
    };
    if !has_names(&certificate, &config.server_names) {
        Some("the configuration has other names")
    } else if !pki::pem_blocks(&pem).any(|block| block.trim() == authority.cert_pem.trim()) {
        Some("another authority signs now")
    } else if now_ms >= certificate.validity.renewal_ms(roll) {
        Some("two thirds of its life are over")
    } else {
        None
    }
}

/// Whether a certificate is for these names and addresses, and no others.
fn has_names(certificate: &Certificate, wanted: &[String]) -> bool {
    let (mut names, mut addresses) = (BTreeSet::new(), BTreeSet::new());
    for name in wanted {
        match name.parse::<IpAddr>() {
            Ok(address) => addresses.insert(address),
            Err(_) => names.insert(name.as_str()),
        };
    }
    let has_names: BTreeSet<_> = certificate.names.iter().map(String::as_str).collect();
    let has_addresses: BTreeSet<_> = certificate.addresses.iter().copied().collect();
    has_names == names && has_addresses == addresses
}

/// What browsers are served by this program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Site {
    /// For the operator's people.
    Console,
    /// For subscribers' phones.
    App,
}

impl Site {
    const ALL: [Site; 2] = [Site::Console, Site::App];

    fn of(self, config: &Config) -> Option<&config::Site> {
        match self {
            Site::Console => config.console.as_ref().map(|console| &console.site),
            Site::App => config.app.as_ref().map(|app| &app.site),
        }
    }
}

impl fmt::Display for Site {
    /// As its section is called.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Site::Console => "console",
            Site::App => "app",
        })
    }
}

/// TLS as it is to be spoken with the next client. Connections that stand keep what they have.
pub struct ServerTls {
    config: Arc<Config>,
    /// Of the server's life, when to renew.
    roll: f64,
    current: RwLock<Loaded>,
}

struct Loaded {
    tls: Arc<ServerConfig>,
    /// For browsers, where a site is served with TLS.
    sites: [Option<Arc<ServerConfig>>; Site::ALL.len()],
    /// Of the files that it was made from.
    digest: [u8; 32],
}

impl ServerTls {
    pub fn load(config: Arc<Config>) -> Result<Self> {
        let roll = rand::random_range(0.0..=1.0);
        renew(&config, crate::engine::now_ms(), roll)?;
        let current = RwLock::new(load(&config)?);
        Ok(ServerTls {
            config,
            roll,
            current,
        })
    }

    pub fn current(&self) -> Arc<ServerConfig> {
        let current = self.current.read().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(&current.tls)
    }

    /// The same for the next browser; none: the site has no TLS, or there is none.
    pub fn site(&self, site: Site) -> Option<Arc<ServerConfig>> {
        let current = self.current.read().unwrap_or_else(PoisonError::into_inner);
        current.sites[site as usize].clone()
    }

    /// Renews the certificate if that is due and this server can, and takes up files that have
    /// changed. Files that do not work leave everything as it is. Blocks on the disk.
    pub fn refresh(&self, now_ms: i64) -> Result<bool> {
        let renewed = renew(&self.config, now_ms, self.roll);
        let loaded = load(&self.config)?;
        let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
        let changed = current.digest != loaded.digest;
        if changed {
            *current = loaded;
        }
        renewed.map(|()| changed)
    }
}

fn renew(config: &Config, now_ms: i64, roll: f64) -> Result<()> {
    let Some(authority) = authority(config)? else {
        return Ok(());
    };
    if let Some(reason) = due(config, &authority, now_ms, roll) {
        issue(config, &authority).context("cannot renew the server's certificate")?;
        tracing::info!(reason, "the server has a new certificate");
    }
    Ok(())
}

fn load(config: &Config) -> Result<Loaded> {
    let (ca, pem) = (ca_pem(config)?, read(config)?);
    let path = config.keys_dir().join(SERVER);
    let chain = certificate::chain(pem.as_bytes()).with_context(|| path.display().to_string())?;
    let key_file;
    let key = match PrivateKeyDer::from_pem_slice(pem.as_bytes()) {
        Ok(key) => {
            // Its mode is looked at only where it holds a secret.
            files::read_private(&path)?;
            key_file = Zeroizing::default();
            key
        }
        Err(_) => {
            let path = config.keys_dir().join(SERVER_KEY);
            key_file = files::read_private(&path)?;
            PrivateKeyDer::from_pem_slice(key_file.as_bytes())
                .ok()
                .with_context(|| format!("{} holds no private key", path.display()))?
        }
    };
    let mut trusted = RootCertStore::empty();
    let ca_path = super::ca_path(config);
    for der in certificate::chain(ca.as_bytes()).with_context(|| ca_path.display().to_string())? {
        trusted
            .add(der)
            .with_context(|| format!("{}: not an authority's certificate", ca_path.display()))?;
    }
    let provider = Arc::new(ring::default_provider());
    let mut digest = Sha256::new();
    let mut sites = [None, None];
    for site in Site::ALL {
        if let Some(given) = site.of(config).filter(|given| given.tls) {
            let own = (chain.clone(), key.clone_key());
            let tls = site_tls((site, given), own, &provider, &mut digest)?;
            sites[site as usize] = Some(tls);
        }
    }
    // Terminals have no certificate; services of gateways insist on one themselves.
    let clients =
        WebPkiClientVerifier::builder_with_provider(Arc::new(trusted), Arc::clone(&provider))
            .allow_unauthenticated()
            .build()
            .with_context(|| ca_path.display().to_string())?;
    // Doorstep's own programs are the only clients.
    let mut tls = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&version::TLS13])?
        .with_client_cert_verifier(clients)
        .with_single_cert(chain, key)
        .with_context(|| {
            format!(
                "{}: certificate and key do not belong together; see `pki show`",
                path.display()
            )
        })?;
    tls.alpn_protocols = vec![b"h2".to_vec()];
    // A resumed session would show a certificate that nobody has looked at again.
    tls.session_storage = Arc::new(NoServerSessionStorage {});
    tls.send_tls13_tickets = 0;
    for part in [&ca, &*pem, &*key_file] {
        add(&mut digest, part);
    }
    Ok(Loaded {
        tls: Arc::new(tls),
        sites,
        digest: digest.finalize().into(),
    })
}

fn add(digest: &mut Sha256, part: &str) {
    digest.update(part.len().to_be_bytes());
    digest.update(part.as_bytes());
}

/// What is spoken with browsers: nobody is asked for a certificate.
fn site_tls(
    (site, given): (Site, &config::Site),
    own: (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>),
    provider: &Arc<CryptoProvider>,
    digest: &mut Sha256,
) -> Result<Arc<ServerConfig>> {
    let (chain, key) = match &given.certificate {
        None => own,
        Some(files) => {
            let path = &files.certificate;
            let pem = std::fs::read_to_string(path)
                .with_context(|| format!("{site}: cannot read {}", path.display()))?;
            let chain = certificate::chain(pem.as_bytes())
                .with_context(|| format!("{site}: {}", path.display()))?;
            let key_pem = files::read_private(&files.key).with_context(|| site.to_string())?;
            let key = PrivateKeyDer::from_pem_slice(key_pem.as_bytes())
                .ok()
                .with_context(|| format!("{site}: {} holds no private key", files.key.display()))?;
            add(digest, &pem);
            add(digest, &key_pem);
            (chain, key)
        }
    };
    let mut tls = ServerConfig::builder_with_provider(Arc::clone(provider))
        .with_protocol_versions(&[&version::TLS13])?
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .with_context(|| format!("{site}: certificate and key do not belong together"))?;
    tls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(tls))
}
