//! The establishment exchange: how a gateway and a terminal agree, on the line itself, that a
//! session begins there.
//!
//! ```text
//! gateway                                   terminal
//!    │ Request  (ff02::1, repeated)  ──────▶ │  checks key and generation, brings its links up
//!    │ ◀──────  Accept (fe80::1, repeated)   │
//!    │  opens the fast path                  │
//!    │ Confirm (for each Accept)    ───────▶ │  online
//!    │ Release (when it ends)       ───────▶ │  takes its links down
//! ```
//!
//! A terminal without a session may ask for the garden, the few servers that it can ask for one,
//! see [`Garden`]:
//!
//! ```text
//!    │ ◀──────────  Ask (ff02::2, repeated)   │  has no session
//!    │ Offer  ──────────────────────────────▶ │  has addresses, and routes to the servers
//! ```
//!
//! From then on the terminal asks every second whether the session is alive, and the gateway's fast
//! path answers, see [`Prober`]:
//!
//! ```text
//!    │ ◀────────  Probe (fe80::1, each second) │
//!    │ its answer  ─────────────────────────▶ │  or none: the gateway is silent
//! ```
//!
//! Protobuf in UDP over IPv6 link-local, authenticated with the session key that the server gave to
//! both ends. Nothing here does I/O or reads a clock: [`Initiator`] and [`Responder`] decide,
//! [`seal`] and [`open`] turn messages into datagrams, [`frame`] turns datagrams into frames.
#![forbid(unsafe_code)]

mod backoff;
pub mod frame;
mod garden;
mod initiator;
mod key;
mod mac;
mod message;
mod probe;
mod prober;
mod replace;
mod responder;
mod tags;
mod wire;

use std::net::Ipv6Addr;

pub use garden::{Garden, GardenOffer, Way};
pub use initiator::{Ignored, Initiator, Outcome};
pub use key::{KeyLengthError, SessionKey};
pub use mac::{Mac, MacParseError};
pub use message::{Body, Direction, Message, Nonce, Offer};
pub use probe::{PROBE_LEN, Probe, ProbeKey, is_answer};
pub use prober::{Change, Prober, SILENT_AFTER};
pub use replace::{Former, Replaced};
pub use responder::{Decision, Establishment, Phase, Responder, Unmoved};
pub use tags::{InvalidTags, TPID_8021AD, TPID_8021Q, Tag, Tags};
pub use wire::{MAX_DATAGRAM_LEN, OpenError, open, seal, session_of};

/// Source and destination port of the exchange.
pub const UDP_PORT: u16 = 52525;

/// Every gateway's own address on every line.
pub const GATEWAY_LINK_LOCAL: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);

/// Where requests go: all nodes on the line.
pub const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);

/// Where a terminal asks that knows no gateway yet: all routers on the line.
pub const ALL_ROUTERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 2);

/// The MAC address of [`ALL_ROUTERS`].
pub const ALL_ROUTERS_MAC: Mac = Mac([0x33, 0x33, 0, 0, 0, 2]);

/// The MAC address of [`ALL_NODES`].
pub const ALL_NODES_MAC: Mac = Mac([0x33, 0x33, 0, 0, 0, 1]);
