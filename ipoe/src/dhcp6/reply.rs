//! What a client is told.

use std::time::Duration;

use dhcproto::Encodable as _;
use dhcproto::v6::{
    DhcpOption, DhcpOptions, IAAddr, IANA, IAPD, IAPrefix, IATA, Message, MessageType, Status,
    StatusCode,
};
use ipnet::Ipv6Net;

use super::grant::Told;
use super::message::{Question, What};
use super::{CLIENT_PORT, Duid, SERVER_PORT};
use crate::frame::{Body, Packet};
use crate::line6::{Gateway, MAX_DNS, Session, seconds};

/// A client that is told so does not wait for other servers' answers (RFC 8415, 18.2.1, 21.8): a line
/// has one.
const PREFERENCE: u8 = 255;
/// Clients take nothing shorter (IRT_MINIMUM, RFC 8415, 21.23).
const REFRESH_MIN: Duration = Duration::from_secs(600);

/// An answer to be made.
pub(super) struct Reply<'a> {
    pub question: &'a Question,
    pub tags: &'a [u8],
    pub gateway: &'a Gateway,
    pub server: &'a Duid,
}

impl Reply<'_> {
    /// What the client would get.
    pub fn advertise(&self, told: &[Told], session: &Session) -> Option<Vec<u8>> {
        let mut message = self.message(MessageType::Advertise);
        message
            .opts_mut()
            .insert(DhcpOption::Preference(PREFERENCE));
        associations(&mut message, told, Some(session));
        describe(&mut message, session);
        self.frame(&message)
    }

    /// What the client has from now on.
    pub fn grant(&self, told: &[Told], session: Option<&Session>, rapid: bool) -> Option<Vec<u8>> {
        let mut message = self.message(MessageType::Reply);
        if rapid {
            message.opts_mut().insert(DhcpOption::RapidCommit);
        }
        associations(&mut message, told, session);
        if let Some(session) = session {
            describe(&mut message, session);
        }
        self.frame(&message)
    }

    /// That what the client has given back is so, and what it does not have.
    pub fn given_back(&self, unknown: &[Told]) -> Option<Vec<u8>> {
        let mut message = self.message(MessageType::Reply);
        message.opts_mut().insert(status(Status::Success));
        associations(&mut message, unknown, None);
        self.frame(&message)
    }

    /// A status and nothing else.
    pub fn status(&self, code: Status) -> Option<Vec<u8>> {
        let mut message = self.message(MessageType::Reply);
        message.opts_mut().insert(status(code));
        self.frame(&message)
    }

    /// What there is to know beside addresses and prefixes (RFC 8415, 18.3.6).
    pub fn inform(&self, session: &Session) -> Option<Vec<u8>> {
        let mut message = self.message(MessageType::Reply);
        describe(&mut message, session);
        let refresh = seconds(session.lifetime.max(REFRESH_MIN));
        message
            .opts_mut()
            .insert(DhcpOption::InformationRefreshTime(refresh));
        self.frame(&message)
    }

    fn message(&self, kind: MessageType) -> Message {
        let mut message = Message::new_with_id(kind, self.question.xid);
        let opts = message.opts_mut();
        if let Some(client) = &self.question.client {
            opts.insert(DhcpOption::ClientId(client.as_bytes().to_vec()));
        }
        opts.insert(DhcpOption::ServerId(self.server.as_bytes().to_vec()));
        message
    }

    fn frame(&self, message: &Message) -> Option<Vec<u8>> {
        let payload = message.to_vec().ok()?;
        let packet = Packet {
            source_mac: self.gateway.mac,
            destination_mac: self.question.mac,
            tags: self.tags,
            source: self.gateway.address,
            destination: self.question.source,
            hop_limit: crate::frame::HOP_LIMIT,
            body: Body::Udp {
                source_port: SERVER_PORT,
                destination_port: CLIENT_PORT,
                payload: &payload,
            },
        };
        packet.build()
    }
}

/// Resolvers are told to all, whether they ask for them or not.
fn describe(message: &mut Message, session: &Session) {
    let dns: Vec<_> = session.dns.iter().copied().take(MAX_DNS).collect();
    if !dns.is_empty() {
        message
            .opts_mut()
            .insert(DhcpOption::DomainNameServers(dns));
    }
}

/// In the order in which they were asked about: the library puts an option before those of its kind.
fn associations(message: &mut Message, told: &[Told], session: Option<&Session>) {
    for told in told.iter().rev() {
        message.opts_mut().insert(association(told, session));
    }
}

fn association(told: &Told, session: Option<&Session>) -> DhcpOption {
    let lifetime = session.map_or(Duration::ZERO, |session| session.lifetime);
    let mut opts = DhcpOptions::new();
    for withdrawn in told.withdrawn.iter().rev() {
        opts.insert(lease(told.what, *withdrawn, 0));
    }
    if let Some(granted) = told.granted {
        opts.insert(lease(told.what, granted, seconds(lifetime)));
    }
    if let Some(code) = told.status {
        opts.insert(status(code));
    }
    let id = told.id;
    // One half and four fifths of the preferred lifetime (RFC 8415, 21.4, 21.21); for ever if that
    // is. Zero leaves it to the client, where there is nothing to be renewed.
    let (t1, t2) = match (told.granted, seconds(lifetime)) {
        (None, _) => (0, 0),
        (Some(_), u32::MAX) => (u32::MAX, u32::MAX),
        (Some(_), _) => (seconds(lifetime / 2), seconds(lifetime * 4 / 5)),
    };
    match told.what {
        What::Address => DhcpOption::IANA(IANA { id, t1, t2, opts }),
        What::Temporary => DhcpOption::IATA(IATA { id, opts }),
        What::Prefix => DhcpOption::IAPD(IAPD { id, t1, t2, opts }),
    }
}

/// An address or a prefix, preferred as long as it is valid.
fn lease(what: What, lease: Ipv6Net, lifetime: u32) -> DhcpOption {
    let opts = DhcpOptions::new();
    match what {
        What::Address | What::Temporary => DhcpOption::IAAddr(IAAddr {
            addr: lease.addr(),
            preferred_life: lifetime,
            valid_life: lifetime,
            opts,
        }),
        What::Prefix => DhcpOption::IAPrefix(IAPrefix {
            preferred_lifetime: lifetime,
            valid_lifetime: lifetime,
            prefix_len: lease.prefix_len(),
            prefix_ip: lease.addr(),
            opts,
        }),
    }
}

fn status(status: Status) -> DhcpOption {
    let msg = match status {
        Status::Success => "done",
        Status::NoAddrsAvail => "no address for this association",
        Status::NoPrefixAvail => "no prefix for this association",
        Status::NoBinding => "nothing is held by this association",
        Status::NotOnLink => "not an address of this line",
        Status::UseMulticast => "send it to ff02::1:2",
        _ => "",
    };
    DhcpOption::StatusCode(StatusCode {
        status,
        msg: msg.to_owned(),
    })
}
