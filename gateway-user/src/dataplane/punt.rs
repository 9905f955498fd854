//! Frames from the programs.

use std::os::fd::{AsRawFd, RawFd};

use aya::maps::{Map, MapData, RingBuf};
use doorstep_gateway_common::names::map::PUNT;
use doorstep_gateway_common::punt::PuntHeader;
use doorstep_gateway_common::{LineKey, Reason};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tracing::warn;

use super::DataplaneError;
use super::pins::Pins;

/// A frame that a program handed to the daemon, as it came, with its tags.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Punt {
    pub line: LineKey,
    pub reason: Reason,
    pub frame: Vec<u8>,
}

/// The frames, in the order of their arrival.
pub struct PuntStream {
    ring: AsyncFd<Ring>,
}

struct Ring(RingBuf<MapData>);

impl AsRawFd for Ring {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

impl PuntStream {
    pub(super) fn open(pins: &Pins) -> Result<Self, DataplaneError> {
        let map = |source| DataplaneError::Map {
            map: PUNT,
            source: Box::new(source),
        };
        let data = MapData::from_pin(pins.map(PUNT)).map_err(map)?;
        let ring = RingBuf::try_from(Map::from_map_data(data).map_err(map)?).map_err(map)?;
        // SAFETY: the ring owns its descriptor, keeps it for its whole life, and names no other.
        let ring = unsafe { AsyncFd::register_with_interest(Ring(ring), Interest::READABLE) };
        let ring = ring.map_err(|error| DataplaneError::Kernel {
            what: "cannot wait for the punt ring".to_owned(),
            source: error.into(),
        })?;
        Ok(Self { ring })
    }

    /// The next frame; none if the ring cannot be waited for any more.
    pub async fn next(&mut self) -> Option<Punt> {
        loop {
            let mut guard = self.ring.readable_mut().await.ok()?;
            if let Some(record) = guard.get_inner_mut().0.next() {
                match parse(&record) {
                    Some(punt) => return Some(punt),
                    None => warn!(bytes = record.len(), "the punt ring has a malformed record"),
                }
            } else {
                guard.clear_ready();
            }
        }
    }
}

/// Splits a record into its header and as much of the rest as the header says.
fn parse(record: &[u8]) -> Option<Punt> {
    let (header, rest) = record.split_at_checked(size_of::<PuntHeader>())?;
    // SAFETY: as long as a PuntHeader, which is plain integers; unaligned reads are what this is.
    let header: PuntHeader = unsafe { header.as_ptr().cast::<PuntHeader>().read_unaligned() };
    Some(Punt {
        line: header.line,
        reason: Reason::from_number(header.reason)?,
        frame: rest.get(..header.len as usize)?.to_vec(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(len: u32, reason: u16) -> Vec<u8> {
        let line = LineKey {
            ifindex: 7,
            s_vid: 101,
            c_vid: 1004,
        };
        let header = PuntHeader {
            line,
            len,
            reason,
            pad: 0,
        };
        // SAFETY: a PuntHeader has no padding.
        let header: [u8; size_of::<PuntHeader>()] = unsafe { std::mem::transmute(header) };
        [&header[..], b"frame and slack"].concat()
    }

    #[test]
    fn takes_as_much_as_the_header_says() {
        let punt = parse(&record(5, Reason::PuntEstablish.number())).unwrap();
        assert_eq!(punt.frame, b"frame");
        assert_eq!(punt.line.c_vid, 1004);
        assert_eq!(punt.reason, Reason::PuntEstablish);
    }

    #[test]
    fn refuses_what_does_not_fit() {
        assert_eq!(
            parse(&record(16, Reason::PuntEstablish.number())),
            None,
            "longer than the record"
        );
        assert_eq!(parse(&record(5, 31)), None, "no such reason");
        assert_eq!(parse(&[0; 15]), None, "shorter than a header");
    }
}
