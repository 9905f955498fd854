//! Where browsers are served: what all sections of pages have in common.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde::Serialize;

/// A port of pages for browsers.
#[derive(Clone, Debug, Serialize)]
pub struct Site {
    pub listen: SocketAddr,
    /// Without it only this host is served.
    pub tls: bool,
    /// Certificate and key that browsers trust; none: the server's own.
    pub certificate: Option<Files>,
}

/// A certificate's chain and its key, PEM.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Files {
    pub certificate: PathBuf,
    pub key: PathBuf,
}

impl Site {
    /// `section` is what problems begin with, `folder` what relative paths are relative to.
    pub(super) fn check(
        section: &str,
        folder: &Path,
        (listen, tls): (SocketAddr, bool),
        files: (Option<PathBuf>, Option<PathBuf>),
    ) -> Result<Site, String> {
        let certificate = match files {
            (Some(certificate), Some(key)) => Some(Files {
                certificate: folder.join(certificate),
                key: folder.join(key),
            }),
            (None, None) => None,
            _ => {
                return Err(format!(
                    "{section}: certificate and key belong together; give both or neither"
                ));
            }
        };
        if !tls && certificate.is_some() {
            return Err(format!(
                "{section}: a certificate is of no use with `tls = false`"
            ));
        }
        if !tls && !listen.ip().is_loopback() {
            return Err(format!(
                "{section}: without TLS it may listen on this host's loopback only, such as \
                 127.0.0.1:{}; leave `tls` out for any other address",
                listen.port()
            ));
        }
        Ok(Site {
            listen,
            tls,
            certificate,
        })
    }
}
