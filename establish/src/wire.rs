//! Messages as datagrams, and back: the only place that knows the protobuf types.

use std::net::IpAddr;

use doorstep_proto::v1 as pb;
use doorstep_proto::v1::establish_body::Message as PbMessage;
use hmac::{Hmac, KeyInit as _, Mac as _};
use prost::Message as _;
use sha2::Sha256;
use uuid::Uuid;

use crate::{Body, Direction, Mac, Message, Nonce, Offer, Replaced, SessionKey};

/// No datagram of the exchange is longer: it fits the smallest MTU of IPv6.
pub const MAX_DATAGRAM_LEN: usize = 1200;
pub(crate) const MAX_TEXT_LEN: usize = 255;
const MAX_RESOLVERS: usize = 8;

/// Why a datagram was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// Longer than any datagram of the exchange.
    #[error("establishment datagram: longer than {MAX_DATAGRAM_LEN} bytes")]
    TooLong,
    /// Not an `EstablishDatagram`.
    #[error("establishment datagram: not protobuf, or a field has the wrong length")]
    Envelope,
    /// No key for this session (yet).
    #[error("establishment datagram: session {0} is not known here")]
    UnknownSession(Uuid),
    /// Changed on the way, made with another key, or sent back to its author.
    #[error("establishment datagram: session {0}: the authentication tag does not match")]
    Tag(Uuid),
    /// Authentic, but not a message of this protocol.
    #[error("establishment datagram: session {session}: {field} is missing or malformed")]
    Content {
        /// The session it is for.
        session: Uuid,
        /// The field at fault.
        field: &'static str,
    },
}

fn authenticator(
    key: &SessionKey,
    direction: Direction,
    session: Uuid,
    body: &[u8],
) -> Hmac<Sha256> {
    let direction = match direction {
        Direction::FromGateway => 1,
        Direction::FromTerminal => 2,
    };
    Hmac::<Sha256>::new_from_slice(key.as_bytes())
        .expect("HMAC takes keys of any length")
        .chain_update([direction])
        .chain_update(session.as_bytes())
        .chain_update(body)
}

/// Makes the datagram that carries `body`.
#[must_use]
pub fn seal(key: &SessionKey, session: Uuid, body: &Body) -> Vec<u8> {
    let direction = body.message.direction();
    let body = to_proto(body).encode_to_vec();
    let tag = authenticator(key, direction, session, &body)
        .finalize()
        .into_bytes();
    pb::EstablishDatagram {
        session_id: session.as_bytes().to_vec(),
        body,
        tag: tag.to_vec(),
        garden: None,
    }
    .encode_to_vec()
}

/// The session that `datagram` claims to be for; nothing is checked.
#[must_use]
pub fn session_of(datagram: &[u8]) -> Option<Uuid> {
    let (session, _) = envelope(datagram).ok()?;
    Some(session)
}

fn envelope(datagram: &[u8]) -> Result<(Uuid, pb::EstablishDatagram), OpenError> {
    if datagram.len() > MAX_DATAGRAM_LEN {
        return Err(OpenError::TooLong);
    }
    let envelope = pb::EstablishDatagram::decode(datagram).map_err(|_| OpenError::Envelope)?;
    let session = Uuid::from_slice(&envelope.session_id).map_err(|_| OpenError::Envelope)?;
    Ok((session, envelope))
}

/// Checks and reads a datagram that came from the `direction` given; `key_of` knows the keys.
pub fn open(
    datagram: &[u8],
    direction: Direction,
    key_of: impl FnOnce(Uuid) -> Option<SessionKey>,
) -> Result<(Uuid, Body), OpenError> {
    let (session, envelope) = envelope(datagram)?;
    let key = key_of(session).ok_or(OpenError::UnknownSession(session))?;
    authenticator(&key, direction, session, &envelope.body)
        .verify_slice(&envelope.tag)
        .map_err(|_| OpenError::Tag(session))?;
    let content = |field| OpenError::Content { session, field };
    let body = pb::EstablishBody::decode(&envelope.body[..]).map_err(|_| content("body"))?;
    let body = from_proto(body).map_err(content)?;
    if body.message.direction() != direction {
        return Err(content("message"));
    }
    Ok((session, body))
}

fn text<T: ToString>(value: Option<&T>) -> String {
    value.map(T::to_string).unwrap_or_default()
}

