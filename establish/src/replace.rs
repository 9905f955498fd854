//! A session in another's place: only who holds the keys of both can say so.

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;
use uuid::Uuid;

use crate::{Body, Message, Nonce, SessionKey};

/// Sets a proof apart from the tags of datagrams, which begin with their direction: 1 or 2.
const PROOF: u8 = 3;

/// A session that a terminal holds, and that is to end when another begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Former {
    /// Its id.
    pub session: Uuid,
    /// Its generation.
    pub generation: u64,
    /// Its key, of that generation.
    pub key: SessionKey,
}

/// The session that ends with an acceptance, as an Accept names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Replaced {
    /// Its id.
    pub session: Uuid,
    /// Its generation.
    pub generation: u64,
    /// HMAC-SHA256 under its key over both sessions, their generations, and the nonce of the
    /// establishment in which it is said. So it proves nothing about another session, nor for
    /// another one, nor a second time.
    pub proof: [u8; 32],
}

impl Former {
    /// Says that this session ends when `session` begins in the establishment given.
    #[must_use]
    pub fn replaced_by(&self, session: Uuid, generation: u64, nonce: Nonce) -> Replaced {
        let named = (self.session, self.generation);
        let proof = proof(&self.key, named, (session, generation), nonce);
        Replaced {
            session: self.session,
            generation: self.generation,
            proof: proof.finalize().into_bytes().into(),
        }
    }
}

impl Replaced {
    /// Whether it was made with `key`, that of the session that it names, for what is said in
    /// `body` about `session`.
    #[must_use]
    pub fn is_proven(&self, key: &SessionKey, session: Uuid, body: &Body) -> bool {
        let named = (self.session, self.generation);
        proof(key, named, (session, body.generation), body.nonce)
            .verify_slice(&self.proof)
            .is_ok()
    }
}

impl Body {
    /// The session that is to end, where this accepts another in its place.
    #[must_use]
    pub fn replaces(&self) -> Option<&Replaced> {
        match &self.message {
            Message::Accept { replaces, .. } => replaces.as_ref(),
            _ => None,
        }
    }
}

fn proof(key: &SessionKey, former: (Uuid, u64), begins: (Uuid, u64), nonce: Nonce) -> Hmac<Sha256> {
    Hmac::<Sha256>::new_from_slice(key.as_bytes())
        .expect("HMAC takes keys of any length")
        .chain_update([PROOF])
        .chain_update(former.0.as_bytes())
        .chain_update(former.1.to_be_bytes())
        .chain_update(begins.0.as_bytes())
        .chain_update(begins.1.to_be_bytes())
        .chain_update(nonce.0)
}
