//! Ring buffers that the programs fill.

use std::os::fd::{AsRawFd, RawFd};

use aya::maps::{MapData, RingBuf};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tracing::warn;

use super::pins::Pins;
use super::{DataplaneError, maps};

/// The reader of a pinned ring; there is one at a time.
pub(super) struct Ring {
    name: &'static str,
    ring: AsyncFd<Inner>,
}

struct Inner(RingBuf<MapData>);

impl AsRawFd for Inner {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

impl Ring {
    pub(super) fn open(pins: &Pins, name: &'static str) -> Result<Self, DataplaneError> {
        let ring = maps::pinned(pins, name)?;
        // SAFETY: the ring owns its descriptor, keeps it for its whole life, and names no other.
        let ring = unsafe { AsyncFd::register_with_interest(Inner(ring), Interest::READABLE) };
        let ring = ring.map_err(|error| DataplaneError::Kernel {
            what: format!("cannot wait for the ring {name}"),
            source: error.into(),
        })?;
        Ok(Self { name, ring })
    }

    /// The next record that can be parsed; none if the ring cannot be waited for any more. Nothing
    /// is lost when the wait is given up.
    pub(super) async fn next<T>(&mut self, parse: impl Fn(&[u8]) -> Option<T>) -> Option<T> {
        loop {
            let mut guard = self.ring.readable_mut().await.ok()?;
            match guard.get_inner_mut().take(self.name, &parse) {
                Some(parsed) => return Some(parsed),
                None => guard.clear_ready(),
            }
        }
    }

    /// As [`Ring::next`], but only what is there already.
    pub(super) fn take<T>(&mut self, parse: impl Fn(&[u8]) -> Option<T>) -> Option<T> {
        self.ring.get_mut().take(self.name, &parse)
    }
}

impl Inner {
    fn take<T>(&mut self, name: &str, parse: &impl Fn(&[u8]) -> Option<T>) -> Option<T> {
        while let Some(record) = self.0.next() {
            match parse(&record) {
                Some(parsed) => return Some(parsed),
                None => warn!(ring = name, bytes = record.len(), "a malformed record"),
            }
        }
        None
    }
}
