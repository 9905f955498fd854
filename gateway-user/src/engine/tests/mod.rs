//! The engine against models of everything around it: journal, fast path, terminals, servers.

mod aged;
mod alive;
mod alone;
mod blocked;
mod cases;
mod dhcp;
mod ends;
mod flood;
mod forcerenew;
mod garden;
mod histories;
mod lapse;
mod line6;
mod list;
mod replaced;
mod service;
mod traced;
mod unclaimed;
mod world;
