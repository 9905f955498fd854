//! The packet's source: kernel memory or a byte slice.

use zerocopy::{FromBytes, Immutable, IntoBytes};

/// Plain bytes as they stand in a packet: every bit pattern is a value, and there is no padding.
pub trait Wire: Copy + FromBytes + IntoBytes + Immutable {}

impl<T: Copy + FromBytes + IntoBytes + Immutable> Wire for T {}

/// A frame, beginning with its Ethernet header.
#[expect(
    clippy::len_without_is_empty,
    reason = "a frame has at least its Ethernet header"
)]
pub trait Frame {
    /// Bytes from the Ethernet header to the end.
    fn len(&self) -> usize;

    /// The value at that offset, or none if it reaches beyond the end.
    fn load<T: Wire>(&self, offset: usize) -> Option<T>;

    /// Overwrites the value at that offset; none if it reaches beyond the end.
    fn store<T: Wire>(&mut self, offset: usize, value: T) -> Option<()>;

    /// Takes that many bytes off the front (negative: puts so many there, of any content); none
    /// if there is no room.
    fn shrink_front(&mut self, bytes: i32) -> Option<()>;
}
