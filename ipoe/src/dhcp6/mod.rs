//! DHCPv6 (RFC 8415) toward a line: a message of a client and what the server decided for its
//! session go in, the answer and what it means for the session come out.
//!
//! A session has one address of its line's prefix (IA_NA) and one delegated prefix (IA_PD). The
//! gateway is the only server of its lines, so it says at once that an address or a prefix is not the
//! session's, where a server among others might have to keep silent: a client that has come from
//! elsewhere, or whose session has ended, starts anew instead of waiting out its lease.

mod duid;
mod grant;
mod message;
mod options;
mod reply;
#[cfg(test)]
mod tests;

use std::time::Duration;

use dhcproto::v6::Status;

use crate::frame::{FrameError, Mac, Packet};
use crate::line6::{Line, Session};
pub use duid::Duid;
use message::{Kind, Question, What};
use reply::Reply;

/// UDP port of servers.
pub const SERVER_PORT: u16 = 547;
/// UDP port of clients.
pub const CLIENT_PORT: u16 = 546;

/// What an answer is made of.
#[derive(Debug, Clone, Copy)]
pub struct Service<'a> {
    /// The line and its session.
    pub line: &'a Line,
    /// The gateway's own identifier. It must stay the same for all lines and after a restart, or
    /// clients do not renew before they rebind.
    pub server: &'a Duid,
    /// By what the session's holder has it, as far as it is known. Without, a client that lists what
    /// is the session's is taken for its holder.
    pub binding: Option<&'a Binding>,
}

/// A device and what it calls itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Client {
    /// Its address.
    pub mac: Mac,
    /// Its identifier.
    pub duid: Duid,
}

/// By which of its associations a client has a session's address and prefix.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Binding {
    /// The client.
    pub client: Client,
    /// IAID of the IA_NA that has the address.
    pub address: Option<u32>,
    /// IAID of the IA_PD that has the delegated prefix.
    pub prefix: Option<u32>,
}

/// What becomes of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The frame to be sent to the line.
    pub frame: Option<Vec<u8>>,
    /// What has happened to the session. It has to be recorded before the frame is sent.
    pub event: Option<Event>,
}

/// What has happened to what a session has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The client has it from now on, or goes on to; in all, not only by this message.
    Bound(Binding),
    /// Its holder gives back what is named.
    Released(Binding),
    /// Its holder has found the address in use by another device.
    Declined(Binding),
    /// A client was told that it has no right to what it uses.
    Refused(Mac),
}

/// Why a message is not answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Ignored {
    /// No packet.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// Not UDP to the servers' port, to the group of servers or to the gateway.
    #[error("not from a DHCPv6 client to this server")]
    NotForServer,
    /// Not from a link-local address, so from no client of the line (RFC 8415, 13).
    #[error("DHCPv6: not from a link-local address")]
    Source,
    /// Shorter than a message.
    #[error("DHCPv6: cut short")]
    Malformed,
    /// An option that ends after what it is in, or is shorter than its kind.
    #[error("DHCPv6: an option of a wrong length")]
    Options,
    /// More associations, or addresses and prefixes in them, than one client of a line can use.
    #[error(
        "DHCPv6: more than {} associations, or than {} addresses and prefixes",
        options::MAX_ASSOCIATIONS,
        options::MAX_LEASES
    )]
    TooMany,
    /// A message that only servers and relays send to clients.
    #[error("DHCPv6: a server's message from a line")]
    FromServer,
    /// It has come through a relay, and there is none on a line.
    #[error("DHCPv6: relayed")]
    Relayed,
    /// A message type that the gateway does not serve.
    #[error("DHCPv6: a message type that is not served")]
    Unserved,
    /// Options that must not, or must, be in the message (RFC 8415, 16).
    #[error("DHCPv6: options that contradict the message type")]
    Contradictory,
    /// For another server.
    #[error("DHCPv6: for another server")]
    OtherServer,
    /// There is no session to offer anything of.
    #[error("DHCPv6: no session on the line")]
    NoSession,
    /// Another client holds the session.
    #[error("DHCPv6: another client holds the session")]
    Held,
    /// Nothing that could be confirmed (RFC 8415, 18.3.3).
    #[error("DHCPv6: no address to confirm")]
    NothingToConfirm,
}

impl Ignored {
    /// What it counts as.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Frame(_) => "dhcp6_frame",
            Self::NotForServer => "dhcp6_not_for_server",
            Self::Source => "dhcp6_source",
            Self::Malformed => "dhcp6_malformed",
            Self::Options => "dhcp6_options",
            Self::TooMany => "dhcp6_too_many",
            Self::FromServer => "dhcp6_from_server",
            Self::Relayed => "dhcp6_relayed",
            Self::Unserved => "dhcp6_unserved",
            Self::Contradictory => "dhcp6_contradictory",
            Self::OtherServer => "dhcp6_other_server",
            Self::NoSession => "dhcp6_no_session",
            Self::Held => "dhcp6_held",
            Self::NothingToConfirm => "dhcp6_nothing_to_confirm",
        }
    }
}

