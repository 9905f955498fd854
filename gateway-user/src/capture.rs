//! Packets as people have them: the digits of a frame, or a capture file.

use std::io::Read;

use pcap_parser::traits::PcapNGPacketBlock;
use pcap_parser::{Block, Linktype, PcapBlockOwned, PcapError, create_reader};
use thiserror::Error;

/// Packets of one file at the most.
pub const MAX_PACKETS: usize = 1000;

/// Bytes of a capture file that are looked at together, so the most that a packet may have there.
const BUFFER: usize = 1 << 20;

#[derive(Debug, Error, PartialEq, Eq)]
pub enum CaptureError {
    #[error("an odd number of hexadecimal digits: a digit is missing")]
    OddDigits,
    #[error("it is no capture file in pcap or pcapng format")]
    NoCapture,
    #[error("the capture file is damaged, or cut off, behind packet {0}")]
    Damaged(usize),
    #[error("its packets are of link type {0}, not Ethernet (1): capture on a single port")]
    NoEthernet(i32),
    #[error(
        "packet {number} has {captured} of its {whole} bytes only; capture whole packets, \
         with `tcpdump -s 0`"
    )]
    Snapped {
        number: usize,
        captured: usize,
        whole: usize,
    },
    #[error(
        "there are more than {MAX_PACKETS} packets; `tcpdump -r FILE -c {MAX_PACKETS} -w PART` \
         makes a part of it"
    )]
    TooMany,
}

/// Whether this can only be meant as the digits of a frame.
pub fn is_digits(text: &str) -> bool {
    let mut chars = text.chars().filter(|c| !is_filler(*c)).peekable();
    chars.peek().is_some() && chars.all(|c| c.is_ascii_hexdigit())
}

/// `02:00:…`, `0200 …` and the like are all written.
fn is_filler(c: char) -> bool {
    c.is_whitespace() || c == ':'
}

/// The frame with these hexadecimal digits ([`is_digits`]).
pub fn digits(text: &str) -> Result<Vec<u8>, CaptureError> {
    let digits: Vec<u8> = text
        .chars()
        .filter_map(|c| c.to_digit(16))
        .filter_map(|digit| u8::try_from(digit).ok())
        .collect();
    let (bytes, rest) = digits.as_chunks::<2>();
    if !rest.is_empty() {
        return Err(CaptureError::OddDigits);
    }
    Ok(bytes.iter().map(|[high, low]| high << 4 | low).collect())
}

/// The Ethernet frames of a capture file, pcap or pcapng, in their order.
pub fn read(file: impl Read + Send) -> Result<Vec<Vec<u8>>, CaptureError> {
    let mut reader = create_reader(BUFFER, file).map_err(|_| CaptureError::NoCapture)?;
    let mut frames = Vec::new();
    loop {
        match reader.next() {
            Ok((length, block)) => {
                take(&block, &mut frames)?;
                reader.consume(length);
            }
            Err(PcapError::Eof) => return Ok(frames),
            Err(PcapError::Incomplete(_)) => {
                let before = reader.data().len();
                let refilled = reader.refill().is_ok();
                let is_over = reader.reader_exhausted();
                if !refilled || (reader.data().len() == before && !is_over) {
                    return Err(CaptureError::Damaged(frames.len()));
                }
            }
            Err(_) => return Err(CaptureError::Damaged(frames.len())),
        }
    }
}

/// Adds a block's packet, if it has one.
fn take(block: &PcapBlockOwned<'_>, frames: &mut Vec<Vec<u8>>) -> Result<(), CaptureError> {
    let (data, whole) = match block {
        PcapBlockOwned::LegacyHeader(header) => return ethernet(header.network),
        PcapBlockOwned::NG(Block::InterfaceDescription(port)) => return ethernet(port.linktype),
        PcapBlockOwned::Legacy(packet) => {
            let captured = usize::try_from(packet.caplen).unwrap_or(usize::MAX);
            let data = packet.data.get(..captured).unwrap_or(packet.data);
            (data, packet.origlen)
        }
        PcapBlockOwned::NG(Block::EnhancedPacket(packet)) => (packet.packet_data(), packet.origlen),
        PcapBlockOwned::NG(Block::SimplePacket(packet)) => (packet.packet_data(), packet.origlen),
        // Names, statistics, comments.
        PcapBlockOwned::NG(_) => return Ok(()),
    };
    let whole = usize::try_from(whole).unwrap_or(usize::MAX);
    if frames.len() == MAX_PACKETS {
        return Err(CaptureError::TooMany);
    }
    if data.len() < whole {
        return Err(CaptureError::Snapped {
            number: frames.len() + 1,
            captured: data.len(),
            whole,
        });
    }
    frames.push(data.to_vec());
    Ok(())
}

