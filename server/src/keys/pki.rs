//! The operator's own certificate authority: it signs the server's certificate and one for each
//! gateway, all ECDSA P-256 and short-lived.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use doorstep_pki::certificate;
use doorstep_pki::identity::{self, NewKey};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DistinguishedName,
    DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, PublicKeyData,
    SanType, SerialNumber,
};
use rustls_pki_types::CertificateSigningRequestDer;
use thiserror::Error;
use time::OffsetDateTime;
use zeroize::Zeroizing;

const DAY: Duration = Duration::from_secs(24 * 3600);
const CA_LIFE: Duration = Duration::from_secs(20 * 365 * 24 * 3600);

/// A CA's certificate and its key.
pub struct Authority {
    pub cert_pem: String,
    key: KeyPair,
}

/// A certificate with a key that was made for it.
pub struct Issued {
    pub cert_pem: String,
    pub key_pem: Zeroizing<String>,
}

/// Why a request for a certificate is refused.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum RequestError {
    #[error("request: not a certificate request that is signed by its own key")]
    Unreadable,
    #[error("request: it must be for {0} and for no other name")]
    Name(String),
}

/// A request whose signature and name have been checked.
pub struct Request {
    name: String,
    parsed: CertificateSigningRequestParams,
}

impl Request {
    /// Of what is asked for, only the public key is taken.
    pub fn check(der: &[u8], name: &str) -> Result<Self, RequestError> {
        let der = CertificateSigningRequestDer::from(der);
        let parsed = CertificateSigningRequestParams::from_der(&der)
            .map_err(|_| RequestError::Unreadable)?;
        let is_name = |san: &SanType| matches!(san, SanType::DnsName(dns) if dns.as_str() == name);
        match &parsed.params.subject_alt_names[..] {
            [only] if is_name(only) => Ok(Request {
                name: name.to_owned(),
                parsed,
            }),
            _ => Err(RequestError::Name(name.to_owned())),
        }
    }
}

fn params(names: &[String], common_name: &str, life: Duration) -> Result<CertificateParams> {
    let mut params = CertificateParams::new(names.to_vec())
        .with_context(|| format!("{names:?} cannot all stand in a certificate"))?;
    let mut subject = DistinguishedName::new();
    subject.push(DnType::CommonName, common_name);
    params.distinguished_name = subject;
    params.serial_number = Some(SerialNumber::from(certificate::new_serial()));
    let now = OffsetDateTime::now_utc();
    // Clocks at the other end may be a little behind.
    params.not_before = now - DAY.min(life / 10);
    params.not_after = now + life;
    Ok(params)
}

impl Authority {
    pub fn make(operator: &str) -> Result<Self> {
        let mut params = params(&[], &format!("Doorstep CA of {operator}"), CA_LIFE)?;
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate().context("cannot make the CA's key")?;
        let cert = params
            .self_signed(&key)
            .context("cannot make the CA's certificate")?;
        Ok(Authority {
            cert_pem: cert.pem(),
            key,
        })
    }

    /// From a file with a key and its certificate; without one, the certificate is looked for
    /// among the trusted ones.
    pub fn read(file: &str, trusted: &str) -> Result<Self> {
        let key = identity::private_key(file).context("the CA's key is unreadable")?;
        let public = key.subject_public_key_info();
        let own = [file, trusted].into_iter().find_map(|pem| {
            pem_blocks(pem).find(|block| {
                certificate::Certificate::from_pem(block.as_bytes())
                    .is_ok_and(|certificate| certificate.public_key == public)
            })
        });
        match own {
            Some(cert_pem) => Ok(Authority { cert_pem, key }),
            None => bail!("the CA's key has no certificate, neither beside it nor in ca.pem"),
        }
    }

    /// Key and certificate, so that a CA is put in the place of another in one step.
    pub fn file(&self) -> Zeroizing<String> {
        let key = Zeroizing::new(self.key.serialize_pem());
        Zeroizing::new(format!("{}\n{}", self.cert_pem.trim_end(), *key))
    }

    /// SHA-256 of the certificate.
    pub fn digest(&self) -> Result<[u8; 32]> {
        let chain = certificate::chain(self.cert_pem.as_bytes())?;
        Ok(certificate::digest(&chain[0]))
    }

    /// A file with the server's certificate, the CA's, and a new key. The CA's is there for
    /// gateways that know no more of it than its fingerprint.
    pub fn issue_server(
        &self,
        operator: &str,
        names: &[String],
        life: Duration,
    ) -> Result<Zeroizing<String>> {
        let key = KeyPair::generate().context("cannot make the server's key")?;
        let usage = ExtendedKeyUsagePurpose::ServerAuth;
        let cert = self.sign(&key, names, operator, usage, life)?;
        let key = Zeroizing::new(key.serialize_pem());
        Ok(Zeroizing::new(format!(
            "{}\n{}\n{}",
            cert.trim_end(),
            self.cert_pem.trim_end(),
            *key
        )))
    }

    /// The certificate, in PEM, that a gateway has asked for.
    pub fn issue_gateway(&self, request: &Request, life: Duration) -> Result<String> {
        let names = [request.name.clone()];
        let usage = ExtendedKeyUsagePurpose::ClientAuth;
        self.sign(
            &request.parsed.public_key,
            &names,
            &request.name,
            usage,
            life,
        )
    }

    /// Makes a gateway's key here as well.
    pub fn issue_with_key(&self, name: &str, life: Duration) -> Result<Issued> {
        let key = NewKey::generate()?;
        let request = Request::check(&key.request(name)?, name)?;
        Ok(Issued {
            cert_pem: self.issue_gateway(&request, life)?,
            key_pem: key.to_pem(),
        })
    }

    fn sign(
        &self,
        public_key: &impl PublicKeyData,
        names: &[String],
        common_name: &str,
        usage: ExtendedKeyUsagePurpose,
        life: Duration,
    ) -> Result<String> {
        let issuer = Issuer::from_ca_cert_pem(&self.cert_pem, &self.key)
            .context("the CA's certificate is unreadable")?;
        let mut params = params(names, common_name, life)?;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![usage];
        params.use_authority_key_identifier_extension = true;
        let cert = params
            .signed_by(public_key, &issuer)
            .with_context(|| format!("cannot issue the certificate of {common_name}"))?;
        Ok(cert.pem())
    }
}

/// The certificates of a PEM text, each as PEM.
pub fn pem_blocks(pem: &str) -> impl Iterator<Item = String> + '_ {
    const END: &str = "-----END CERTIFICATE-----";
    pem.split_inclusive(END).filter_map(|part| {
        let start = part.find("-----BEGIN CERTIFICATE-----")?;
        part.ends_with(END).then(|| format!("{}\n", &part[start..]))
    })
}

/// SHA-256 of the first certificate, as `openssl x509 -fingerprint -sha256` prints it.
pub fn fingerprint(pem: &str) -> Result<String> {
    let chain = certificate::chain(pem.as_bytes())?;
    Ok(certificate::fingerprint(&certificate::digest(&chain[0])))
}
