//! A word that several CPUs, programs and the daemon read and write at any time.

use core::cell::UnsafeCell;

/// Sixty-four bits in a map. Reads and writes are whole; what happens between them is not kept out.
#[repr(transparent)]
#[derive(Default)]
pub struct Word(UnsafeCell<u64>);

// SAFETY: every access is a whole load or store, as the methods say.
unsafe impl Sync for Word {}

impl Word {
    pub const fn new(value: u64) -> Self {
        Self(UnsafeCell::new(value))
    }

    pub const fn as_ptr(&self) -> *mut u64 {
        self.0.get()
    }

    /// LLVM has no atomic load for the BPF target; a volatile one is a single instruction there.
    #[cfg(target_arch = "bpf")]
    #[inline(always)]
    pub fn get(&self) -> u64 {
        // SAFETY: the pointer is that of a live and aligned value.
        unsafe { self.as_ptr().read_volatile() }
    }

    #[cfg(target_arch = "bpf")]
    #[inline(always)]
    pub fn set(&self, value: u64) {
        // SAFETY: as above.
        unsafe { self.as_ptr().write_volatile(value) }
    }

    #[cfg(not(target_arch = "bpf"))]
    #[inline(always)]
    pub fn get(&self) -> u64 {
        self.atomic().load(core::sync::atomic::Ordering::Relaxed)
    }

    #[cfg(not(target_arch = "bpf"))]
    #[inline(always)]
    pub fn set(&self, value: u64) {
        self.atomic()
            .store(value, core::sync::atomic::Ordering::Relaxed);
    }

    /// Replaces `old` by `new`, unless somebody was faster.
    #[cfg(not(target_arch = "bpf"))]
    pub fn swap(&self, old: u64, new: u64) -> bool {
        use core::sync::atomic::Ordering::Relaxed;
        self.atomic()
            .compare_exchange(old, new, Relaxed, Relaxed)
            .is_ok()
    }

    /// Adds at one go.
    #[cfg(not(target_arch = "bpf"))]
    pub fn add(&self, more: u64) {
        self.atomic()
            .fetch_add(more, core::sync::atomic::Ordering::Relaxed);
    }

    #[cfg(not(target_arch = "bpf"))]
    fn atomic(&self) -> &core::sync::atomic::AtomicU64 {
        // SAFETY: a live and aligned value, which nobody accesses otherwise.
        unsafe { core::sync::atomic::AtomicU64::from_ptr(self.as_ptr()) }
    }
}

impl core::fmt::Debug for Word {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        self.get().fmt(f)
    }
}
