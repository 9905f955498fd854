//! Values of the journal: a version, then the value in postcard's form.
//!
//! That form has neither names nor lengths of what a struct is made of: another field, or another
//! order of fields, is another version, and [`decode`] has to know the former ones. What older
//! daemons wrote, JSON, is read still.

use serde::Serialize;
use serde::de::DeserializeOwned;
use thiserror::Error;

/// JSON, with defaults for what was not yet known when it was written.
const JSON: u8 = 1;
/// Version 2 was never released.
const POSTCARD: u8 = 3;

#[derive(Debug, Error)]
pub enum CodecError {
    #[error("it is empty")]
    Empty,
    #[error("it has version {0}, this reads up to {POSTCARD}")]
    Version(u8),
    /// Only the place: the text of the error might quote a value.
    #[error("malformed at byte {0}")]
    Malformed(usize),
    /// These texts quote nothing.
    #[error("damaged: {0}")]
    Damaged(postcard::Error),
    #[error("damaged: {0} bytes more than it should have")]
    Trailing(usize),
}

pub fn encode<T: Serialize>(value: &T) -> Vec<u8> {
    postcard::to_extend(value, vec![POSTCARD])
        .expect("rows have sequences of known lengths only, and memory takes all that is written")
}

pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, CodecError> {
    match bytes.split_first() {
        None => Err(CodecError::Empty),
        Some((&POSTCARD, bytes)) => match postcard::take_from_bytes(bytes) {
            Ok((value, [])) => Ok(value),
            Ok((_, more)) => Err(CodecError::Trailing(more.len())),
            Err(error) => Err(CodecError::Damaged(error)),
        },
        Some((&JSON, json)) => {
            serde_json::from_slice(json).map_err(|error| CodecError::Malformed(error.column()))
        }
        Some((&other, _)) => Err(CodecError::Version(other)),
    }
}

/// As daemons before the version with postcard wrote it.
#[cfg(test)]
pub fn encode_json<T: Serialize>(value: &T) -> Vec<u8> {
    let mut bytes = vec![JSON];
    serde_json::to_writer(&mut bytes, value).expect("JSON");
    bytes
}
