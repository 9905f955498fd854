//! The operator's server: subscribers ask it for broadband, gateways carry it out.
//!
//! `session` decides, `store` remembers, `engine` joins the two, `service` speaks gRPC, `hub` wakes
//! who must look again, `why` finds the first link of a connection that does not hold, `console` serves
//! people's browsers, `app` subscribers' phones, `traces` tells collectors how requests went, `serve` composes the daemon.

#![forbid(unsafe_code)]

pub mod account;
mod app;
pub mod audit;
pub mod config;
pub mod console;
pub mod engine;
pub mod enroll;
pub mod hub;
pub mod identity;
pub mod keys;
pub mod limits;
pub mod listener;
pub mod metrics;
pub mod pool;
pub mod serve;
pub mod service;
pub mod session;
pub mod store;
mod traces;
pub mod vault;
pub mod verification;
pub mod why;
