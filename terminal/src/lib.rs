//! The terminal: holds a home's broadband sessions.
//!
//! [`daemon`] composes: [`server`] is asked for service, [`packet`] hears the gateway's
//! establishment requests on the WAN ports, [`links`] makes the interfaces, addresses and routes.
//! [`cli`] is the client of the daemon's admin socket.
#![deny(unsafe_code)]

pub mod applied;
pub mod cli;
pub mod config;
pub mod daemon;
pub mod links;
pub mod packet;
pub mod rooms;
pub mod server;
pub mod state;
