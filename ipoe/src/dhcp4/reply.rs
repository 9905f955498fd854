//! What a client is told.

use std::net::Ipv4Addr;
use std::time::Duration;

use dhcproto::Encodable as _;
use dhcproto::v4::{DhcpOption, Flags, Message, MessageType, Opcode};
use ipnet::Ipv4Net;

use super::forcerenew::{HMAC_MD5, NONCE_CAPABLE};
use super::message::{END, Question, RELAY_INFORMATION};
use super::{CLIENT_PORT, Lease, Line, SERVER_PORT};
use crate::frame::{BROADCAST, Datagram, Mac};

/// Clients of old take nothing shorter (RFC 1542, 2.1).
const MIN_LEN: usize = 300;

/// An answer to be made.
pub(super) struct Reply<'a> {
    pub question: &'a Question,
    pub tags: &'a [u8],
    pub line: &'a Line,
}

impl Reply<'_> {
    pub fn offer(&self, lease: &Lease) -> Option<Vec<u8>> {
        self.grant(MessageType::Offer, lease)
    }

    pub fn acknowledge(&self, lease: &Lease) -> Option<Vec<u8>> {
        self.grant(MessageType::Ack, lease)
    }

    fn grant(&self, kind: MessageType, lease: &Lease) -> Option<Vec<u8>> {
        let mut message = self.message(kind);
        message.set_ciaddr(self.question.client);
        message.set_yiaddr(lease.address);
        let times = lease.times;
        let opts = message.opts_mut();
        opts.insert(DhcpOption::AddressLeaseTime(seconds(times.lease)));
        opts.insert(DhcpOption::Renewal(seconds(times.renew)));
        opts.insert(DhcpOption::Rebinding(seconds(times.rebind)));
        self.describe(&mut message, lease);
        let secret = lease.forcerenew.filter(|_| self.question.takes_forcerenew);
        let more = match secret {
            // The gateway says that it can, too; the nonce itself goes to whom it concerns.
            Some(_) if kind == MessageType::Offer => vec![NONCE_CAPABLE, 1, HMAC_MD5],
            Some(secret) => secret.told(),
            None => Vec::new(),
        };
        self.frame(&message, &more, self.to(lease.address))
    }

    /// What there is to know beside the address, and no lease (RFC 2131, 4.3.5).
    pub fn inform(&self, lease: &Lease) -> Option<Vec<u8>> {
        let mut message = self.message(MessageType::Ack);
        message.set_ciaddr(self.question.client);
        self.describe(&mut message, lease);
        self.frame(&message, &[], (self.question.mac, self.question.client))
    }

    /// To all, as the client may have no address that it could be told at (RFC 2131, 4.1). One that
    /// renews has asked from its address: there it listens, and some nowhere else.
    pub fn refuse(&self) -> Option<Vec<u8>> {
        let mut message = self.message(MessageType::Nak);
        let question = self.question;
        if question.renews {
            return self.frame(&message, &[], (question.mac, question.client));
        }
        message.set_flags(Flags::default().set_broadcast());
        self.frame(&message, &[], (BROADCAST, Ipv4Addr::BROADCAST))
    }

    fn message(&self, kind: MessageType) -> Message {
        let unspecified = Ipv4Addr::UNSPECIFIED;
        let relay = self.question.relay.map(|relay| relay.address);
        let mut message = Message::new_with_id(
            self.question.xid,
            unspecified,
            unspecified,
            unspecified,
            relay.unwrap_or(unspecified),
            &self.question.mac,
        );
        message.set_opcode(Opcode::BootReply);
        if self.question.broadcast {
            message.set_flags(Flags::default().set_broadcast());
        }
        let opts = message.opts_mut();
        opts.insert(DhcpOption::MessageType(kind));
        opts.insert(DhcpOption::ServerIdentifier(self.line.server));
        if let Some(identifier) = &self.question.identifier {
            opts.insert(DhcpOption::ClientIdentifier(identifier.clone()));
        }
        message
    }

    fn describe(&self, message: &mut Message, lease: &Lease) {
        let router = self.line.server;
        let net = Ipv4Net::new(lease.address, lease.prefix_len.min(32)).unwrap_or_default();
        let opts = message.opts_mut();
        opts.insert(DhcpOption::SubnetMask(net.netmask()));
        opts.insert(DhcpOption::Router(vec![router]));
        opts.insert(DhcpOption::InterfaceMtu(lease.mtu));
        if !lease.dns.is_empty() {
            opts.insert(DhcpOption::DomainNameServer(lease.dns.clone()));
        }
        if self.question.classless && !net.contains(&router) {
            // Clients that take these ignore the router (RFC 3442), so the default is among them.
            // A route via 0.0.0.0 is on the link.
            let routes = vec![
                (Ipv4Net::from(router), Ipv4Addr::UNSPECIFIED),
                (Ipv4Net::default(), router),
            ];
            opts.insert(DhcpOption::ClasslessStaticRoute(routes));
        }
    }

    /// RFC 2131, 4.1: at the address that the client has; else to all if it asks for that; else at
    /// the address that it is going to have.
    fn to(&self, address: Ipv4Addr) -> (Mac, Ipv4Addr) {
        let question = self.question;
        if !question.client.is_unspecified() {
            (question.mac, question.client)
        } else if question.broadcast {
            (BROADCAST, Ipv4Addr::BROADCAST)
        } else {
            (question.mac, address)
        }
    }

    /// The message with further options, to the client; or to the relay that it came through.
    fn frame(&self, message: &Message, more: &[u8], client: (Mac, Ipv4Addr)) -> Option<Vec<u8>> {
        let mut payload = message.to_vec().ok()?;
        insert(&mut payload, more);
        if let Some(information) = &self.question.relay_information {
            // The last one (RFC 3046, 2.1).
            let head = [RELAY_INFORMATION, u8::try_from(information.len()).ok()?];
            insert(&mut payload, &[&head[..], information].concat());
        }
        padded(&mut payload);
        let (to, port) = match self.question.relay {
            Some(relay) => ((relay.mac, relay.address), SERVER_PORT),
            None => (client, CLIENT_PORT),
        };
        let datagram = Datagram {
            source_mac: self.line.gateway_mac,
            destination_mac: to.0,
            tags: self.tags,
            source: self.line.server,
            destination: to.1,
            source_port: SERVER_PORT,
            destination_port: port,
            payload: &payload,
        };
        datagram.build()
    }
}

/// Puts options at the end of a message's, before what ends them.
pub(super) fn insert(payload: &mut Vec<u8>, options: &[u8]) {
    if payload.last() == Some(&END) {
        payload.pop();
    }
    payload.extend_from_slice(options);
    payload.push(END);
}

/// Makes a message as long as old clients need it.
pub(super) fn padded(payload: &mut Vec<u8>) {
    payload.resize(payload.len().max(MIN_LEN), 0);
}

fn seconds(time: Duration) -> u32 {
    u32::try_from(time.as_secs()).unwrap_or(u32::MAX)
}
