//! Values of the journal: a version, then the value in postcard's form.
//!
//! That form has neither names nor lengths of what a struct is made of: another field, or another
//! order of fields, is another version, and [`decode`] has to know the former ones. What older
//! daemons wrote, JSON, is read still.

use serde::Serialize;
use serde::de::DeserializeOwned;
use thiserror::Error;

use super::former;
use crate::engine::message::Receipt;
use crate::engine::row::{Block, Fence, SessionRow};

/// JSON, with defaults for what was not yet known when it was written.
const JSON: u8 = 1;
/// The first in postcard's form; version 2 was never released.
const POSTCARD: u8 = 3;

/// What a table of the journal holds.
pub trait Row: Serialize + DeserializeOwned {
    /// In which it is written.
    const VERSION: u8 = POSTCARD;

    /// Reads one of a former version, if there is such.
    fn former(version: u8, bytes: &[u8]) -> Result<Self, CodecError> {
        let _ = bytes;
        Err(CodecError::Version(version, Self::VERSION))
    }
}

impl Row for Fence {}
impl Row for Receipt {}
impl Row for Block {}

impl Row for SessionRow {
    const VERSION: u8 = 4;

    fn former(version: u8, bytes: &[u8]) -> Result<Self, CodecError> {
        match version {
            POSTCARD => whole::<former::SessionRow>(bytes).map(Self::from),
            other => Err(CodecError::Version(other, Self::VERSION)),
        }
    }
}

#[derive(Debug, Error)]
pub enum CodecError {
    #[error("it is empty")]
    Empty,
    #[error("it has version {0}, this reads up to {1}")]
    Version(u8, u8),
    /// Only the place: the text of the error might quote a value.
    #[error("malformed at byte {0}")]
    Malformed(usize),
    /// These texts quote nothing.
    #[error("damaged: {0}")]
    Damaged(postcard::Error),
    #[error("damaged: {0} bytes more than it should have")]
    Trailing(usize),
}

pub fn encode<T: Row>(value: &T) -> Vec<u8> {
    postcard::to_extend(value, vec![T::VERSION])
        .expect("rows have sequences of known lengths only, and memory takes all that is written")
}

pub fn decode<T: Row>(bytes: &[u8]) -> Result<T, CodecError> {
    match bytes.split_first() {
        None => Err(CodecError::Empty),
        Some((&version, bytes)) if version == T::VERSION => whole(bytes),
        Some((&JSON, json)) => {
            serde_json::from_slice(json).map_err(|error| CodecError::Malformed(error.column()))
        }
        Some((&other, bytes)) => T::former(other, bytes),
    }
}

fn whole<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, CodecError> {
    match postcard::take_from_bytes(bytes) {
        Ok((value, [])) => Ok(value),
        Ok((_, more)) => Err(CodecError::Trailing(more.len())),
        Err(error) => Err(CodecError::Damaged(error)),
    }
}

/// As daemons before the version with postcard wrote it.
#[cfg(test)]
pub fn encode_json<T: Serialize>(value: &T) -> Vec<u8> {
    let mut bytes = vec![JSON];
    serde_json::to_writer(&mut bytes, value).expect("JSON");
    bytes
}
