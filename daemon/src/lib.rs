//! The rooms that every Doorstep daemon has, and its commands.
//!
//! | module | what it does |
//! |---|---|
//! | [`socket`] | the administration socket, at the daemon's end |
//! | [`client`] | the connection of a command to it |
//! | [`commands`] | what a command line has |
//! | [`log`] | starts the log |
//! | [`manual`] | man pages, completions for shells |
//! | [`metrics`] | what Prometheus may read, and where |
//! | [`stop`] | the token that SIGTERM and SIGINT cancel |
//! | [`supervisor`] | what the service manager is told |
//! | [`output`] | results as JSON, tables and fields |
//! | [`rate`] | rates as people write them |
//! | [`moment`] | moments as people write them |
//! | [`network`] | how clients reach servers |
//! | [`blocking`] | work that other threads do |
//! | [`secrets`] | keeps a daemon's memory out of core dumps |
//! | [`support`] | what may be told to whoever helps, in one file |
//! | [`top`] | what goes on, drawn anew every few seconds |
//! | [`exit`] | how a command ends |
//! | [`traces`] | what is told to collectors of traces |
//! | [`dry_run`] | commands that only tell what they would change |

#![forbid(unsafe_code)]

pub mod blocking;
pub mod client;
pub mod commands;
pub mod dry_run;
pub mod exit;
pub mod log;
pub mod manual;
pub mod metrics;
pub mod moment;
pub mod network;
pub mod output;
pub mod rate;
pub mod secrets;
pub mod socket;
pub mod stop;
pub mod supervisor;
pub mod support;
pub mod top;
pub mod traces;
