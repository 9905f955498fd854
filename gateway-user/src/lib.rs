//! The gateway daemon: from instructions of the operators' servers to entries of the fast path.
//!
//! | module | what it does | kind |
//! |---|---|---|
//! | [`config`], [`inventory`] | what the operator of the gateway wrote, checked | pure |
//! | [`engine`] | what a session's next step is | pure, sans-IO |
//! | [`plan`] | what the maps should hold, and the difference | pure |
//! | [`journal`] | what survives a crash | database |
//! | [`control`] | the streams to the servers | network |
//! | [`enroll`] | the gateway's first certificate | network |
//! | [`dataplane`] | programs, maps, ports | kernel |
//! | [`capture`] | packets out of files | pure |
//! | [`trace`] | followed packets in words | pure |
//! | [`runtime`], [`daemon`] | joins them | composition |
//! | [`metrics`] | what Prometheus may read | network |
//! | [`preflight`] | whether this host can be a gateway | kernel |
//! | [`admin`], [`cli`] | what people ask | unix socket, terminal |

pub mod admin;
pub mod capture;
pub mod cli;
pub mod clock;
pub mod config;
pub mod control;
pub mod daemon;
pub mod dataplane;
pub mod engine;
pub mod enroll;
pub mod inventory;
pub mod journal;
pub mod metrics;
pub mod plan;
pub mod preflight;
pub mod runtime;
pub mod session;
#[cfg(test)]
mod testing;
pub mod trace;
