//! What an ordinary router on a line asks, and the answers, without I/O.
//!
//! Everything here is a read of what the server decided: a frame of a line and the session's own
//! data go in, the frames that answer it come out. Nothing is allocated and no clock is read.

pub mod dhcp4;
pub mod dhcp6;
pub mod frame;
pub mod holder;
pub mod line6;
pub mod ra;
#[cfg(test)]
mod testing;
