//! Location ids: where a home is, as text, and the sealed forms in which that text travels.
//!
//! A [`LocationId`] names one home. A [`LocationPrefix`] names a set of homes, for routing a
//! request to the gateway that serves them. The [`sealed`] module encrypts location ids for
//! stickers and requests.
#![forbid(unsafe_code)]

mod id;
mod parse;
mod prefix;
pub mod sealed;

pub use id::LocationId;
pub use parse::{Field, ParseError, Problem};
pub use prefix::LocationPrefix;
