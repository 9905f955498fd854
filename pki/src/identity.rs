//! A key pair made where it is used, the request for its certificate, and the file of both.

use anyhow::{Context as _, Result, bail};
use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair, PublicKeyData as _};
use rustls_pki_types::PrivateKeyDer;
use rustls_pki_types::pem::PemObject as _;
use zeroize::Zeroizing;

use crate::certificate::{self, Certificate};

/// A private key, not certified yet. ECDSA P-256.
pub struct NewKey {
    key: KeyPair,
}

impl NewKey {
    pub fn generate() -> Result<Self> {
        let key = KeyPair::generate().context("cannot make a key pair")?;
        Ok(Self { key })
    }

    /// The key of an existing file.
    pub fn from_pem(pem: &str) -> Result<Self> {
        private_key(pem).map(|key| Self { key })
    }

    /// A request (PKCS #10, in DER) for a certificate of this name.
    pub fn request(&self, name: &str) -> Result<Vec<u8>> {
        let mut params = CertificateParams::new([name.to_owned()])
            .with_context(|| format!("'{name}' cannot stand in a certificate"))?;
        let mut subject = DistinguishedName::new();
        subject.push(DnType::CommonName, name);
        params.distinguished_name = subject;
        let request = params
            .serialize_request(&self.key)
            .context("cannot sign the request for a certificate")?;
        Ok(request.der().to_vec())
    }

    /// Checks a certificate that was asked for: of this key, with this name alone.
    pub fn check(&self, pem: &str, name: &str) -> Result<Certificate> {
        let certificate = Certificate::from_pem(pem.as_bytes())
            .context("the certificate that the server issued")?;
        if certificate.public_key != self.key.subject_public_key_info() {
            bail!("the server issued a certificate of another key");
        }
        if certificate.names != [name] {
            bail!(
                "the server issued a certificate for {:?} instead of {name}",
                certificate.names
            );
        }
        Ok(certificate)
    }

    /// One file with certificate and key, so that it can be replaced as a whole.
    #[must_use]
    pub fn file(&self, certificate_pem: &str) -> Zeroizing<String> {
        let key = self.to_pem();
        Zeroizing::new(format!("{}\n{}", certificate_pem.trim_end(), *key))
    }

    /// The private key alone.
    #[must_use]
    pub fn to_pem(&self) -> Zeroizing<String> {
        Zeroizing::new(self.key.serialize_pem())
    }
}

/// The private key of a PEM file, wherever in it that stands.
pub fn private_key(pem: &str) -> Result<KeyPair> {
    let key = PrivateKeyDer::from_pem_slice(pem.as_bytes()).ok();
    let key = key.and_then(|der| KeyPair::try_from(&der).ok());
    key.context("there is no usable private key in it")
}

/// Whether a PEM file holds a certificate with this fingerprint.
#[must_use]
pub fn holds(pem: &str, digest: &[u8; 32]) -> bool {
    certificate::chain(pem.as_bytes())
        .is_ok_and(|chain| chain.iter().any(|der| certificate::digest(der) == *digest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_comes_back_from_its_file_and_fits_its_certificate_alone() {
        let key = NewKey::generate().expect("a key");
        let params = CertificateParams::new(["gw1".to_owned()]).expect("a valid name");
        let certificate = params.self_signed(&key.key).expect("signs").pem();
        let file = key.file(&certificate);
        let back = NewKey::from_pem(&file).expect("reads");
        assert!(back.check(&file, "gw1").is_ok());
        assert!(back.check(&file, "gw2").is_err());
        let other = NewKey::generate().expect("a key");
        assert!(other.check(&file, "gw1").is_err());
        assert!(NewKey::from_pem(&certificate).is_err());
        let chain = certificate::chain(file.as_bytes()).expect("a certificate");
        assert!(holds(&file, &certificate::digest(&chain[0])));
        assert!(!holds(&file, &[0; 32]) && !holds("", &[0; 32]));
    }
}