/// Cuts at a character, so that an error text of any length fits a datagram.
pub(crate) fn shortened(text: &str) -> String {
    text.chars()
        .scan(0, |len, c| {
            *len += c.len_utf8();
            (*len <= MAX_TEXT_LEN).then_some(c)
        })
        .collect()
}

fn to_proto(body: &Body) -> pb::EstablishBody {
    let message = match &body.message {
        Message::Request(offer) => PbMessage::Request(pb::EstablishRequest {
            gateway_id: shortened(&offer.gateway_id),
            ipv4_address: text(offer.ipv4.as_ref()),
            ipv4_gateway: text(offer.ipv4_gateway.as_ref()),
            ipv6_prefix: text(offer.ipv6.as_ref()),
            dns: offer
                .dns
                .iter()
                .take(MAX_RESOLVERS)
                .map(IpAddr::to_string)
                .collect(),
            mtu: offer.mtu,
            ipv6_line_prefix: text(offer.ipv6_line.as_ref()),
        }),
        Message::Accept {
            terminal_mac,
            replaces,
        } => PbMessage::Accept(pb::EstablishAccept {
            terminal_mac: terminal_mac.0.to_vec(),
            replaces: replaces.map(|replaced| pb::EstablishReplaced {
                session_id: replaced.session.as_bytes().to_vec(),
                generation: replaced.generation,
                proof: replaced.proof.to_vec(),
            }),
        }),
        Message::Confirm { slot } => PbMessage::Confirm(pb::EstablishConfirm { slot: *slot }),
        Message::Refuse { detail } => PbMessage::Refuse(pb::EstablishRefuse {
            detail: shortened(detail),
        }),
        Message::Release => PbMessage::Release(pb::EstablishRelease {}),
    };
    pb::EstablishBody {
        generation: body.generation,
        nonce: body.nonce.0.to_vec(),
        message: Some(message),
    }
}

fn from_proto(body: pb::EstablishBody) -> Result<Body, &'static str> {
    let message = match body.message.ok_or("message")? {
        PbMessage::Request(request) => Message::Request(offer(request)?),
        PbMessage::Accept(accept) => {
            let bytes = accept.terminal_mac.try_into().map_err(|_| "terminal_mac")?;
            Message::Accept {
                terminal_mac: Mac(bytes),
                replaces: accept.replaces.map(replaced).transpose()?,
            }
        }
        PbMessage::Confirm(pb::EstablishConfirm { slot }) => Message::Confirm { slot },
        PbMessage::Refuse(refuse) if refuse.detail.len() > MAX_TEXT_LEN => return Err("detail"),
        PbMessage::Refuse(refuse) => Message::Refuse {
            detail: refuse.detail,
        },
        PbMessage::Release(pb::EstablishRelease {}) => Message::Release,
    };
    Ok(Body {
        generation: body.generation,
        nonce: Nonce(body.nonce.try_into().map_err(|_| "nonce")?),
        message,
    })
}

fn replaced(replaced: pb::EstablishReplaced) -> Result<Replaced, &'static str> {
    Ok(Replaced {
        session: Uuid::from_slice(&replaced.session_id).map_err(|_| "replaces.session_id")?,
        generation: replaced.generation,
        proof: replaced.proof.try_into().map_err(|_| "replaces.proof")?,
    })
}

fn offer(request: pb::EstablishRequest) -> Result<Offer, &'static str> {
    fn optional<T: std::str::FromStr>(
        text: &str,
        field: &'static str,
    ) -> Result<Option<T>, &'static str> {
        if text.is_empty() {
            Ok(None)
        } else {
            text.parse().map(Some).map_err(|_| field)
        }
    }
    if request.gateway_id.len() > MAX_TEXT_LEN {
        return Err("gateway_id");
    }
    if request.dns.len() > MAX_RESOLVERS {
        return Err("dns");
    }
    Ok(Offer {
        ipv4: optional(&request.ipv4_address, "ipv4_address")?,
        ipv4_gateway: optional(&request.ipv4_gateway, "ipv4_gateway")?,
        ipv6: optional(&request.ipv6_prefix, "ipv6_prefix")?,
        ipv6_line: optional(&request.ipv6_line_prefix, "ipv6_line_prefix")?,
        dns: request
            .dns
            .iter()
            .map(|a| a.parse().map_err(|_| "dns"))
            .collect::<Result<_, _>>()?,
        mtu: request.mtu,
        gateway_id: request.gateway_id,
    })
}
