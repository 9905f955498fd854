//! [`LocationPrefix`]: a set of homes, for routing.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::id::LocationId;
use crate::parse::{self, ParseError};

/// The leading components of location ids: a city (`1101`), a district (`110103`), a community
/// (`110103-xinjingjiayuan`), and so on down to one home.
///
/// Matching is by whole components: `110103-xin` does not contain `110103-xinjingjiayuan-…`. Of
/// several prefixes that contain a home, the one with the greatest
/// [`specificity`](Self::specificity) is the closest.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LocationPrefix {
    text: Box<str>,
}

const CITY_LEN: usize = 4;

impl LocationPrefix {
    /// Whether `location` is one of these homes.
    #[must_use]
    pub fn contains(&self, location: &LocationId) -> bool {
        if self.text.len() == CITY_LEN {
            return location.city() == &*self.text;
        }
        location
            .as_str()
            .strip_prefix(&*self.text)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
    }

    /// The texts of all prefixes that contain `location`, the most specific first: six of them.
    pub fn texts_containing(location: &LocationId) -> impl Iterator<Item = &str> {
        let text = location.as_str();
        let ends = text.match_indices('-').map(|(at, _)| at);
        std::iter::once(text.len())
            .chain(ends.rev())
            .chain([CITY_LEN])
            .map(move |end| &text[..end])
    }

    /// The texts of these homes, and of no others, are those from the first of these on that are less
    /// than the second, by their bytes: for a database with an index of them.
    #[must_use]
    pub fn text_range(&self) -> (String, String) {
        // What follows a city is a digit; what follows anything else is '-', and the least of its kind.
        let behind = if self.text.len() == CITY_LEN {
            ':'
        } else {
            '.'
        };
        (self.text.to_string(), format!("{}{behind}", self.text))
    }

    /// How many components are fixed: 0 for a city, 1 for a district, up to 5 for one home.
    #[must_use]
    pub fn specificity(&self) -> usize {
        if self.text.len() == CITY_LEN {
            0
        } else {
            self.text.split('-').count()
        }
    }

    /// The canonical text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

impl From<&LocationId> for LocationPrefix {
    fn from(location: &LocationId) -> Self {
        Self {
            text: location.as_str().into(),
        }
    }
}

impl FromStr for LocationPrefix {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        if text.len() == CITY_LEN && text.bytes().all(|b| b.is_ascii_digit()) {
            return Ok(Self { text: text.into() });
        }
        Ok(Self {
            text: parse::components(text)?.join("-").into(),
        })
    }
}

impl fmt::Display for LocationPrefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.text)
    }
}

impl fmt::Debug for LocationPrefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LocationPrefix({})", self.text)
    }
}

impl Serialize for LocationPrefix {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

impl<'de> Deserialize<'de> for LocationPrefix {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(de::Error::custom)
    }
}
