//! The streams to the operators' servers.

pub mod backoff;
mod client;
mod convert;
mod renewal;
mod state;
#[cfg(test)]
mod tests;

pub(crate) use client::chain;
pub use client::{Client, StreamEvent, StreamLink, check_credentials, check_server};
pub use convert::{EmptyMessage, Incoming, counters, incoming, outgoing, service_message};
pub use renewal::{Renewal, install};
pub use state::{ServerState, ServerStates};
