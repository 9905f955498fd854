//! Records of ring buffers, as user space finds them.

use aya::Pod;

/// The value that a record begins with, and what follows it; none if the record is too short.
pub fn split<T: Pod>(record: &[u8]) -> Option<(T, &[u8])> {
    let (head, rest) = record.split_at_checked(size_of::<T>())?;
    // SAFETY: as long as a T, of which any bytes are a value; unaligned reads are what this is.
    Some((unsafe { head.as_ptr().cast::<T>().read_unaligned() }, rest))
}
