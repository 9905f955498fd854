//! DHCPv4 (RFC 2131, 2132) toward a line: a message of a client and what the server decided for its
//! session go in, the answer and what it means for the session come out.
//!
//! The gateway is the only server of its lines. So it may refuse an address at once that is not the
//! session's, where a server among others would have to keep silent (RFC 2131, 4.3.2), and a client
//! that has come from elsewhere starts anew instead of waiting out its lease.

mod forcerenew;
mod message;
mod reply;
#[cfg(test)]
mod tests;

use std::net::Ipv4Addr;
use std::time::Duration;

use crate::frame::{Datagram, FrameError, Mac};
pub use crate::holder::{Holder, Replace};
pub use forcerenew::{Forcerenew, forcerenew};
pub use message::client;
use message::{Kind, Question};
use reply::Reply;

/// UDP port of servers.
pub const SERVER_PORT: u16 = 67;
/// UDP port of clients.
pub const CLIENT_PORT: u16 = 68;

/// What clients on a line are told, and who of them holds the address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// The gateway's address toward lines.
    pub gateway_mac: Mac,
    /// The server identifier, and the client's router.
    pub server: Ipv4Addr,
    /// None if there is no session, or it has ended.
    pub lease: Option<Lease>,
    /// Who holds the lease now.
    pub holder: Option<Holder>,
    /// When another may have it.
    pub replace: Replace,
}

/// What the server decided for a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// The client's address.
    pub address: Ipv4Addr,
    /// Length of the prefix that the client takes to be on the link, up to 32. Where it does not
    /// hold the router, clients that ask for classless routes learn how to reach it (RFC 3442).
    pub prefix_len: u8,
    /// Resolvers.
    pub dns: Vec<Ipv4Addr>,
    /// Bytes of IP on the line.
    pub mtu: u16,
    /// How long it holds.
    pub times: Times,
    /// What the client can be told to renew with, if it can be.
    pub forcerenew: Option<Forcerenew>,
}

/// Times of a lease, told in whole seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Times {
    /// Until the address must not be used any more.
    pub lease: Duration,
    /// T1, until the client asks this gateway again.
    pub renew: Duration,
    /// T2, until the client asks any server.
    pub rebind: Duration,
}

impl Times {
    /// T1 and T2 as clients take them if nobody says otherwise (RFC 2131, 4.4.5): one half and
    /// seven eighths.
    #[must_use]
    pub fn of(lease: Duration) -> Self {
        Self {
            lease,
            renew: lease / 2,
            rebind: lease * 7 / 8,
        }
    }
}

/// What becomes of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The frame to be sent to the line.
    pub frame: Option<Vec<u8>>,
    /// What has happened to the lease. It has to be recorded before the frame is sent.
    pub event: Option<Event>,
    /// Of an acknowledgement that told the client how a FORCERENEW is signed: its transaction.
    pub told_nonce: Option<u32>,
}

impl Answer {
    fn of(frame: Option<Vec<u8>>, event: Option<Event>) -> Self {
        Self {
            frame,
            event,
            told_nonce: None,
        }
    }
}

/// What has happened to a lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// The client of this address holds it from now on, or goes on to.
    Bound(Mac),
    /// Its holder gives it back.
    Released(Mac),
    /// Its holder has found the address in use by another device.
    Declined(Mac),
    /// A client was told that it has no right to the address it uses.
    Refused(Mac),
}

