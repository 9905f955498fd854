//! What a terminal asks, again and again, to know that its session is alive at the gateway, and the
//! answer.
//!
//! The answer does not come from the gateway's daemon but from its fast path, which has no room for
//! protobuf and HMAC. So both are 32 bytes of fixed layout under SipHash-2-4, with a key of each
//! establishment that is derived from the session's; `datapath/src/probe.rs` in the gateway is the
//! other end, and shows the layout. A datagram of the exchange never begins as these do.

use std::fmt;
use std::hash::Hasher as _;

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;
use siphasher::sip::SipHasher24;
use uuid::Uuid;
use zeroize::ZeroizeOnDrop;

use crate::{Nonce, SessionKey};

/// Sets the derivation apart from what else is authenticated with the session key: 1 and 2 are
/// directions, 3 is a proof.
const PROBE: u8 = 4;

const ASK: [u8; 4] = [0, b'd', b's', 1];
const ANSWER: [u8; 4] = [0, b'd', b's', 2];

/// Length of question and answer.
pub const PROBE_LEN: usize = 32;

/// 16 bytes, for the questions of one establishment. Wiped on drop, never shown.
#[derive(Clone, PartialEq, Eq, ZeroizeOnDrop)]
pub struct ProbeKey([u64; 2]);

impl fmt::Debug for ProbeKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ProbeKey(..)")
    }
}

impl ProbeKey {
    /// The key of the establishment with `nonce`: the first half of HMAC-SHA256 under the session key
    /// over 0x04, session, generation and nonce.
    #[must_use]
    pub fn derive(key: &SessionKey, session: Uuid, generation: u64, nonce: Nonce) -> Self {
        let tag = Hmac::<Sha256>::new_from_slice(key.as_bytes())
            .expect("HMAC takes keys of any length")
            .chain_update([PROBE])
            .chain_update(session.as_bytes())
            .chain_update(generation.to_be_bytes())
            .chain_update(nonce.0)
            .finalize()
            .into_bytes();
        let word = |at: usize| u64::from_le_bytes(std::array::from_fn(|i| tag[at + i]));
        Self([word(0), word(8)])
    }

    /// As SipHash takes it, for the fast path and nothing else.
    #[must_use]
    pub fn words(&self) -> [u64; 2] {
        self.0
    }

    fn tag(&self, bytes: &[u8]) -> [u8; 8] {
        let mut hasher = SipHasher24::new_with_keys(self.0[0], self.0[1]);
        hasher.write(bytes);
        hasher.finish().to_le_bytes()
    }
}

/// A question, or its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Probe {
    /// Where the gateway has the session; the Confirm told it.
    pub slot: u32,
    /// Of a question: grows, so that a replay is no sign of life. Of an answer: the highest that has
    /// come.
    pub sequence: u64,
    /// Chosen anew for each question, and echoed.
    pub nonce: u64,
}

impl Probe {
    /// The datagram that asks.
    #[must_use]
    pub fn ask(&self, key: &ProbeKey) -> [u8; PROBE_LEN] {
        self.encode(ASK, key)
    }

    /// The datagram that answers, as the gateway's fast path makes it.
    #[must_use]
    pub fn answer(&self, key: &ProbeKey) -> [u8; PROBE_LEN] {
        self.encode(ANSWER, key)
    }

    /// Reads an answer; none if it is something else, or was not made with this key.
    #[must_use]
    pub fn open_answer(datagram: &[u8], key: &ProbeKey) -> Option<Self> {
        Self::decode(datagram, ANSWER, key)
    }

    /// Reads a question, as the gateway's fast path does.
    #[must_use]
    pub fn open_ask(datagram: &[u8], key: &ProbeKey) -> Option<Self> {
        Self::decode(datagram, ASK, key)
    }

    fn encode(&self, magic: [u8; 4], key: &ProbeKey) -> [u8; PROBE_LEN] {
        let mut bytes = [0; PROBE_LEN];
        bytes[..4].copy_from_slice(&magic);
        bytes[4..8].copy_from_slice(&self.slot.to_be_bytes());
        bytes[8..16].copy_from_slice(&self.sequence.to_be_bytes());
        bytes[16..24].copy_from_slice(&self.nonce.to_be_bytes());
        let tag = key.tag(&bytes[..24]);
        bytes[24..].copy_from_slice(&tag);
        bytes
    }

    fn decode(datagram: &[u8], magic: [u8; 4], key: &ProbeKey) -> Option<Self> {
        let bytes: &[u8; PROBE_LEN] = datagram.try_into().ok()?;
        let (said, tag) = bytes.split_at(24);
        if said[..4] != magic || key.tag(said) != tag {
            return None;
        }
        let word = |at: usize| u64::from_be_bytes(std::array::from_fn(|i| said[at + i]));
        Some(Self {
            slot: u32::from_be_bytes(std::array::from_fn(|i| said[4 + i])),
            sequence: word(8),
            nonce: word(16),
        })
    }
}

/// Whether a datagram answers a question, as far as can be told without a key.
#[must_use]
pub fn is_answer(datagram: &[u8]) -> bool {
    datagram.len() == PROBE_LEN && datagram.starts_with(&ANSWER)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(nonce: u8) -> ProbeKey {
        let session = SessionKey::from_slice(&[7; 32]).unwrap();
        ProbeKey::derive(&session, Uuid::from_u128(1), 3, Nonce([nonce; 16]))
    }

    const PROBE: Probe = Probe {
        slot: 0x0102_0304,
        sequence: 5,
        nonce: 0x1112_1314_1516_1718,
    };

    #[test]
    fn what_is_said_is_heard_and_nothing_else() {
        let (ask, answer) = (PROBE.ask(&key(1)), PROBE.answer(&key(1)));
        assert_eq!(Probe::open_ask(&ask, &key(1)), Some(PROBE));
        assert_eq!(Probe::open_answer(&answer, &key(1)), Some(PROBE));
        assert!(is_answer(&answer) && !is_answer(&ask));
        assert_eq!(Probe::open_answer(&ask, &key(1)), None, "sent back");
        assert_eq!(
            Probe::open_answer(&answer, &key(2)),
            None,
            "another establishment's"
        );
        for bit in 0..PROBE_LEN * 8 {
            let mut changed = answer;
            changed[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Probe::open_answer(&changed, &key(1)), None, "bit {bit}");
        }
        for len in 0..PROBE_LEN {
            assert_eq!(Probe::open_answer(&answer[..len], &key(1)), None);
        }
    }

    #[test]
    fn is_no_message_of_the_exchange() {
        assert_eq!(crate::session_of(&PROBE.ask(&key(1))), None);
        assert_eq!(crate::Garden::decode(&PROBE.answer(&key(1))), None);
    }
}
