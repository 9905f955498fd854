//! Values of the journal: a version, then JSON.

use serde::Serialize;
use serde::de::DeserializeOwned;
use thiserror::Error;

const VERSION: u8 = 1;

#[derive(Debug, Error)]
pub enum CodecError {
    #[error("it is empty")]
    Empty,
    #[error("it has version {0}, this is {VERSION}")]
    Version(u8),
    /// Only the place: the text of the error might quote a value.
    #[error("malformed at byte {0}")]
    Malformed(usize),
}

pub fn encode<T: Serialize>(value: &T) -> Vec<u8> {
    let mut bytes = vec![VERSION];
    serde_json::to_writer(&mut bytes, value)
        .expect("rows have string keys only, and memory takes all that is written");
    bytes
}

pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, CodecError> {
    match bytes.split_first() {
        None => Err(CodecError::Empty),
        Some((&VERSION, json)) => {
            serde_json::from_slice(json).map_err(|error| CodecError::Malformed(error.column()))
        }
        Some((&other, _)) => Err(CodecError::Version(other)),
    }
}
