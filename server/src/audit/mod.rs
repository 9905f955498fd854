//! The audit log: who did what, in a chain that nobody can change without the audit key.
//!
//! | module | what it does |
//! |---|---|
//! | [`entry`] | an entry, and the bytes that stand for it |
//! | [`chain`] | the key, the links between entries, and the head that names the last one |
//! | [`verify`] | finds the first entry that is not as it was written |
//! | [`export`] | the log as lines of JSON, to be kept and verified elsewhere |
//!
//! Nothing here does I/O but [`export`], on readers and writers that it is given; all of it works
//! entry by entry, in constant memory. Why it is built so: `docs/adr/0015-audit-chain.md`.

pub mod chain;
pub mod entry;
pub mod export;
pub mod verify;

pub use chain::{AuditKey, Chained, Head, HeadError, Link};
pub use entry::{Entry, Event};
pub use verify::{Fault, Verifier};

#[cfg(test)]
mod tests;
