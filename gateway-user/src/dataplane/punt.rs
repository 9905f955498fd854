//! Frames from the programs.

use doorstep_gateway_common::names::map::PUNT;
use doorstep_gateway_common::punt::PuntHeader;
use doorstep_gateway_common::{LineKey, Reason, record};

use super::DataplaneError;
use super::pins::Pins;
use super::ring::Ring;

/// A frame that a program handed to the daemon, as it came, with its tags.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Punt {
    pub line: LineKey,
    pub reason: Reason,
    pub frame: Vec<u8>,
}

/// The frames, in the order of their arrival.
pub struct PuntStream {
    ring: Ring,
}

impl PuntStream {
    pub(super) fn open(pins: &Pins) -> Result<Self, DataplaneError> {
        Ok(Self {
            ring: Ring::open(pins, PUNT)?,
        })
    }

    /// The next frame; none if the ring cannot be waited for any more.
    pub async fn next(&mut self) -> Option<Punt> {
        self.ring.next(Punt::parse).await
    }
}

impl Punt {
    /// Splits a record of the ring into its header and as much of the rest as the header says; none
    /// if it is shorter, or its reason unknown.
    pub fn parse(record: &[u8]) -> Option<Self> {
        let (header, rest) = record::split::<PuntHeader>(record)?;
        Some(Self {
            line: header.line,
            reason: Reason::from_number(header.reason)?,
            frame: rest.get(..header.len as usize)?.to_vec(),
        })
    }
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
        let punt = Punt::parse(&record(5, Reason::PuntEstablish.number())).unwrap();
        assert_eq!(punt.frame, b"frame");
        assert_eq!(punt.line.c_vid, 1004);
        assert_eq!(punt.reason, Reason::PuntEstablish);
    }

    #[test]
    fn refuses_what_does_not_fit() {
        assert_eq!(
            Punt::parse(&record(16, Reason::PuntEstablish.number())),
            None,
            "longer than the record"
        );
        assert_eq!(Punt::parse(&record(5, 31)), None, "no such reason");
        assert_eq!(Punt::parse(&[0; 15]), None, "shorter than a header");
    }
}
