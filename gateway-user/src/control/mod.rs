//! The streams to the operators' servers.

pub mod backoff;
mod client;
mod convert;
mod state;
#[cfg(test)]
mod tests;

pub use client::{Client, StreamEvent, StreamLink, check_credentials, check_server};
pub use convert::{counters, service_message};
pub use state::{ServerState, ServerStates};
