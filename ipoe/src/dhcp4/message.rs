//! What a client says.

use std::net::Ipv4Addr;

use dhcproto::v4::{DhcpOption, HType, Message, MessageType, Opcode, OptionCode};
use dhcproto::{Decodable as _, Decoder};

use super::{CLIENT_PORT, Ignored, Line, SERVER_PORT};
use crate::frame::{BROADCAST, Datagram, Mac};

/// Length of a message before its options, the magic cookie included.
pub(super) const FIXED_LEN: usize = 240;
const MAGIC: [u8; 4] = [99, 130, 83, 99];
const PAD: u8 = 0;
const END: u8 = 255;
const KNOWN: [OptionCode; 5] = [
    OptionCode::RequestedIpAddress,
    OptionCode::MessageType,
    OptionCode::ServerIdentifier,
    OptionCode::ParameterRequestList,
    OptionCode::ClientIdentifier,
];

/// A message whose fields fit together.
pub(super) struct Question {
    pub kind: Kind,
    pub mac: Mac,
    /// The address the client has already, or unspecified.
    pub client: Ipv4Addr,
    pub xid: u32,
    pub broadcast: bool,
    /// The client's identifier, to be returned (RFC 6842).
    pub identifier: Option<Vec<u8>>,
    /// Whether it asks for classless static routes.
    pub classless: bool,
}

/// What it asks.
#[derive(Clone, Copy)]
pub(super) enum Kind {
    Discover,
    /// Selecting, rebooting, renewing or rebinding: in each the client names one address.
    Request {
        wanted: Ipv4Addr,
    },
    Inform,
    Release,
    Decline {
        address: Ipv4Addr,
    },
}

impl Question {
    pub fn read(datagram: &Datagram<'_>, line: &Line) -> Result<Self, Ignored> {
        let link = [BROADCAST, line.gateway_mac].contains(&datagram.destination_mac);
        // A client that comes from elsewhere renews with the server it had there: the destination
        // of the packet says nothing.
        let ports = (datagram.source_port, datagram.destination_port);
        if !link || ports != (CLIENT_PORT, SERVER_PORT) {
            return Err(Ignored::NotForServer);
        }
        let payload = datagram.payload;
        let options = payload.get(FIXED_LEN..).ok_or(Ignored::Malformed)?;
        if payload[FIXED_LEN - MAGIC.len()..FIXED_LEN] != MAGIC {
            return Err(Ignored::Malformed);
        }
        let payload = [&payload[..FIXED_LEN], &known(options)?].concat();
        let message =
            Message::decode(&mut Decoder::new(&payload)).map_err(|_| Ignored::Malformed)?;
        Self::of(&message, datagram.source_mac, line.server)
    }

    fn of(message: &Message, mac: Mac, server: Ipv4Addr) -> Result<Self, Ignored> {
        if message.opcode() != Opcode::BootRequest {
            return Err(Ignored::FromServer);
        }
        if !message.giaddr().is_unspecified() {
            return Err(Ignored::Relayed);
        }
        // The length first: the library cuts the address out by it.
        if message.htype() != HType::Eth
            || usize::from(message.hlen()) != mac.len()
            || message.chaddr() != mac
        {
            return Err(Ignored::ForeignHardware);
        }
        let identifier = match message.opts().get(OptionCode::ClientIdentifier) {
            Some(DhcpOption::ClientIdentifier(identifier)) => Some(identifier.clone()),
            _ => None,
        };
        let classless = match message.opts().get(OptionCode::ParameterRequestList) {
            Some(DhcpOption::ParameterRequestList(codes)) => {
                codes.contains(&OptionCode::ClasslessStaticRoute)
            }
            _ => false,
        };
        Ok(Self {
            kind: kind(message, server)?,
            mac,
            client: message.ciaddr(),
            xid: message.xid(),
            broadcast: message.flags().broadcast(),
            identifier,
            classless,
        })
    }
}

fn kind(message: &Message, server: Ipv4Addr) -> Result<Kind, Ignored> {
    let opts = message.opts();
    let chosen = match opts.get(OptionCode::ServerIdentifier) {
        Some(DhcpOption::ServerIdentifier(chosen)) => Some(*chosen),
        _ => None,
    };
    let requested = match opts.get(OptionCode::RequestedIpAddress) {
        Some(DhcpOption::RequestedIpAddress(requested)) => Some(*requested),
        _ => None,
    };
    let client = Some(message.ciaddr()).filter(|address| !address.is_unspecified());
    let ours = || match chosen {
        Some(chosen) if chosen != server => Err(Ignored::OtherServer),
        _ => Ok(()),
    };
    match opts.msg_type().ok_or(Ignored::Malformed)? {
        MessageType::Discover => Ok(Kind::Discover),
        MessageType::Request => {
            ours()?;
            match (chosen, requested, client) {
                // Selecting, rebooting; and clients that name the address twice.
                (_, Some(wanted), None) | (None, None, Some(wanted)) => {
                    Ok(Kind::Request { wanted })
                }
                (_, Some(wanted), Some(client)) if wanted == client => Ok(Kind::Request { wanted }),
                _ => Err(Ignored::Contradictory),
            }
        }
        MessageType::Decline => {
            ours()?;
            let address = requested.ok_or(Ignored::Contradictory)?;
            Ok(Kind::Decline { address })
        }
        MessageType::Release => {
            ours()?;
            client.map(|_| Kind::Release).ok_or(Ignored::Contradictory)
        }
        MessageType::Inform => client.map(|_| Kind::Inform).ok_or(Ignored::Contradictory),
        MessageType::Offer | MessageType::Ack | MessageType::Nak => Err(Ignored::FromServer),
        _ => Err(Ignored::Unserved),
    }
}

/// The options that are read here. The library takes what it cannot read for the end, and asserts the
/// length of some where debug assertions are on; so it is given no other.
fn known(mut options: &[u8]) -> Result<Vec<u8>, Ignored> {
    let mut known = Vec::new();
    loop {
        options = match options {
            [] | [END, ..] => break,
            [PAD, rest @ ..] => rest,
            [code, len, rest @ ..] => {
                let len = usize::from(*len);
                let (data, after) = rest.split_at_checked(len).ok_or(Ignored::Options)?;
                if KNOWN.map(u8::from).contains(code) {
                    known.extend_from_slice(&options[..2]);
                    known.extend_from_slice(data);
                }
                after
            }
            [_] => return Err(Ignored::Options),
        };
    }
    known.push(END);
    Ok(known)
}
