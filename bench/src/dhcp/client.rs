//! What a router says in an exchange of DHCPv4, and in one of DHCPv6.

use std::net::{Ipv4Addr, Ipv6Addr};

use anyhow::{Context as _, Result, ensure};
use doorstep_ipoe::dhcp4::{CLIENT_PORT, SERVER_PORT};
use doorstep_ipoe::dhcp6::{self, Duid};
use doorstep_ipoe::frame::{BROADCAST, Body, Datagram, HOP_LIMIT, Packet, group_mac};
use doorstep_ipoe::line6::ALL_DHCP;

use crate::shared;
use crate::subscriber::{self, DELEGATED_LEN};

/// UDP port of DHCPv6 clients.
const CLIENT_PORT6: u16 = 546;
/// Before the options of a DHCPv4 message: what is common to all, and the magic cookie.
const FIXED_LEN: usize = 240;
/// Routers send no shorter message (RFC 1542, 2.1).
const MIN_LEN: usize = 300;
const MAGIC: [u8; 4] = [99, 130, 83, 99];

/// How far an exchange is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// An offer is waited for.
    Asked,
    /// An acknowledgement is waited for.
    Chosen,
}

/// What follows from a frame.
#[derive(Debug, PartialEq, Eq)]
pub enum Next {
    /// The offer is taken with this.
    Choose(Vec<u8>),
    /// It is acknowledged.
    Done,
    /// It has come again.
    Nothing,
}

/// One exchange of a subscriber's router: two questions, two answers. It is known by a number of
/// 24 bits.
pub trait Dialogue: Send + 'static {
    /// The first question.
    fn ask(&self, subscriber: u32, id: u32) -> Result<Vec<u8>>;
    /// Of which exchange a frame is.
    fn id(&self, frame: &[u8]) -> Option<u32>;
    /// What follows from an answer; an error if it is not what this subscriber must be told.
    fn hear(&self, subscriber: u32, step: Step, frame: &[u8]) -> Result<Next>;
}

/// DISCOVER, OFFER, REQUEST, ACK.
pub struct Dora;

impl Dora {
    fn frame(subscriber: u32, id: u32, options: &[u8]) -> Result<Vec<u8>> {
        let mac = subscriber::mac(subscriber).0;
        let mut message = vec![0; FIXED_LEN];
        message[..4].copy_from_slice(&[1, 1, 6, 0]);
        message[4..8].copy_from_slice(&id.to_be_bytes());
        message[28..34].copy_from_slice(&mac);
        message[FIXED_LEN - MAGIC.len()..].copy_from_slice(&MAGIC);
        message.extend_from_slice(options);
        // What routers ask for: mask, router, resolvers, MTU, classless routes.
        message.extend_from_slice(&[55, 5, 1, 3, 6, 26, 121, 255]);
        message.resize(message.len().max(MIN_LEN), 0);
        let datagram = Datagram {
            source_mac: mac,
            destination_mac: BROADCAST,
            tags: &tags(subscriber),
            source: Ipv4Addr::UNSPECIFIED,
            destination: Ipv4Addr::BROADCAST,
            source_port: CLIENT_PORT,
            destination_port: SERVER_PORT,
            payload: &message,
        };
        datagram.build().context("a message that fits")
    }
}

impl Dialogue for Dora {
    fn ask(&self, subscriber: u32, id: u32) -> Result<Vec<u8>> {
        Self::frame(subscriber, id, &[53, 1, 1])
    }

    fn id(&self, frame: &[u8]) -> Option<u32> {
        let datagram = Datagram::parse(frame).ok()?;
        let id = datagram.payload.get(4..8)?;
        (datagram.destination_port == CLIENT_PORT).then(|| number(id))
    }

    fn hear(&self, subscriber: u32, step: Step, frame: &[u8]) -> Result<Next> {
        let datagram = Datagram::parse(frame)?;
        let message = datagram.payload;
        let kind = option(message, 53).context("no message type")?;
        match (step, kind) {
            (Step::Asked, [2]) | (Step::Chosen, [5]) => {}
            (Step::Chosen, [2]) => return Ok(Next::Nothing),
            _ => anyhow::bail!("subscriber {subscriber} is told message type {kind:?}"),
        }
        let wanted = subscriber::ipv4(subscriber).octets();
        ensure!(
            message.get(16..20) == Some(&wanted),
            "subscriber {subscriber} is given {:?}, not {wanted:?}",
            message.get(16..20)
        );
        if step == Step::Chosen {
            return Ok(Next::Done);
        }
        let server = option(message, 54).context("no server identifier")?;
        let id = number(&message[4..8]);
        let options = [&[53, 1, 3, 50, 4][..], &wanted, &[54, 4], server].concat();
        Ok(Next::Choose(Self::frame(subscriber, id, &options)?))
    }
}

