//! A frame in ordinary memory.

use std::vec::Vec;

use crate::{Frame, Wire};

/// A frame with room in front, as drivers leave it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SliceFrame {
    bytes: Vec<u8>,
    start: usize,
}

impl SliceFrame {
    /// Bytes in front of a frame that it may grow into (`XDP_PACKET_HEADROOM` of linux/bpf.h).
    const HEADROOM: usize = 256;

    pub fn new(frame: &[u8]) -> Self {
        let mut bytes = Vec::with_capacity(Self::HEADROOM + frame.len());
        bytes.resize(Self::HEADROOM, 0);
        bytes.extend_from_slice(frame);
        Self {
            bytes,
            start: Self::HEADROOM,
        }
    }

    pub fn as_slice(&self) -> &[u8] {
        &self.bytes[self.start..]
    }
}

impl Frame for SliceFrame {
    fn len(&self) -> usize {
        self.as_slice().len()
    }

    fn load<T: Wire>(&self, offset: usize) -> Option<T> {
        T::read_from_prefix(self.as_slice().get(offset..)?)
            .ok()
            .map(|(value, _)| value)
    }

    fn store<T: Wire>(&mut self, offset: usize, value: T) -> Option<()> {
        let place = self.bytes.get_mut(self.start + offset..)?;
        value.write_to_prefix(place).ok()
    }

    fn shrink_front(&mut self, bytes: i32) -> Option<()> {
        const ETHERNET_LEN: usize = crate::headers::ETHERNET_LEN;
        let start = self.start.checked_add_signed(bytes as isize)?;
        // The kernel, too, leaves at least an Ethernet header.
        if start + ETHERNET_LEN > self.bytes.len() {
            return None;
        }
        self.start = start;
        Some(())
    }
}
