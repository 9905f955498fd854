//! The gateway's object file, spoilt in one way or another.

use anyhow::{Context as _, Result};
use doorstep_gateway::dataplane::Object;
use doorstep_gateway_common::names::{SCHEMA_SECTION, map, program};
use object::{File, Object as _, ObjectSection as _, ObjectSymbol as _};

/// Why an object is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Its program reads a register that nobody has set.
    Verifier,
    /// A map's value has another size.
    Layout,
    /// The maps are of another version.
    Schema,
    /// The file ends too early.
    Truncated,
    /// The file is something else.
    Other,
}

impl Fault {
    pub const ALL: [Self; 5] = [
        Self::Verifier,
        Self::Layout,
        Self::Schema,
        Self::Truncated,
        Self::Other,
    ];

    /// For reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Verifier => "refused by the verifier",
            Self::Layout => "another layout of a map",
            Self::Schema => "another schema version",
            Self::Truncated => "truncated",
            Self::Other => "no object",
        }
    }

    /// What the refusal says.
    pub const fn said(self) -> &'static str {
        match self {
            Self::Verifier => "R9 !read_ok",
            Self::Layout => "its map UPSTREAM_V4 is Array",
            Self::Schema => "its maps have layout version",
            Self::Truncated | Self::Other => "no object file of BPF programs",
        }
    }

    /// The gateway's object with this fault.
    pub fn object(self) -> Result<Vec<u8>> {
        let mut bytes = Object::built_in().bytes().to_vec();
        match self {
            Self::Verifier => {
                // r0 = r9
                let at = symbol(&bytes, program::XDP_ACCESS)?;
                bytes[at..at + 8].copy_from_slice(&[0xbf, 0x90, 0, 0, 0, 0, 0, 0]);
            }
            Self::Layout => {
                // `struct bpf_map_def`: type, size of the key, size of the value.
                let at = symbol(&bytes, map::UPSTREAM_V4)?;
                bytes[at + 8] += 8;
            }
            Self::Schema => {
                let at = section(&bytes, SCHEMA_SECTION)?;
                bytes[at] += 1;
            }
            Self::Truncated => bytes.truncate(bytes.len() / 2),
            Self::Other => bytes = b"#!/bin/sh\nexit 0\n".to_vec(),
        }
        Ok(bytes)
    }
}

/// Where in the file a section begins.
fn section(bytes: &[u8], name: &str) -> Result<usize> {
    let file = File::parse(bytes)?;
    let section = file
        .section_by_name(name)
        .with_context(|| name.to_owned())?;
    let (begin, _) = section.file_range().with_context(|| name.to_owned())?;
    Ok(usize::try_from(begin)?)
}

/// Where in the file a symbol's bytes begin.
fn symbol(bytes: &[u8], name: &str) -> Result<usize> {
    let file = File::parse(bytes)?;
    let symbol = file.symbol_by_name(name).with_context(|| name.to_owned())?;
    let index = symbol.section_index().with_context(|| name.to_owned())?;
    let (begin, _) = file
        .section_by_index(index)?
        .file_range()
        .with_context(|| name.to_owned())?;
    Ok(usize::try_from(begin + symbol.address())?)
}