/// SOLICIT, ADVERTISE, REQUEST, REPLY, for a delegated prefix.
pub struct Delegation;

const SOLICIT: u8 = 1;
const ADVERTISE: u8 = 2;
const REQUEST: u8 = 3;
const REPLY: u8 = 7;
const SERVER_ID: u16 = 2;
const IA_PD: u16 = 25;

impl Delegation {
    fn frame(subscriber: u32, kind: u8, id: u32, options: &[u8]) -> Result<Vec<u8>> {
        let mac = subscriber::mac(subscriber).0;
        let [_, id @ ..] = id.to_be_bytes();
        let association = [&[0, 0, 0, 1][..], &[0; 8]].concat();
        let message = [
            &[kind],
            &id[..],
            &option6(1, Duid::of_mac(mac).as_bytes()),
            &option6(8, &[0, 0]),
            &option6(IA_PD, &association),
            options,
        ]
        .concat();
        let packet = Packet {
            source_mac: mac,
            destination_mac: group_mac(ALL_DHCP),
            tags: &tags(subscriber),
            source: Ipv6Addr::from((0xfe80_u128 << 112) + u128::from(subscriber) + 0x100),
            destination: ALL_DHCP,
            hop_limit: HOP_LIMIT,
            body: Body::Udp {
                source_port: CLIENT_PORT6,
                destination_port: dhcp6::SERVER_PORT,
                payload: &message,
            },
        };
        packet.build().context("a message that fits")
    }

    fn message(frame: &[u8]) -> Option<&[u8]> {
        match Packet::parse(frame).ok()?.body {
            Body::Udp {
                destination_port: CLIENT_PORT6,
                payload,
                ..
            } => Some(payload),
            Body::Udp { .. } | Body::Icmp { .. } | Body::Other => None,
        }
    }
}

impl Dialogue for Delegation {
    fn ask(&self, subscriber: u32, id: u32) -> Result<Vec<u8>> {
        Self::frame(subscriber, SOLICIT, id, &[])
    }

    fn id(&self, frame: &[u8]) -> Option<u32> {
        Self::message(frame)?.get(1..4).map(number)
    }

    fn hear(&self, subscriber: u32, step: Step, frame: &[u8]) -> Result<Next> {
        let message = Self::message(frame).context("no message")?;
        let kind = message[0];
        match (step, kind) {
            (Step::Asked, ADVERTISE) | (Step::Chosen, REPLY) => {}
            (Step::Chosen, ADVERTISE) => return Ok(Next::Nothing),
            _ => anyhow::bail!("subscriber {subscriber} is told message type {kind}"),
        }
        let prefix = subscriber::ipv6(subscriber).octets();
        let wanted = [&[DELEGATED_LEN], &prefix[..]].concat();
        ensure!(
            message.windows(wanted.len()).any(|at| at == wanted),
            "subscriber {subscriber} is not delegated its prefix"
        );
        if step == Step::Chosen {
            return Ok(Next::Done);
        }
        let server = server_id(&message[4..]).context("no server identifier")?;
        let id = number(&message[1..4]);
        let options = option6(SERVER_ID, server);
        Ok(Next::Choose(Self::frame(
            subscriber, REQUEST, id, &options,
        )?))
    }
}

/// The line's tags, as they stand in its frames.
fn tags(subscriber: u32) -> [u8; 8] {
    let (s_vid, c_vid) = shared::vlans(subscriber);
    let ([a, b], [c, d]) = (s_vid.to_be_bytes(), c_vid.to_be_bytes());
    [0x88, 0xa8, a, b, 0x81, 0x00, c, d]
}

fn number(bytes: &[u8]) -> u32 {
    bytes
        .iter()
        .fold(0, |sum, byte| sum << 8 | u32::from(*byte))
}

/// An option of a DHCPv4 message.
fn option(message: &[u8], wanted: u8) -> Option<&[u8]> {
    let mut rest = message.get(FIXED_LEN..)?;
    loop {
        match rest {
            [0, after @ ..] => rest = after,
            [255, ..] | [] | [_] => return None,
            [code, len, after @ ..] => {
                let (data, after) = after.split_at_checked(usize::from(*len))?;
                if *code == wanted {
                    return Some(data);
                }
                rest = after;
            }
        }
    }
}

