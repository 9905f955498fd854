//! [`LocationId`]: one home.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use sha2::{Digest as _, Sha256};

use crate::parse::{self, COMMUNITY_LEN, Field, ParseError, Problem};
use crate::prefix::LocationPrefix;

/// Where a home is: area, community, building, unit and room.
///
/// Both text forms parse; the short one (`110103-xinjingjiayuan-001-002-004`) is canonical. The
/// numbers are names, not quantities: `0704` and `704` are different rooms.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LocationId {
    /// The canonical text; every constructor checks it.
    text: Box<str>,
}

impl LocationId {
    /// The longest canonical text, in bytes.
    pub const MAX_LEN: usize = 6 + 1 + COMMUNITY_LEN + 3 * (1 + 4);

    fn component(&self, field: Field) -> &str {
        self.text.split('-').nth(field as usize).unwrap_or_default()
    }

    /// GB/T 2260, six digits.
    #[must_use]
    pub fn area(&self) -> &str {
        self.component(Field::Area)
    }

    /// The first four digits of the area.
    #[must_use]
    pub fn city(&self) -> &str {
        &self.area()[..4]
    }

    /// All six digits of the area.
    #[must_use]
    pub fn district(&self) -> &str {
        self.area()
    }

    /// The community's name, without padding.
    #[must_use]
    pub fn community(&self) -> &str {
        self.component(Field::Community)
    }

    /// Three or four digits.
    #[must_use]
    pub fn building(&self) -> &str {
        self.component(Field::Building)
    }

    /// Three or four digits.
    #[must_use]
    pub fn unit(&self) -> &str {
        self.component(Field::Unit)
    }

    /// Three or four digits.
    #[must_use]
    pub fn room(&self) -> &str {
        self.component(Field::Room)
    }

    /// The canonical (short) text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The text with the community padded with `0` to 32 characters.
    #[must_use]
    pub fn to_long_form(&self) -> String {
        format!(
            "{}-{:0<width$}-{}-{}-{}",
            self.area(),
            self.community(),
            self.building(),
            self.unit(),
            self.room(),
            width = COMMUNITY_LEN,
        )
    }

    /// Whether this home is one of those that `prefix` names.
    #[must_use]
    pub fn starts_with(&self, prefix: &LocationPrefix) -> bool {
        prefix.contains(self)
    }

    /// A stable 64-bit name: the first eight bytes of SHA-256 of the canonical text, big endian.
    #[must_use]
    pub fn hash64(&self) -> u64 {
        let digest = Sha256::digest(self.text.as_bytes());
        let mut first = [0; 8];
        first.copy_from_slice(&digest[..8]);
        u64::from_be_bytes(first)
    }
}

impl FromStr for LocationId {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let parts = parse::components(text)?;
        match Field::ALL.get(parts.len()) {
            Some(&field) => Err(ParseError {
                field,
                position: text.len(),
                problem: Problem::Missing,
            }),
            None => Ok(Self {
                text: parts.join("-").into(),
            }),
        }
    }
}

impl fmt::Display for LocationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.text)
    }
}

impl fmt::Debug for LocationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LocationId({})", self.text)
    }
}

impl Serialize for LocationId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

impl<'de> Deserialize<'de> for LocationId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(de::Error::custom)
    }
}