fn ethernet(link: Linktype) -> Result<(), CaptureError> {
    match link {
        Linktype::ETHERNET => Ok(()),
        Linktype(other) => Err(CaptureError::NoEthernet(other)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A file as `tcpdump` writes it: little end first, microseconds.
    fn pcap(link: u32, packets: &[(&[u8], u32)]) -> Vec<u8> {
        let mut file = Vec::new();
        for word in [0xa1b2_c3d4, 0x0004_0002, 0, 0, 262_144, link] {
            file.extend(u32::to_le_bytes(word));
        }
        for (data, whole) in packets {
            let captured = u32::try_from(data.len()).expect("short");
            for word in [1_700_000_000, 5, captured, *whole] {
                file.extend(u32::to_le_bytes(word));
            }
            file.extend(*data);
        }
        file
    }

    fn block(kind: u32, body: &[u8]) -> Vec<u8> {
        let padded = body.len().next_multiple_of(4);
        let length = u32::try_from(12 + padded).expect("short").to_le_bytes();
        let mut block = [&kind.to_le_bytes()[..], &length, body].concat();
        block.resize(8 + padded, 0);
        block.extend(length);
        block
    }

    /// The same in pcapng: section, interface, packets.
    fn pcapng(link: u32, packets: &[(&[u8], u32)]) -> Vec<u8> {
        let words = |words: &[u32]| -> Vec<u8> {
            words.iter().flat_map(|word| word.to_le_bytes()).collect()
        };
        let whole_section = words(&[0x1a2b_3c4d, 0x0000_0001, u32::MAX, u32::MAX]);
        let mut file = block(0x0a0d_0d0a, &whole_section);
        file.extend(block(1, &words(&[link, 262_144])));
        for (data, whole) in packets {
            let captured = u32::try_from(data.len()).expect("short");
            let head = words(&[0, 0, 5, captured, *whole]);
            file.extend(block(6, &[&head, *data].concat()));
        }
        file
    }

    #[test]
    fn digits_in_any_dress() {
        for text in ["0200aBff", "02:00:ab:ff", " 02 00\nab ff\n"] {
            assert!(is_digits(text), "{text}");
            assert_eq!(digits(text), Ok(vec![2, 0, 0xab, 0xff]), "{text}");
        }
        assert_eq!(digits("020"), Err(CaptureError::OddDigits));
        for text in ["", " ", "./ab", "home.pcap", "0x02"] {
            assert!(!is_digits(text), "{text}");
        }
    }

    #[test]
    fn both_formats_have_the_same_packets() {
        // Of no multiple of four bytes: what fills a block up is none of the packet's.
        let (first, second): (&[u8], &[u8]) = (&[1; 61], &[2; 1514]);
        let packets = [(first, 61), (second, 1514)];
        for file in [pcap(1, &packets), pcapng(1, &packets)] {
            assert_eq!(read(&file[..]), Ok(vec![first.to_vec(), second.to_vec()]));
        }
        assert_eq!(read(&pcap(1, &[])[..]), Ok(Vec::new()));
    }

    #[test]
    fn what_cannot_be_judged_is_refused() {
        let whole: (&[u8], u32) = (&[1; 60], 60);
        let snapped: (&[u8], u32) = (&[1; 60], 1514);
        for make in [pcap, pcapng] {
            assert_eq!(
                read(&make(113, &[whole])[..]),
                Err(CaptureError::NoEthernet(113))
            );
            let expected = CaptureError::Snapped {
                number: 2,
                captured: 60,
                whole: 1514,
            };
            assert_eq!(read(&make(1, &[whole, snapped])[..]), Err(expected));
            let many = vec![whole; MAX_PACKETS];
            assert_eq!(
                read(&make(1, &many)[..]).map(|all| all.len()),
                Ok(MAX_PACKETS)
            );
            let many = vec![whole; MAX_PACKETS + 1];
            assert_eq!(read(&make(1, &many)[..]), Err(CaptureError::TooMany));
            let file = make(1, &[whole, whole]);
            assert_eq!(
                read(&file[..file.len() - 10]),
                Err(CaptureError::Damaged(1))
            );
        }
        for file in [&b""[..], b"PK\x03\x04 something else altogether"] {
            assert_eq!(read(file), Err(CaptureError::NoCapture));
        }
    }
}
