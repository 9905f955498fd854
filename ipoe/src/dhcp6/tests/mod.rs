mod exchange;
mod hostile;
mod properties;

use std::net::Ipv6Addr;

use dhcproto::v6::{
    DhcpOption, DhcpOptions, IAAddr, IANA, IAPD, IAPrefix, IATA, Message, MessageType, OptionCode,
    UnknownOption,
};
use dhcproto::{Decodable as _, Decoder, Encodable as _};
use ipnet::Ipv6Net;

use super::*;
use crate::frame::{Body, group_mac};
use crate::holder::{Holder, Replace};
use crate::line6::ALL_DHCP;
use crate::testing::{
    CPE, CPE_ADDRESS, GATEWAY, HOUR, OTHER_CPE, RESOLVER, TAGS, TAGS_PLAIN, policies, session,
};

const ADDRESS: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 2, 0x101, 0, 0, 0, 1);
/// Of the line, but not the one that is given.
const NEARBY: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 2, 0x101, 0, 0, 0, 9);
const FOREIGN: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 77, 0, 0, 0, 0, 1);
const XID: [u8; 3] = [7, 8, 9];
/// IAIDs.
const NA: u32 = 11;
const PD: u32 = 22;

fn net(text: &str) -> Ipv6Net {
    text.parse().unwrap()
}

fn delegated() -> Ipv6Net {
    net("2001:db8:1:100::/56")
}

fn foreign() -> Ipv6Net {
    net("2001:db8:77:100::/56")
}

fn line() -> Line {
    Line {
        gateway: GATEWAY,
        session: Some(session()),
        holder: None,
        replace: Replace::AtOnce,
    }
}

fn ended() -> Line {
    Line {
        session: None,
        ..line()
    }
}

fn held(mac: Mac, replace: Replace) -> Line {
    Line {
        holder: Some(Holder {
            mac,
            acknowledged: HOUR,
        }),
        replace,
        ..line()
    }
}

fn server() -> Duid {
    Duid::of_mac(GATEWAY.mac)
}

fn client() -> Client {
    Client {
        mac: CPE,
        duid: Duid::of_mac(CPE),
    }
}

fn binding() -> Binding {
    Binding {
        client: client(),
        address: Some(NA),
        prefix: Some(PD),
    }
}

fn addresses(addresses: &[Ipv6Addr]) -> DhcpOptions {
    let options = addresses.iter().map(|addr| {
        DhcpOption::IAAddr(IAAddr {
            addr: *addr,
            preferred_life: 1,
            valid_life: 2,
            opts: DhcpOptions::new(),
        })
    });
    options.collect()
}

/// An IA_NA.
fn na(id: u32, listed: &[Ipv6Addr]) -> DhcpOption {
    DhcpOption::IANA(IANA {
        id,
        t1: 0,
        t2: 0,
        opts: addresses(listed),
    })
}

/// An IA_TA.
fn ta(id: u32, listed: &[Ipv6Addr]) -> DhcpOption {
    DhcpOption::IATA(IATA {
        id,
        opts: addresses(listed),
    })
}

/// An IA_PD.
fn pd(id: u32, listed: &[Ipv6Net]) -> DhcpOption {
    let options = listed.iter().map(|prefix| {
        DhcpOption::IAPrefix(IAPrefix {
            preferred_lifetime: 1,
            valid_lifetime: 2,
            prefix_len: prefix.prefix_len(),
            prefix_ip: prefix.addr(),
            opts: DhcpOptions::new(),
        })
    });
    DhcpOption::IAPD(IAPD {
        id,
        t1: 0,
        t2: 0,
        opts: options.collect(),
    })
}

/// A message of the CPE; one that is for this server names it.
fn message(kind: MessageType, options: &[DhcpOption]) -> Message {
    let mut message = Message::new_with_id(kind, XID);
    let opts = message.opts_mut();
    opts.insert(DhcpOption::ClientId(client().duid.as_bytes().to_vec()));
    let ours = [
        MessageType::Request,
        MessageType::Renew,
        MessageType::Release,
        MessageType::Decline,
    ];
    if ours.contains(&kind) {
        opts.insert(DhcpOption::ServerId(server().as_bytes().to_vec()));
    }
    // The library puts an option before those of its kind.
    for option in options.iter().rev() {
        opts.insert(option.clone());
    }
    message
}

/// What the CPE sends, where `edit` may change what is around it.
fn framed(payload: &[u8], edit: impl FnOnce(&mut Packet<'_>)) -> Vec<u8> {
    let mut packet = Packet {
        source_mac: CPE,
        destination_mac: group_mac(ALL_DHCP),
        tags: TAGS,
        source: CPE_ADDRESS,
        destination: ALL_DHCP,
        hop_limit: 1,
        body: Body::Udp {
            source_port: CLIENT_PORT,
            destination_port: SERVER_PORT,
            payload,
        },
    };
    edit(&mut packet);
    packet.build().unwrap()
}

fn sent(message: &Message) -> Vec<u8> {
    framed(&message.to_vec().unwrap(), |_| {})
}

fn ask_as(line: &Line, binding: Option<&Binding>, frame: &[u8]) -> Result<Answer, Ignored> {
    let server = server();
    let service = Service {
        line,
        server: &server,
        binding,
    };
    service.answer(frame, HOUR)
}

fn ask(line: &Line, message: &Message) -> Result<Answer, Ignored> {
    ask_as(line, None, &sent(message))
}

fn read(answer: &Answer) -> (Packet<'_>, Message) {
    let packet = Packet::parse(answer.frame.as_ref().unwrap()).unwrap();
    let Body::Udp {
        source_port: SERVER_PORT,
        destination_port: CLIENT_PORT,
        payload,
    } = packet.body
    else {
        panic!("not from a server to a client: {packet:?}");
    };
    let message = Message::decode(&mut Decoder::new(payload)).unwrap();
    (packet, message)
}

/// An answer in one line per association, in the order of options: `na 11 2001:db8::1=3600`.
fn told(answer: &Answer) -> Vec<String> {
    let (_, message) = read(answer);
    message.opts().iter().filter_map(association).collect()
}

fn association(option: &DhcpOption) -> Option<String> {
    let (kind, id, opts) = match option {
        DhcpOption::IANA(ia) => ("na", ia.id, &ia.opts),
        DhcpOption::IATA(ia) => ("ta", ia.id, &ia.opts),
        DhcpOption::IAPD(ia) => ("pd", ia.id, &ia.opts),
        DhcpOption::StatusCode(status) => return Some(format!("{:?}", status.status)),
        _ => return None,
    };
    let held = opts.iter().map(|option| match option {
        DhcpOption::IAAddr(lease) => {
            assert_eq!(lease.preferred_life, lease.valid_life);
            format!(" {}={}", lease.addr, lease.valid_life)
        }
        DhcpOption::IAPrefix(lease) => {
            assert_eq!(lease.preferred_lifetime, lease.valid_lifetime);
            let (prefix, len) = (lease.prefix_ip, lease.prefix_len);
            format!(" {prefix}/{len}={}", lease.valid_lifetime)
        }
        DhcpOption::StatusCode(status) => format!(" {:?}", status.status),
        option => panic!("{option:?} in an association"),
    });
    Some(format!("{kind} {id}{}", held.collect::<String>()))
}
