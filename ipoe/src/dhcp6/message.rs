//! What a client says.

use std::net::Ipv6Addr;

use dhcproto::v6::{DhcpOption, DhcpOptions, Message, MessageType, OptionCode};
use dhcproto::{Decodable as _, Decoder};
use ipnet::Ipv6Net;

use super::{Duid, Ignored, SERVER_PORT, options};
use crate::frame::{Body, Mac, Packet, group_mac};
use crate::line6::{ALL_DHCP, Gateway};

/// Message type and transaction id.
const FIXED_LEN: usize = 4;

/// A message whose parts fit together.
pub(super) struct Question {
    pub kind: Kind,
    pub mac: Mac,
    pub source: Ipv6Addr,
    pub xid: [u8; 3],
    /// All but information requests have one.
    pub client: Option<Duid>,
    /// Whether the client wants to have it all in two messages.
    pub rapid: bool,
    /// Sent to the gateway alone, which nobody was told to do.
    pub unicast: bool,
    pub associations: Vec<Association>,
}

/// What it asks (RFC 8415, 7.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Solicit,
    Request,
    Confirm,
    Renew,
    Rebind,
    Release,
    Decline,
    Information,
}

/// An identity association, by which a client keeps what it has been given apart.
pub(super) struct Association {
    pub what: What,
    pub id: u32,
    /// What the client has by it, or would like to have; addresses are /128.
    pub leases: Vec<Ipv6Net>,
}

/// Of what an association is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum What {
    /// IA_NA.
    Address,
    /// IA_TA.
    Temporary,
    /// IA_PD.
    Prefix,
}

impl Question {
    pub fn read(packet: &Packet<'_>, gateway: &Gateway, server: &Duid) -> Result<Self, Ignored> {
        let Body::Udp {
            destination_port: SERVER_PORT,
            payload,
            ..
        } = packet.body
        else {
            return Err(Ignored::NotForServer);
        };
        let unicast = packet.destination == gateway.address;
        let link = [gateway.mac, group_mac(ALL_DHCP)].contains(&packet.destination_mac);
        if !link || !(unicast || packet.destination == ALL_DHCP) {
            return Err(Ignored::NotForServer);
        }
        if !packet.source.is_unicast_link_local() {
            return Err(Ignored::Source);
        }
        let (fixed, options) = payload
            .split_at_checked(FIXED_LEN)
            .ok_or(Ignored::Malformed)?;
        // Relayed messages have another form.
        let kind = Kind::of(MessageType::from(fixed[0]))?;
        let payload = [fixed, &options::known(options)?].concat();
        let message =
            Message::decode(&mut Decoder::new(&payload)).map_err(|_| Ignored::Malformed)?;
        let question = Self {
            kind,
            mac: packet.source_mac,
            source: packet.source,
            xid: message.xid(),
            client: one(&message, OptionCode::ClientId)?,
            rapid: message.opts().get(OptionCode::RapidCommit).is_some(),
            unicast,
            associations: message.opts().iter().filter_map(Association::of).collect(),
        };
        question.check(one(&message, OptionCode::ServerId)?, server)?;
        Ok(question)
    }

    /// What must be, and must not be, in a message (RFC 8415, 16).
    fn check(&self, chosen: Option<Duid>, server: &Duid) -> Result<(), Ignored> {
        match (self.kind.names_server(), &chosen) {
            (Some(true), None) | (Some(false), Some(_)) => return Err(Ignored::Contradictory),
            (_, Some(chosen)) if chosen != server => return Err(Ignored::OtherServer),
            _ => {}
        }
        let information = self.kind == Kind::Information;
        if information && !self.associations.is_empty() || !information && self.client.is_none() {
            return Err(Ignored::Contradictory);
        }
        // The others are discarded (RFC 8415, 16); these are told (18.3.2, 18.3.4, 18.3.7, 18.3.8).
        if self.unicast && self.kind.names_server() != Some(true) {
            return Err(Ignored::NotForServer);
        }
        Ok(())
    }
}

impl Kind {
    fn of(kind: MessageType) -> Result<Self, Ignored> {
        match kind {
            MessageType::Solicit => Ok(Self::Solicit),
            MessageType::Request => Ok(Self::Request),
            MessageType::Confirm => Ok(Self::Confirm),
            MessageType::Renew => Ok(Self::Renew),
            MessageType::Rebind => Ok(Self::Rebind),
            MessageType::Release => Ok(Self::Release),
            MessageType::Decline => Ok(Self::Decline),
            MessageType::InformationRequest => Ok(Self::Information),
            MessageType::Advertise
            | MessageType::Reply
            | MessageType::Reconfigure
            | MessageType::RelayRepl
            | MessageType::LeaseQueryReply
            | MessageType::LeaseQueryData
            | MessageType::LeaseQueryDone
            | MessageType::ReconfigureReply
            | MessageType::DHCPv4Response => Err(Ignored::FromServer),
            MessageType::RelayForw => Err(Ignored::Relayed),
            _ => Err(Ignored::Unserved),
        }
    }

    /// Whether the message is for one server, which it names; none if it may be either.
    fn names_server(self) -> Option<bool> {
        match self {
            Self::Request | Self::Renew | Self::Release | Self::Decline => Some(true),
            Self::Solicit | Self::Confirm | Self::Rebind => Some(false),
            Self::Information => None,
        }
    }

    /// Whether the client uses what it lists.
    pub fn extends(self) -> bool {
        matches!(self, Self::Renew | Self::Rebind)
    }
}

impl Association {
    fn of(option: &DhcpOption) -> Option<Self> {
        let (what, id, opts) = match option {
            DhcpOption::IANA(ia) => (What::Address, ia.id, &ia.opts),
            DhcpOption::IATA(ia) => (What::Temporary, ia.id, &ia.opts),
            DhcpOption::IAPD(ia) => (What::Prefix, ia.id, &ia.opts),
            _ => return None,
        };
        Some(Self {
            what,
            id,
            leases: leases(opts),
        })
    }

    pub fn lists(&self, lease: Ipv6Net) -> bool {
        self.leases.contains(&lease)
    }
}

/// Without the unspecified address, by which clients ask for lifetimes or for a length only
/// (RFC 8415, 18.2.1).
fn leases(opts: &DhcpOptions) -> Vec<Ipv6Net> {
    let leases = opts.iter().filter_map(|option| match option {
        DhcpOption::IAAddr(address) => Some(Ipv6Net::from(address.addr)),
        DhcpOption::IAPrefix(prefix) => Ipv6Net::new(prefix.prefix_ip, prefix.prefix_len)
            .ok()
            .map(|net| net.trunc()),
        _ => None,
    });
    leases
        .filter(|lease| !lease.addr().is_unspecified())
        .collect()
}

/// An identifier that a message has once at most.
fn one(message: &Message, code: OptionCode) -> Result<Option<Duid>, Ignored> {
    let mut found = message.opts().iter().filter_map(|option| match option {
        DhcpOption::ClientId(duid) if code == OptionCode::ClientId => Some(duid),
        DhcpOption::ServerId(duid) if code == OptionCode::ServerId => Some(duid),
        _ => None,
    });
    let first = found.next();
    if found.next().is_some() {
        return Err(Ignored::Contradictory);
    }
    Ok(first.and_then(|duid| Duid::new(duid)))
}
