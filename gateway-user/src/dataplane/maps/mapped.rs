//! An array map in this process's own memory.

use std::ffi::c_void;
use std::num::NonZeroUsize;
use std::ptr::NonNull;

use aya::Pod;
use aya::maps::MapData;
use doorstep_gateway_common::table::{Cell, Key, Table};
use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};

use super::error;
use crate::dataplane::DataplaneError;
use crate::dataplane::pins::Pins;

/// What an element of a mapped array may be made of.
///
/// # Safety
/// The type must be `repr(C)`, any bytes a value of it, and all of it within `Word`s, which programs
/// change at any time, or `UnsafeCell`s, which they do not.
pub(super) unsafe trait Shared {}

// SAFETY: both are `repr(C)`, of `Word`s only.
unsafe impl Shared for doorstep_gateway_common::account::Account {}
// SAFETY: as above.
unsafe impl Shared for doorstep_gateway_common::policer::Policers {}
// SAFETY: as above.
unsafe impl Shared for doorstep_gateway_common::liveness::Liveness {}

// SAFETY: keys and values of the sessions' tables are of integers only.
unsafe impl<K: Pod, V: Pod> Shared for Cell<K, V> {}

/// An array with `BPF_F_MMAPABLE`.
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
        Self::of(
            &MapData::from_pin(pins.map(name)).map_err(error(name))?,
            name,
        )
    }

    pub(super) fn of(data: &MapData, name: &'static str) -> Result<Self, DataplaneError> {
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

    /// Memory that is no map's, all zero.
    #[cfg(test)]
    pub(super) fn anonymous(entries: usize) -> Self {
        let bytes = (entries * size_of::<T>()).next_multiple_of(page_bytes());
        let bytes = NonZeroUsize::new(bytes).expect("some entries");
        let access = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        // SAFETY: a new mapping; nothing of this process lies there.
        let start =
            unsafe { nix::sys::mman::mmap_anonymous(None, bytes, access, MapFlags::MAP_PRIVATE) };
        Self {
            start: start.expect("memory").cast(),
            entries,
            bytes,
        }
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

impl<'t, K: Key + Pod, V: Pod> Table<'t, K, V> for &'t Mapped<Cell<K, V>> {
    fn cell(self, index: u32) -> Option<&'t Cell<K, V>> {
        self.get(index as usize)
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
