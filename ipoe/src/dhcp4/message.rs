//! What a client says.

use std::net::Ipv4Addr;

use dhcproto::v4::{DhcpOption, HType, Message, MessageType, Opcode, OptionCode};
use dhcproto::{Decodable as _, Decoder};

use super::forcerenew::{HMAC_MD5, NONCE_CAPABLE};
use super::{CLIENT_PORT, Ignored, Line, SERVER_PORT};
use crate::frame::{BROADCAST, Datagram, Mac};

/// Length of a message before its options, the magic cookie included.
pub(super) const FIXED_LEN: usize = 240;
const MAGIC: [u8; 4] = [99, 130, 83, 99];
const PAD: u8 = 0;
pub(super) const END: u8 = 255;
/// What a relay, or the access switch, says of the client (RFC 3046).
pub(super) const RELAY_INFORMATION: u8 = 82;
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
    /// Whether it has asked from that address, and not all (RFC 2131, 4.3.2: RENEWING).
    pub renews: bool,
    pub xid: u32,
    pub broadcast: bool,
    /// The client's identifier, to be returned (RFC 6842).
    pub identifier: Option<Vec<u8>>,
    /// Whether it asks for classless static routes.
    pub classless: bool,
    /// Whether it takes a FORCERENEW that is signed by a nonce (RFC 6704).
    pub takes_forcerenew: bool,
    /// What a relay or the access switch has said of it, to be returned as it is (RFC 3046, 2.2).
    /// It decides nothing: the client is on the line that the frame came from, whatever it says.
    pub relay_information: Option<Vec<u8>>,
    /// The relay that is answered instead of the client.
    pub relay: Option<Relay>,
}

/// A relay between the client and the gateway.
#[derive(Clone, Copy)]
pub(super) struct Relay {
    pub mac: Mac,
    pub address: Ipv4Addr,
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

/// Whom a message is from: the station that has sent the frame, or the one that a relay has heard.
/// No more is believed of it than which one of its line's clients it is.
#[must_use]
pub fn client(datagram: &Datagram<'_>) -> Mac {
    let relay = datagram.payload.get(24..28);
    let relayed = relay.is_some_and(|address| address != [0; 4]);
    let hardware = datagram.payload.get(28..34).filter(|_| relayed);
    let hardware = hardware.and_then(|mac| mac.try_into().ok());
    hardware.unwrap_or(datagram.source_mac)
}

impl Question {
    pub fn read(datagram: &Datagram<'_>, line: &Line) -> Result<Self, Ignored> {
        let link = [BROADCAST, line.gateway_mac].contains(&datagram.destination_mac);
        // A client that comes from elsewhere renews with the server it had there: the destination
        // of the packet says nothing.
        let from = [CLIENT_PORT, SERVER_PORT].contains(&datagram.source_port);
        if !link || !from || datagram.destination_port != SERVER_PORT {
            return Err(Ignored::NotForServer);
        }
        let payload = datagram.payload;
        let options = payload.get(FIXED_LEN..).ok_or(Ignored::Malformed)?;
        if payload[FIXED_LEN - MAGIC.len()..FIXED_LEN] != MAGIC {
            return Err(Ignored::Malformed);
        }
        let options = Options::read(options)?;
        let payload = [&payload[..FIXED_LEN], &options.known].concat();
        let message =
            Message::decode(&mut Decoder::new(&payload)).map_err(|_| Ignored::Malformed)?;
        let asked = Self::of(&message, datagram, line.server)?;
        Ok(Self {
            takes_forcerenew: options.takes_forcerenew,
            relay_information: options.relay_information,
            ..asked
        })
    }

    fn of(message: &Message, datagram: &Datagram<'_>, server: Ipv4Addr) -> Result<Self, Ignored> {
        if message.opcode() != Opcode::BootRequest {
            return Err(Ignored::FromServer);
        }
        let relay = Some(message.giaddr()).filter(|address| !address.is_unspecified());
        let relay = relay.map(|address| Relay {
            mac: datagram.source_mac,
            address,
        });
        // A relay has the other port too, and only a relay has it.
        if relay.is_none() && datagram.source_port != CLIENT_PORT {
            return Err(Ignored::NotForServer);
        }
        // The length first: the library cuts the address out by it.
        if message.htype() != HType::Eth || usize::from(message.hlen()) != size_of::<Mac>() {
            return Err(Ignored::ForeignHardware);
        }
        let mac = Mac::try_from(message.chaddr()).map_err(|_| Ignored::ForeignHardware)?;
        let is_station = mac[0] & 1 == 0 && mac != [0; 6];
        if !is_station || (relay.is_none() && mac != datagram.source_mac) {
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
            renews: !message.ciaddr().is_unspecified()
                && datagram.source == message.ciaddr()
                && datagram.destination != Ipv4Addr::BROADCAST,
            xid: message.xid(),
            broadcast: message.flags().broadcast(),
            identifier,
            classless,
            takes_forcerenew: false,
            relay_information: None,
            relay,
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

/// The options that are read here.
struct Options {
    /// For the library, which takes what it cannot read for the end, and asserts the length of some
    /// where debug assertions are on; so it is given no others.
    known: Vec<u8>,
    takes_forcerenew: bool,
    relay_information: Option<Vec<u8>>,
}

impl Options {
    fn read(mut options: &[u8]) -> Result<Self, Ignored> {
        let mut read = Self {
            known: Vec::new(),
            takes_forcerenew: false,
            relay_information: None,
        };
        loop {
            options = match options {
                [] | [END, ..] => break,
                [PAD, rest @ ..] => rest,
                [code, len, rest @ ..] => {
                    let len = usize::from(*len);
                    let (data, after) = rest.split_at_checked(len).ok_or(Ignored::Options)?;
                    match *code {
                        RELAY_INFORMATION => read.relay_information = Some(data.to_vec()),
                        NONCE_CAPABLE => read.takes_forcerenew = data.contains(&HMAC_MD5),
                        code if KNOWN.map(u8::from).contains(&code) => {
                            read.known.extend_from_slice(&options[..2]);
                            read.known.extend_from_slice(data);
                        }
                        _ => {}
                    }
                    after
                }
                [_] => return Err(Ignored::Options),
            };
        }
        read.known.push(END);
        Ok(read)
    }
}
