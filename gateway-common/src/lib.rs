//! Types shared by the gateway's eBPF programs and its daemon.
//!
//! Every type that lies in a map is `#[repr(C)]`, has no padding that the compiler chose, and has
//! its size asserted here. Fields ending in `_be` are in wire order; all others are native.
#![no_std]

pub mod account;
pub mod downstream;
pub mod flag;
pub mod garden;
pub mod globals;
pub mod limit;
pub mod line;
pub mod liveness;
pub mod mac;
pub mod meta;
pub mod names;
pub mod operator;
pub mod policer;
pub mod punt;
pub mod reason;
#[cfg(feature = "user")]
pub mod record;
pub mod table;
pub mod trace;
pub mod upstream;
pub mod word;

pub use account::Direction;
pub use line::{LineKey, LineValue};
pub use mac::MacWord;
pub use reason::Reason;
pub use word::Word;

/// Number of an operator at this gateway: 1..[`operator::MAX_OPERATORS`]; 0 means none.
pub type OperatorIndex = u16;
/// A session's place in `ACCOUNTS` and `POLICERS`.
pub type Slot = u32;

/// Asserts the size of a shared type at compile time and makes it usable as a map's key or value.
macro_rules! shared {
    ($name:ident, $size:literal) => {
        const _: () = assert!(core::mem::size_of::<$name>() == $size);
        #[cfg(feature = "user")]
        // SAFETY: `repr(C)`, made of integers only, and without implicit padding: the fields'
        // sizes add up to the asserted one.
        unsafe impl aya::Pod for $name {}
    };
}
pub(crate) use shared;
