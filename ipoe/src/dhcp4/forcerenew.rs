//! FORCERENEW (RFC 3203), authenticated by a nonce (RFC 6704): a client is told to renew at once.
//!
//! The client says that it can, the acknowledgement carries the nonce, and a later FORCERENEW is signed
//! with it. The nonce is derived from what is known of the session anyway, so that it is the same
//! after every start without anything being stored.

use std::fmt;

use dhcproto::Encodable as _;
use dhcproto::v4::{DhcpOption, Message, MessageType, Opcode};
use hmac::{Hmac, KeyInit as _, Mac as _};
use md5::Md5;
use sha2::Sha256;

use super::reply::{insert, padded};
use super::{CLIENT_PORT, Line, SERVER_PORT};
use crate::frame::{Datagram, Mac};

/// Option codes (RFC 3118, 2; RFC 6704, 4.1).
pub(super) const AUTHENTICATION: u8 = 90;
pub(super) const NONCE_CAPABLE: u8 = 145;
/// HMAC-MD5, the one algorithm that there is.
pub(super) const HMAC_MD5: u8 = 1;

/// Protocol "reconfigure key" (RFC 6704, 4.2), and replay detection by a growing counter.
const RECONFIGURE_KEY: u8 = 3;
const GROWING: u8 = 0;
/// What the option carries.
const NONCE: u8 = 1;
const DIGEST: u8 = 2;
const DIGEST_LEN: usize = 16;

/// What a FORCERENEW to a lease's client is signed with.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Forcerenew {
    nonce: [u8; DIGEST_LEN],
    /// Greater in every message than in those before.
    pub counter: u64,
}

impl Forcerenew {
    /// For a client of a session that has this key, in this generation.
    #[must_use]
    pub fn derive(key: &[u8; 32], generation: u64, client: Mac, counter: u64) -> Self {
        let mut mac = <Hmac<Sha256>>::new_from_slice(key).expect("keys have any length");
        mac.update(b"doorstep forcerenew nonce");
        mac.update(&generation.to_be_bytes());
        mac.update(&client);
        let full = mac.finalize().into_bytes();
        let mut nonce = [0; DIGEST_LEN];
        nonce.copy_from_slice(&full[..DIGEST_LEN]);
        Self { nonce, counter }
    }

    /// The option that tells the client its nonce.
    pub(super) fn told(&self) -> Vec<u8> {
        self.option(NONCE, self.nonce)
    }

    fn option(&self, kind: u8, value: [u8; DIGEST_LEN]) -> Vec<u8> {
        let head = [RECONFIGURE_KEY, HMAC_MD5, GROWING];
        let data = [&head[..], &self.counter.to_be_bytes(), &[kind], &value].concat();
        [&[AUTHENTICATION, data.len() as u8], &data[..]].concat()
    }

    fn sign(&self, message: &[u8]) -> [u8; DIGEST_LEN] {
        let mut mac = <Hmac<Md5>>::new_from_slice(&self.nonce).expect("keys have any length");
        mac.update(message);
        mac.finalize().into_bytes().into()
    }
}

/// Without the nonce.
impl fmt::Debug for Forcerenew {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Forcerenew")
            .field("counter", &self.counter)
            .finish_non_exhaustive()
    }
}

/// The frame that tells the client of a line's lease to renew it; none where there is no lease, or no
/// nonce. `xid` is of the exchange in which it was acknowledged last, which some clients look at.
#[must_use]
pub fn forcerenew(line: &Line, client: Mac, xid: u32, tags: &[u8]) -> Option<Vec<u8>> {
    let lease = line.lease.as_ref()?;
    let secret = lease.forcerenew?;
    let none = std::net::Ipv4Addr::UNSPECIFIED;
    let mut message = Message::new_with_id(xid, lease.address, none, none, none, &client);
    message.set_opcode(Opcode::BootReply);
    let opts = message.opts_mut();
    opts.insert(DhcpOption::MessageType(MessageType::ForceRenew));
    opts.insert(DhcpOption::ServerIdentifier(line.server));
    let mut payload = message.to_vec().ok()?;
    // The digest is of the message with zeros in its place (RFC 3118, 5.2).
    let option = secret.option(DIGEST, [0; DIGEST_LEN]);
    insert(&mut payload, &option);
    let end = payload.len() - 1;
    padded(&mut payload);
    let digest = secret.sign(&payload);
    payload[end - DIGEST_LEN..end].copy_from_slice(&digest);
    let datagram = Datagram {
        source_mac: line.gateway_mac,
        destination_mac: client,
        tags,
        source: line.server,
        destination: lease.address,
        source_port: SERVER_PORT,
        destination_port: CLIENT_PORT,
        payload: &payload,
    };
    datagram.build()
}
