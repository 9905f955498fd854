//! The enrollment token: what an operator hands to whoever sets up a gateway, once.
//!
//! `dt1.GATEWAY.OPERATOR.AUTHORITY.SECRET`, the last two in base64url: the SHA-256 of the
//! operator's CA certificate, by which the gateway knows the server at first contact, and 32
//! random bytes, by which the server knows the gateway.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rand::TryRngCore as _;
use sha2::{Digest as _, Sha256};
use thiserror::Error;
use zeroize::{Zeroize as _, Zeroizing};

const VERSION: &str = "dt1";
/// Two names and two encoded fields at their longest.
const MAX_LEN: usize = 3 + 4 + 2 * 63 + 2 * 43;

#[derive(Clone)]
pub struct Token {
    pub gateway: String,
    pub operator: String,
    /// SHA-256 of the CA certificate in DER.
    pub authority: [u8; 32],
    secret: Zeroizing<[u8; 32]>,
}

#[derive(Debug, Error, PartialEq, Eq)]
pub enum TokenError {
    #[error(
        "not an enrollment token: it is of the form dt1.GATEWAY.OPERATOR.….…, as `doorstep-server pki token` prints it; see that it was copied as a whole"
    )]
    Malformed,
    #[error("the operating system gives no random numbers")]
    Random,
}

impl Token {
    pub fn generate(
        gateway: &str,
        operator: &str,
        authority: [u8; 32],
    ) -> Result<Self, TokenError> {
        let mut secret = Zeroizing::new([0; 32]);
        rand::rngs::OsRng
            .try_fill_bytes(secret.as_mut_slice())
            .map_err(|_| TokenError::Random)?;
        Ok(Self {
            gateway: gateway.to_owned(),
            operator: operator.to_owned(),
            authority,
            secret,
        })
    }

    pub fn parse(text: &str) -> Result<Self, TokenError> {
        let text = text.trim();
        let mut parts = text.split('.');
        let mut next = || parts.next().ok_or(TokenError::Malformed);
        if text.len() > MAX_LEN || next()? != VERSION {
            return Err(TokenError::Malformed);
        }
        let token = Self {
            gateway: name(next()?)?,
            operator: name(next()?)?,
            authority: *bytes(next()?)?,
            secret: bytes(next()?)?,
        };
        match parts.next() {
            None => Ok(token),
            Some(_) => Err(TokenError::Malformed),
        }
    }

    /// The secret form.
    #[must_use]
    pub fn to_text(&self) -> Zeroizing<String> {
        let mut secret = URL_SAFE_NO_PAD.encode(self.secret.as_slice());
        let text = Zeroizing::new(format!(
            "{VERSION}.{}.{}.{}.{secret}",
            self.gateway,
            self.operator,
            URL_SAFE_NO_PAD.encode(self.authority),
        ));
        secret.zeroize();
        text
    }

    /// What the server keeps: it neither is the token nor leads to it. In hexadecimal digits.
    #[must_use]
    pub fn hash(&self) -> String {
        let mut hash = Sha256::new();
        hash.update(b"doorstep enrollment 1\0");
        hash.update(self.gateway.as_bytes());
        hash.update([0]);
        hash.update(self.secret.as_slice());
        crate::files::to_hex(&hash.finalize()).to_string()
    }
}

/// Without the secret.
impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Token")
            .field("gateway", &self.gateway)
            .field("operator", &self.operator)
            .finish_non_exhaustive()
    }
}

fn name(text: &str) -> Result<String, TokenError> {
    if is_name(text) {
        Ok(text.to_owned())
    } else {
        Err(TokenError::Malformed)
    }
}

/// Names of operators and gateways stand in certificates, logs and file names.
#[must_use]
pub fn is_name(text: &str) -> bool {
    (1..=63).contains(&text.len())
        && !text.starts_with('-')
        && !text.ends_with('-')
        && text
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
}

fn bytes(text: &str) -> Result<Zeroizing<[u8; 32]>, TokenError> {
    let decoded = URL_SAFE_NO_PAD.decode(text).map(Zeroizing::new);
    let decoded = decoded.map_err(|_| TokenError::Malformed)?;
    let mut bytes = Zeroizing::new([0; 32]);
    if decoded.len() != bytes.len() {
        return Err(TokenError::Malformed);
    }
    bytes.copy_from_slice(&decoded);
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn token() -> Token {
        Token::generate("gw1", "north-net", [7; 32]).expect("random numbers")
    }

    #[test]
    fn a_token_comes_back_and_no_two_are_alike() {
        let token = token();
        let back = Token::parse(&format!(" {}\n", *token.to_text())).expect("parses");
        assert_eq!(
            (&back.gateway[..], &back.operator[..]),
            ("gw1", "north-net")
        );
        assert_eq!((back.authority, back.hash()), ([7; 32], token.hash()));
        assert_ne!(self::token().hash(), token.hash());
        let mut other = token.clone();
        other.gateway = "gw2".into();
        assert_ne!(other.hash(), token.hash(), "bound to the gateway's name");
    }

    #[test]
    fn neither_hash_nor_debug_tell_the_secret() {
        let token = token();
        let text = token.to_text();
        let secret = text.rsplit('.').next().expect("the secret");
        let hex = crate::files::to_hex(token.secret.as_slice());
        for shown in [format!("{token:?}"), token.hash()] {
            assert!(!shown.contains(secret) && !shown.contains(hex.as_str()));
        }
    }

    #[test]
    fn what_is_no_token() {
        let good = token().to_text().to_string();
        for bad in [
            "",
            "dt1",
            &good.replacen("dt1", "dt2", 1),
            &good.replacen("gw1", "GW1", 1),
            &good.replacen("gw1", "", 1),
            &format!("{good}.x"),
            &good[..good.len() - 1],
            &format!("{good}A"),
            &"x".repeat(100_000),
        ] {
            assert_eq!(
                Token::parse(bad).err(),
                Some(TokenError::Malformed),
                "{bad}"
            );
        }
    }

    proptest! {
        #[test]
        fn any_text_is_parsed_or_refused(text in "(dt1)?[a-z0-9.A-Z_-]{0,250}") {
            if let Ok(token) = Token::parse(&text) {
                let back = token.to_text();
                prop_assert_eq!(back.as_str(), text.trim());
            }
        }
    }
}
