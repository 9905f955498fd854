//! Object files, and what they say of themselves before anything of them is in the kernel.

use std::borrow::Cow;
use std::sync::{Arc, Mutex, PoisonError};

use aya::maps::MapType;
use aya_obj::generated::bpf_map_type;
use doorstep_gateway_common::names::{SCHEMA_SECTION, SCHEMA_VERSION, program};
use object::{Object as _, ObjectSection as _};
use thiserror::Error;

use super::object::OBJECT;
use super::pins::MapShape;

/// Why an object file is none that this gateway can run.
#[derive(Debug, PartialEq, Eq, Error)]
pub enum ObjectError {
    #[error("it is no object file of BPF programs, or not all of one: {0}")]
    NoObject(String),
    #[error("it is no object of doorstep-gateway: it has no {0}")]
    NotOurs(String),
    #[error(
        "its maps have layout version {found}, those of this gateway {SCHEMA_VERSION}; start the \
         daemon that it belongs to instead, which takes the sessions over"
    )]
    Schema { found: u32 },
    #[error("its map {name} is {found}, that of this gateway {wanted}")]
    Map {
        name: &'static str,
        found: String,
        wanted: String,
    },
}

/// The bytes of an object file.
#[derive(Clone)]
pub struct Object(Arc<Cow<'static, [u8]>>);

impl Object {
    /// The one that this binary was built with.
    pub fn built_in() -> Self {
        Self(Arc::new(Cow::Borrowed(OBJECT)))
    }

    pub fn new(bytes: Vec<u8>) -> Self {
        Self(Arc::new(Cow::Owned(bytes)))
    }

    pub fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// Refuses what is not an object of the gateway's with maps of these shapes. Sizes do not
    /// count: the loader sets them.
    pub(super) fn check(&self, shapes: &[(&'static str, MapShape)]) -> Result<(), ObjectError> {
        let found = schema(self.bytes())?;
        if found != SCHEMA_VERSION {
            return Err(ObjectError::Schema { found });
        }
        let object = aya_obj::Object::parse(self.bytes())
            .map_err(|error| ObjectError::NoObject(error.to_string()))?;
        for name in program::ALL {
            if !object.programs.contains_key(name) {
                return Err(ObjectError::NotOurs(format!("program {name}")));
            }
        }
        for (name, wanted) in shapes {
            let map = object
                .maps
                .get(*name)
                .ok_or_else(|| ObjectError::NotOurs(format!("map {name}")))?;
            let found = MapShape {
                kind: kind(map.map_type()),
                key_bytes: map.key_size(),
                value_bytes: map.value_size(),
                max_entries: wanted.max_entries,
            };
            if found != *wanted {
                return Err(ObjectError::Map {
                    name,
                    found: found.to_string(),
                    wanted: wanted.to_string(),
                });
            }
        }
        Ok(())
    }
}

fn kind(number: u32) -> MapType {
    let kind = bpf_map_type::try_from(number).ok();
    kind.and_then(|kind| MapType::try_from(kind).ok())
        .unwrap_or(MapType::Unspecified)
}

impl std::fmt::Debug for Object {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "an object of {} bytes", self.0.len())
    }
}

/// The version of the maps' layout that an object was built with.
fn schema(bytes: &[u8]) -> Result<u32, ObjectError> {
    let file =
        object::File::parse(bytes).map_err(|error| ObjectError::NoObject(error.to_string()))?;
    if file.architecture() != object::Architecture::Bpf {
        let what = format!("it is for {:?}", file.architecture());
        return Err(ObjectError::NoObject(what));
    }
    let section = file
        .section_by_name(SCHEMA_SECTION)
        .ok_or_else(|| ObjectError::NotOurs(format!("section {SCHEMA_SECTION}")))?;
    let data = section
        .data()
        .map_err(|error| ObjectError::NoObject(error.to_string()))?;
    match data.first_chunk() {
        Some(number) => Ok(u32::from_le_bytes(*number)),
        None => Err(ObjectError::NotOurs(format!("number in {SCHEMA_SECTION}"))),
    }
}

/// The object whose programs the gateway's process puts on ports; an upgrade changes it. It is the
/// built-in one again when the process starts anew.
#[derive(Clone, Debug)]
pub struct InUse(Arc<Mutex<Object>>);

impl Default for InUse {
    fn default() -> Self {
        Self(Arc::new(Mutex::new(Object::built_in())))
    }
}

impl InUse {
    pub(super) fn get(&self) -> Object {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    pub(super) fn set(&self, object: Object) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = object;
    }
}

#[cfg(test)]
mod tests {
    use super::super::object::{Room, shapes};
    use super::*;

    fn check(bytes: &[u8]) -> Result<(), ObjectError> {
        let room = Room {
            max_sessions: 1024,
            line_prefixes: true,
        };
        let shapes = shapes(room).expect("the shapes");
        Object::new(bytes.to_vec()).check(&shapes)
    }

    fn said(bytes: &[u8]) -> String {
        check(bytes).expect_err("refused").to_string()
    }

    /// Where a section's bytes are in the file.
    fn place(name: &str) -> usize {
        let file = object::File::parse(OBJECT).expect("an object");
        let section = file.section_by_name(name).expect("the section");
        section.file_range().expect("bytes").0 as usize
    }

    #[test]
    fn the_built_in_object_is_one() {
        assert_eq!(check(OBJECT), Ok(()));
    }

    #[test]
    fn what_is_no_object_is_refused() {
        for bytes in [&[][..], b"#!/bin/sh\n", &OBJECT[..OBJECT.len() / 2]] {
            let said = said(bytes);
            assert!(said.contains("no object file of BPF programs"), "{said}");
        }
        let own = std::fs::read(std::env::current_exe().expect("a name")).expect("read");
        assert!(said(&own).contains("it is for "), "not this program");
    }

    #[test]
    fn another_schema_is_refused() {
        let mut other = OBJECT.to_vec();
        other[place(SCHEMA_SECTION)] += 1;
        let found = SCHEMA_VERSION + 1;
        assert_eq!(check(&other), Err(ObjectError::Schema { found }));
        // Somebody else's object has no such section.
        let mut other = OBJECT.to_vec();
        for at in 0..OBJECT.len() - SCHEMA_SECTION.len() {
            let name = &mut other[at..at + SCHEMA_SECTION.len()];
            if name == SCHEMA_SECTION.as_bytes() {
                name[0] ^= 1;
            }
        }
        assert!(said(&other).contains("no object of doorstep-gateway"));
    }

    #[test]
    fn another_layout_is_refused() {
        let file = object::File::parse(OBJECT).expect("an object");
        let map =
            object::ObjectSymbol::address(&file.symbol_by_name("DOWNSTREAM_V6").expect("the map"));
        // The value's size is the third word of a map's definition.
        let at = place("maps") + map as usize + 8;
        let mut other = OBJECT.to_vec();
        other[at] += 8;
        let said = said(&other);
        assert!(said.contains("its map DOWNSTREAM_V6 is Array"), "{said}");
    }
}
