//! An array map in this process's own memory.

use std::ffi::c_void;
use std::num::NonZeroUsize;
use std::ptr::NonNull;

use aya::maps::MapData;
use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};

use super::error;
use crate::dataplane::DataplaneError;
use crate::dataplane::pins::Pins;

/// What an element of a mapped array may be made of.
///
/// # Safety
/// The type must be `repr(C)` and consist of `Word`s only: programs change it at any time.
pub(super) unsafe trait Shared {}

// SAFETY: both are `repr(C)`, of `Word`s only.
unsafe impl Shared for doorstep_gateway_common::account::Account {}
// SAFETY: as above.
unsafe impl Shared for doorstep_gateway_common::policer::Policers {}

/// A pinned array with `BPF_F_MMAPABLE`.
pub(super) struct Mapped<T: Shared> {
    start: NonNull<T>,
    entries: usize,
    bytes: NonZeroUsize,
}

// SAFETY: all access is by shared references to `Word`s; the mapping belongs to the process.
unsafe impl<T: Shared> Send for Mapped<T> {}
// SAFETY: as above.
unsafe impl<T: Shared> Sync for Mapped<T> {}

impl<T: Shared> Mapped<T> {
    pub(super) fn open(pins: &Pins, name: &'static str) -> Result<Self, DataplaneError> {
        let data = MapData::from_pin(pins.map(name)).map_err(error(name))?;
        let info = data.info().map_err(error(name))?;
        let failed = |source| DataplaneError::Kernel {
            what: format!("cannot map {name} into memory"),
            source,
        };
        let entries = info.max_entries() as usize;
        if info.value_size() as usize != size_of::<T>() {
            return Err(failed(std::io::ErrorKind::InvalidData.into()));
        }
        let page = page_bytes();
        let bytes = (entries * size_of::<T>()).next_multiple_of(page);
        let bytes = NonZeroUsize::new(bytes)
            .ok_or_else(|| failed(std::io::ErrorKind::InvalidData.into()))?;
        // SAFETY: a new mapping, of a length that the kernel checks against the map's; nothing of
        // this process lies there.
        let start = unsafe {
            mmap(
                None,
                bytes,
                ProtFlags::PROT_READ | ProtFlags::PROT_WRITE,
                MapFlags::MAP_SHARED,
                data.fd(),
                0,
            )
        };
        let start = start.map_err(|errno| failed(errno.into()))?;
        Ok(Self {
            start: start.cast(),
            entries,
            bytes,
        })
    }

    pub(super) fn len(&self) -> usize {
        self.entries
    }

    pub(super) fn get(&self, index: usize) -> Option<&T> {
        if index >= self.entries {
            return None;
        }
        // SAFETY: within the mapping, which lives as long as this; a page's beginning is aligned
        // for all, and any bytes are a value of a Shared type.
        Some(unsafe { self.start.add(index).as_ref() })
    }
}

impl<T: Shared> Drop for Mapped<T> {
    fn drop(&mut self) {
        let start: NonNull<c_void> = self.start.cast();
        // SAFETY: the mapping of `open`; no reference into it outlives this.
        let _ = unsafe { munmap(start, self.bytes.get()) };
    }
}

fn page_bytes() -> usize {
    nix::unistd::sysconf(nix::unistd::SysconfVar::PAGE_SIZE)
        .ok()
        .flatten()
        .and_then(|bytes| usize::try_from(bytes).ok())
        .unwrap_or(4096)
}
