//! What a certificate says. Whether to believe it, the TLS layer decides.

use std::net::IpAddr;

use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use sha2::{Digest as _, Sha256};
use thiserror::Error;
use uuid::Uuid;
use x509_parser::prelude::{FromDer as _, GeneralName, X509Certificate};

use crate::lifetime::Validity;

#[derive(Debug, Error, PartialEq, Eq)]
pub enum CertificateError {
    #[error("there is no certificate in it")]
    None,
    #[error("a certificate in it cannot be read")]
    Unreadable,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    /// DNS names, for a gateway its own alone.
    pub names: Vec<String>,
    /// IP addresses, for a gateway none (RFC 5280 section 4.2.1.6).
    pub addresses: Vec<IpAddr>,
    pub validity: Validity,
    /// When it was issued, in milliseconds since 1970; 0 where its serial number does not tell.
    pub issued_ms: i64,
    /// The public key with its algorithm, in DER.
    pub public_key: Vec<u8>,
}

impl Certificate {
    pub fn from_der(der: &[u8]) -> Result<Self, CertificateError> {
        let (_, parsed) =
            X509Certificate::from_der(der).map_err(|_| CertificateError::Unreadable)?;
        let alternatives = match parsed.subject_alternative_name() {
            Ok(Some(san)) => san.value.general_names.as_slice(),
            Ok(None) => &[],
            Err(_) => return Err(CertificateError::Unreadable),
        };
        let ms = |time: x509_parser::time::ASN1Time| time.timestamp().saturating_mul(1000);
        Ok(Self {
            names: alternatives.iter().filter_map(dns).collect(),
            addresses: alternatives.iter().filter_map(address).collect(),
            validity: Validity {
                from_ms: ms(parsed.validity().not_before),
                until_ms: ms(parsed.validity().not_after),
            },
            issued_ms: issued_ms(parsed.raw_serial()),
            public_key: parsed.public_key().raw.to_vec(),
        })
    }

    /// The first of a file.
    pub fn from_pem(pem: &[u8]) -> Result<Self, CertificateError> {
        let chain = chain(pem)?;
        Self::from_der(chain.first().ok_or(CertificateError::None)?)
    }
}

fn dns(name: &GeneralName<'_>) -> Option<String> {
    match name {
        GeneralName::DNSName(name) => Some((*name).to_owned()),
        _ => None,
    }
}

/// Four or sixteen octets in the order of the network.
fn address(name: &GeneralName<'_>) -> Option<IpAddr> {
    let GeneralName::IPAddress(octets) = name else {
        return None;
    };
    let v4 = <[u8; 4]>::try_from(*octets).map(IpAddr::from);
    let v6 = <[u8; 16]>::try_from(*octets).map(IpAddr::from);
    v4.or(v6).ok()
}

/// All certificates of a file, at least one.
pub fn chain(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, CertificateError> {
    let found = CertificateDer::pem_slice_iter(pem).collect::<Result<Vec<_>, _>>();
    match found {
        Ok(chain) if chain.is_empty() => Err(CertificateError::None),
        Ok(chain) => Ok(chain),
        Err(_) => Err(CertificateError::Unreadable),
    }
}

/// A serial number that tells when it was made: a UUID of version 7.
#[must_use]
pub fn new_serial() -> Vec<u8> {
    Uuid::now_v7().as_bytes().to_vec()
}

fn issued_ms(serial: &[u8]) -> i64 {
    // DER leaves leading zeros out.
    let mut bytes = [0; 16];
    let Some(start) = bytes.len().checked_sub(serial.len()) else {
        return 0;
    };
    bytes[start..].copy_from_slice(serial);
    let serial = Uuid::from_bytes(bytes);
    match (serial.get_version_num(), serial.get_timestamp()) {
        (7, Some(time)) => {
            let (seconds, nanos) = time.to_unix();
            i64::try_from(seconds)
                .map_or(0, |s| s.saturating_mul(1000) + i64::from(nanos / 1_000_000))
        }
        _ => 0,
    }
}

/// SHA-256 of a certificate in DER: its fingerprint.
#[must_use]
pub fn digest(der: &[u8]) -> [u8; 32] {
    Sha256::digest(der).into()
}

/// A certificate as PEM (RFC 7468).
#[must_use]
pub fn to_pem(der: &[u8]) -> String {
    use base64::Engine as _;
    let body = base64::engine::general_purpose::STANDARD.encode(der);
    let mut text = String::from("-----BEGIN CERTIFICATE-----\n");
    for start in (0..body.len()).step_by(64) {
        text.push_str(&body[start..body.len().min(start + 64)]);
        text.push('\n');
    }
    text.push_str("-----END CERTIFICATE-----\n");
    text
}

/// A fingerprint as `openssl x509 -fingerprint -sha256` prints it.
#[must_use]
pub fn fingerprint(digest: &[u8; 32]) -> String {
    let bytes: Vec<_> = digest.iter().map(|byte| format!("{byte:02X}")).collect();
    bytes.join(":")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_serial_tells_its_time_and_others_tell_none() {
        let serial = new_serial();
        let time = Uuid::from_slice(&serial).expect("16 bytes");
        let (seconds, _) = time.get_timestamp().expect("version 7").to_unix();
        assert_eq!(issued_ms(&serial) / 1000, seconds as i64);
        assert_eq!(
            issued_ms(serial.strip_prefix(&[0]).unwrap_or(&serial)),
            issued_ms(&serial)
        );
        for other in [&[][..], &[1; 16], &[0x7f; 20], &[0; 16]] {
            assert_eq!(issued_ms(other), 0);
        }
    }

    #[test]
    fn pem_and_back() {
        for len in [0, 1, 47, 48, 49, 500] {
            let der: Vec<u8> = (0..len).map(|byte| byte as u8).collect();
            let back = CertificateDer::from_pem_slice(to_pem(&der).as_bytes()).expect("reads");
            assert_eq!(&*back, &der[..]);
        }
    }

    #[test]
    fn files_without_certificates() {
        assert_eq!(Certificate::from_pem(b""), Err(CertificateError::None));
        let broken = b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        assert_eq!(
            Certificate::from_pem(broken),
            Err(CertificateError::Unreadable)
        );
        let cut = b"-----BEGIN CERTIFICATE-----\nAAAA\n";
        assert!(Certificate::from_pem(cut).is_err());
    }
}