fn option6(code: u16, data: &[u8]) -> Vec<u8> {
    let len = u16::try_from(data.len()).unwrap_or(u16::MAX);
    [&code.to_be_bytes()[..], &len.to_be_bytes(), data].concat()
}

fn server_id(mut options: &[u8]) -> Option<&[u8]> {
    loop {
        let [a, b, c, d, rest @ ..] = options else {
            return None;
        };
        let len = usize::from(u16::from_be_bytes([*c, *d]));
        let (data, after) = rest.split_at_checked(len)?;
        if u16::from_be_bytes([*a, *b]) == SERVER_ID {
            return Some(data);
        }
        options = after;
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use doorstep_ipoe::dhcp4::{self, Lease, Replace, Times};
    use doorstep_ipoe::dhcp6::Service;
    use doorstep_ipoe::holder::Holder;
    use doorstep_ipoe::line6::{Gateway, Line, Session};

    use super::*;

    const GATEWAY_MAC: [u8; 6] = [2, 0, 0, 0, 0, 0xfe];
    const HOUR: Duration = Duration::from_secs(3600);
    const ID: u32 = 0x00c0_ffee;

    fn answered(subscriber: u32, given: u32, question: &[u8]) -> Vec<u8> {
        let line = dhcp4::Line {
            gateway_mac: GATEWAY_MAC,
            server: Ipv4Addr::new(100, 127, 255, 254),
            lease: Some(Lease {
                address: subscriber::ipv4(given),
                prefix_len: 10,
                dns: vec![],
                mtu: 1500,
                times: Times::of(HOUR),
                forcerenew: None,
            }),
            holder: None,
            replace: Replace::AtOnce,
        };
        let datagram = Datagram::parse(question).expect("a datagram");
        assert_eq!(datagram.tags, tags(subscriber));
        let answer = dhcp4::answer(question, &line, HOUR).expect("answered");
        answer.frame.expect("a frame")
    }

    #[test]
    fn an_address_is_got_by_four_messages() {
        let discover = Dora.ask(4711, ID).expect("fits");
        let offer = answered(4711, 4711, &discover);
        assert_eq!(Dora.id(&offer), Some(ID));
        let Next::Choose(request) = Dora.hear(4711, Step::Asked, &offer).expect("an offer") else {
            panic!("not taken");
        };
        assert_eq!(
            Dora.hear(4711, Step::Chosen, &offer).expect("again"),
            Next::Nothing
        );
        let ack = answered(4711, 4711, &request);
        assert_eq!(
            Dora.hear(4711, Step::Chosen, &ack).expect("an ACK"),
            Next::Done
        );
        let foreign = answered(4711, 4712, &discover);
        Dora.hear(4711, Step::Asked, &foreign)
            .expect_err("another's address");
    }

    #[test]
    fn a_prefix_is_got_by_four_messages() {
        let line = |subscriber| Line {
            gateway: Gateway {
                mac: GATEWAY_MAC,
                address: Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1),
            },
            session: Some(Session {
                line: None,
                delegated: ipnet::Ipv6Net::new(subscriber::ipv6(subscriber), DELEGATED_LEN).ok(),
                dns: vec![],
                mtu: 1500,
                lifetime: HOUR,
            }),
            holder: Some(Holder {
                mac: subscriber::mac(4711).0,
                acknowledged: HOUR,
            }),
            replace: Replace::Never,
        };
        let answered = |subscriber, question: &[u8]| {
            let service = Service {
                line: &line(subscriber),
                server: &Duid::of_mac(GATEWAY_MAC),
                binding: None,
            };
            let answer = service.answer(question, HOUR).expect("answered");
            answer.frame.expect("a frame")
        };
        let solicit = Delegation.ask(4711, ID).expect("fits");
        let advertise = answered(4711, &solicit);
        assert_eq!(Delegation.id(&advertise), Some(ID & 0xff_ffff));
        let next = Delegation.hear(4711, Step::Asked, &advertise);
        let Next::Choose(request) = next.expect("an advertisement") else {
            panic!("not taken");
        };
        let reply = answered(4711, &request);
        assert_eq!(
            Delegation
                .hear(4711, Step::Chosen, &reply)
                .expect("a reply"),
            Next::Done
        );
        let foreign = answered(4712, &solicit);
        Delegation
            .hear(4711, Step::Asked, &foreign)
            .expect_err("another's prefix");
    }
}
