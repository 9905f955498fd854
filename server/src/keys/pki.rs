//! The operator's own certificate authority: one CA, the server's certificate, one client
//! certificate per gateway. ECDSA P-256.

use anyhow::{Context, Result};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose,
};
use sha2::{Digest, Sha256};
use time::{Duration, OffsetDateTime};
use tonic::transport::CertificateDer;
use zeroize::Zeroizing;

const CA_DAYS: i64 = 20 * 365;
const LEAF_DAYS: i64 = 5 * 365;

pub struct Authority {
    pub cert_pem: String,
    pub key_pem: Zeroizing<String>,
}

pub struct Issued {
    pub cert_pem: String,
    pub key_pem: Zeroizing<String>,
}

fn params(names: &[String], common_name: &str, days: i64) -> Result<CertificateParams> {
    let mut params = CertificateParams::new(names.to_vec())
        .with_context(|| format!("{names:?} cannot all stand in a certificate"))?;
    let mut subject = DistinguishedName::new();
    subject.push(DnType::CommonName, common_name);
    params.distinguished_name = subject;
    let now = OffsetDateTime::now_utc();
    // Clocks of gateways may be a little behind.
    params.not_before = now - Duration::days(1);
    params.not_after = now + Duration::days(days);
    Ok(params)
}

pub fn make_authority(operator: &str) -> Result<Authority> {
    let mut params = params(&[], &format!("Doorstep CA of {operator}"), CA_DAYS)?;
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let key = KeyPair::generate().context("cannot make the CA's key")?;
    let cert = params
        .self_signed(&key)
        .context("cannot make the CA's certificate")?;
    Ok(Authority {
        cert_pem: cert.pem(),
        key_pem: Zeroizing::new(key.serialize_pem()),
    })
}

pub fn issue_server(authority: &Authority, operator: &str, names: &[String]) -> Result<Issued> {
    issue(
        authority,
        names,
        operator,
        ExtendedKeyUsagePurpose::ServerAuth,
    )
}

pub fn issue_gateway(authority: &Authority, name: &str) -> Result<Issued> {
    issue(
        authority,
        &[name.to_owned()],
        name,
        ExtendedKeyUsagePurpose::ClientAuth,
    )
}

fn issue(
    authority: &Authority,
    names: &[String],
    common_name: &str,
    usage: ExtendedKeyUsagePurpose,
) -> Result<Issued> {
    let ca_key = KeyPair::from_pem(&authority.key_pem).context("the CA's key is unreadable")?;
    let issuer = Issuer::from_ca_cert_pem(&authority.cert_pem, ca_key)
        .context("the CA's certificate is unreadable")?;
    let mut params = params(names, common_name, LEAF_DAYS)?;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![usage];
    params.use_authority_key_identifier_extension = true;
    let key = KeyPair::generate().context("cannot make a key")?;
    let cert = params
        .signed_by(&key, &issuer)
        .with_context(|| format!("cannot issue the certificate of {common_name}"))?;
    Ok(Issued {
        cert_pem: cert.pem(),
        key_pem: Zeroizing::new(key.serialize_pem()),
    })
}

/// SHA-256 of a PEM certificate's DER form, as `openssl x509 -fingerprint -sha256` prints it.
pub fn fingerprint(cert_pem: &str) -> Result<String> {
    use base64::Engine as _;
    let body: String = cert_pem
        .lines()
        .map(str::trim)
        .skip_while(|line| *line != "-----BEGIN CERTIFICATE-----")
        .skip(1)
        .take_while(|line| *line != "-----END CERTIFICATE-----")
        .collect();
    let der = base64::engine::general_purpose::STANDARD
        .decode(body)
        .ok()
        .filter(|der| !der.is_empty())
        .context("not a PEM certificate")?;
    Ok(Sha256::digest(der)
        .iter()
        .map(|byte| format!("{byte:02X}"))
        .collect::<Vec<_>>()
        .join(":"))
}

/// The DNS names of a certificate that the TLS layer has verified already.
pub fn dns_names(certificate: &CertificateDer<'_>) -> Vec<String> {
    match webpki::EndEntityCert::try_from(certificate) {
        Ok(parsed) => parsed.valid_dns_names().map(str::to_owned).collect(),
        Err(_) => Vec::new(),
    }
}
