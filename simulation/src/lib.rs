//! The control plane, run where every order of events can be had again.
//!
//! [`model`] drives the pure code of server and gateway through all orders of events, bounded. The
//! seeds of the simulated network are a test, `tests/network/`.

#![forbid(unsafe_code)]

pub mod model;