/// Why a message is not answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Ignored {
    /// No datagram.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// Not from a client's port to the server's, or not addressed to the gateway.
    #[error("not from a DHCP client to this server")]
    NotForServer,
    /// Shorter than a message, or without the magic cookie.
    #[error("DHCP: cut short, or not DHCP")]
    Malformed,
    /// An option ends after the message.
    #[error("DHCP: an option longer than the message")]
    Options,
    /// A reply, or a message that only servers send.
    #[error("DHCP: a server's message from a line")]
    FromServer,
    /// The client's hardware address is none, or not that of the frame where no relay has sent it.
    #[error("DHCP: the client's hardware address is not the frame's source")]
    ForeignHardware,
    /// A message type that the gateway does not serve.
    #[error("DHCP: a message type that is not served")]
    Unserved,
    /// Fields that must not, or must, be there together (RFC 2131, table 5).
    #[error("DHCP: fields that contradict the message type")]
    Contradictory,
    /// The client has chosen another server.
    #[error("DHCP: for another server")]
    OtherServer,
    /// There is no session to offer an address of.
    #[error("DHCP: no session on the line")]
    NoSession,
    /// Another client holds the lease.
    #[error("DHCP: another client holds the session's address")]
    Held,
    /// About an address that is not the session's, where nothing is to be said to it.
    #[error("DHCP: about an address that is not the session's")]
    ForeignAddress,
}

impl Ignored {
    /// What it counts as.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Frame(_) => "frame",
            Self::NotForServer => "not_for_server",
            Self::Malformed => "malformed",
            Self::Options => "options",
            Self::FromServer => "from_server",
            Self::ForeignHardware => "foreign_hardware",
            Self::Unserved => "unserved",
            Self::Contradictory => "contradictory",
            Self::OtherServer => "other_server",
            Self::NoSession => "no_session",
            Self::Held => "held",
            Self::ForeignAddress => "foreign_address",
        }
    }
}

/// Answers a frame of a line. `now` is of the same clock as [`Holder::acknowledged`].
pub fn answer(frame: &[u8], line: &Line, now: Duration) -> Result<Answer, Ignored> {
    let datagram = Datagram::parse(frame)?;
    let question = Question::read(&datagram, line)?;
    let reply = Reply {
        question: &question,
        tags: datagram.tags,
        line,
    };
    let mac = question.mac;
    match question.kind {
        Kind::Discover => {
            let lease = line.lease.as_ref().ok_or(Ignored::NoSession)?;
            line.admits(mac, now)?;
            Ok(Answer::of(reply.offer(lease), None))
        }
        Kind::Request { wanted } => match &line.lease {
            Some(lease) if lease.address == wanted => {
                line.admits(mac, now)?;
                let nonce = question.takes_forcerenew && lease.forcerenew.is_some();
                Ok(Answer {
                    told_nonce: nonce.then_some(question.xid),
                    ..Answer::of(reply.acknowledge(lease), Some(Event::Bound(mac)))
                })
            }
            _ => Ok(Answer::of(reply.refuse(), Some(Event::Refused(mac)))),
        },
        Kind::Inform => {
            let lease = line.lease_of(question.client)?;
            line.admits(mac, now)?;
            Ok(Answer::of(reply.inform(lease), None))
        }
        Kind::Release => line.given_back(question.client, mac, Event::Released(mac)),
        Kind::Decline { address } => line.given_back(address, mac, Event::Declined(mac)),
    }
}

impl Line {
    fn lease_of(&self, address: Ipv4Addr) -> Result<&Lease, Ignored> {
        let lease = self.lease.as_ref().ok_or(Ignored::NoSession)?;
        if lease.address == address {
            Ok(lease)
        } else {
            Err(Ignored::ForeignAddress)
        }
    }

    /// Whether a client may have the lease.
    fn admits(&self, mac: Mac, now: Duration) -> Result<(), Ignored> {
        let free = self.replace.admits(self.holder, mac, now);
        if free { Ok(()) } else { Err(Ignored::Held) }
    }

    /// What only the holder can say.
    fn given_back(&self, address: Ipv4Addr, mac: Mac, event: Event) -> Result<Answer, Ignored> {
        self.lease_of(address)?;
        if self.holder.is_none_or(|holder| holder.mac != mac) {
            return Err(Ignored::Held);
        }
        Ok(Answer::of(None, Some(event)))
    }
}