impl Service<'_> {
    /// Answers a frame of the line. `now` is of the clock of the line's holder.
    pub fn answer(&self, frame: &[u8], now: Duration) -> Result<Answer, Ignored> {
        let packet = Packet::parse(frame)?;
        let question = Question::read(&packet, &self.line.gateway, self.server)?;
        let reply = Reply {
            question: &question,
            tags: packet.tags,
            gateway: &self.line.gateway,
            server: self.server,
        };
        if question.unicast {
            return Ok(Answer {
                frame: reply.status(Status::UseMulticast),
                event: None,
            });
        }
        match (question.kind, &question.client) {
            (Kind::Information, _) => {
                let session = self.session(question.mac, now)?;
                Ok(Answer {
                    frame: reply.inform(session),
                    event: None,
                })
            }
            (_, Some(duid)) => {
                let client = Client {
                    mac: question.mac,
                    duid: duid.clone(),
                };
                self.stateful(&reply, client, now)
            }
            (_, None) => Err(Ignored::Contradictory),
        }
    }

    fn stateful(
        &self,
        reply: &Reply<'_>,
        client: Client,
        now: Duration,
    ) -> Result<Answer, Ignored> {
        let question = reply.question;
        let binding = self.binding.filter(|binding| binding.client == client);
        match question.kind {
            Kind::Solicit => {
                let session = self.session(client.mac, now)?;
                let told = grant::decide(question, Some(session), binding);
                let bound = grant::bound(&told, client, binding);
                // What the client would not take is not committed (RFC 8415, 18.3.1).
                if question.rapid && bound.is_some() {
                    return Ok(Answer {
                        frame: reply.grant(&told, Some(session), true),
                        event: bound.map(Event::Bound),
                    });
                }
                Ok(Answer {
                    frame: reply.advertise(&told, session),
                    event: None,
                })
            }
            Kind::Request | Kind::Renew | Kind::Rebind => {
                let session = self.admitted(client.mac, now)?;
                let told = grant::decide(question, session, binding);
                let mac = client.mac;
                let refused = told.iter().any(|told| {
                    !told.withdrawn.is_empty()
                        || [Some(Status::NotOnLink), Some(Status::NoBinding)].contains(&told.status)
                });
                let event = match grant::bound(&told, client, binding) {
                    Some(bound) => Some(Event::Bound(bound)),
                    None => refused.then_some(Event::Refused(mac)),
                };
                Ok(Answer {
                    frame: reply.grant(&told, session, false),
                    event,
                })
            }
            Kind::Confirm => self.confirm(reply, client, now),
            Kind::Release | Kind::Decline => {
                let session = self.line.session.as_ref();
                let (unknown, given) = grant::give_back(question, session, binding);
                let event = match question.kind {
                    Kind::Release => Event::Released,
                    _ => Event::Declined,
                };
                Ok(Answer {
                    frame: reply.given_back(&unknown),
                    event: given.map(event),
                })
            }
            Kind::Information => Err(Ignored::Contradictory),
        }
    }

    fn confirm(&self, reply: &Reply<'_>, client: Client, now: Duration) -> Result<Answer, Ignored> {
        let question = reply.question;
        let session = self.admitted(client.mac, now)?;
        if !grant::confirm(question, session).ok_or(Ignored::NothingToConfirm)? {
            return Ok(Answer {
                frame: reply.status(Status::NotOnLink),
                event: Some(Event::Refused(client.mac)),
            });
        }
        // The client goes on with what it has, and asks no more before it renews.
        let before = self.binding.filter(|binding| binding.client == client);
        let mut bound = before.cloned().unwrap_or(Binding {
            client,
            address: None,
            prefix: None,
        });
        for association in &question.associations {
            if association.what == What::Address && !association.leases.is_empty() {
                bound.set(What::Address, association.id);
                break;
            }
        }
        Ok(Answer {
            frame: reply.status(Status::Success),
            event: Some(Event::Bound(bound)),
        })
    }

    /// The session, if there is one and the client may have it.
    fn session(&self, mac: Mac, now: Duration) -> Result<&Session, Ignored> {
        self.admitted(mac, now)?.ok_or(Ignored::NoSession)
    }

    /// What there is of a session, if the client may have it. Where there is none, nobody holds it.
    fn admitted(&self, mac: Mac, now: Duration) -> Result<Option<&Session>, Ignored> {
        let line = self.line;
        let Some(session) = &line.session else {
            return Ok(None);
        };
        if line.replace.admits(line.holder, mac, now) {
            Ok(Some(session))
        } else {
            Err(Ignored::Held)
        }
    }
}
