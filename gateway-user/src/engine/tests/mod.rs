//! The engine against models of everything around it: journal, fast path, terminals, servers.

mod blocked;
mod cases;
mod histories;
mod service;
mod unclaimed;
mod world;
