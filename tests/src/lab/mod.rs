//! Hosts in network namespaces, joined by cables: a street with gateways, buildings and homes.

pub mod bpffs;
pub mod capture;
pub mod cleanup;
pub mod cpe;
pub mod daemon;
pub mod load;
pub mod netns;
pub mod packet;
pub mod pty;
pub mod steady;
pub mod street;
pub mod switch;
pub mod traffic;
pub mod witness;
