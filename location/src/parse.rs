//! The grammar of location ids, shared by ids and prefixes.

use std::fmt;

/// A community name in the long form is padded with `0` to this many bytes.
pub(crate) const COMMUNITY_LEN: usize = 32;
const AREA_LEN: usize = 6;

/// One component of a location id, in the order of the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Field {
    /// Six digits of GB/T 2260.
    Area,
    /// `[a-z0-9]{1,32}`, not ending in `0`.
    Community,
    /// Three or four digits.
    Building,
    /// Three or four digits.
    Unit,
    /// Three or four digits.
    Room,
}

impl Field {
    pub(crate) const ALL: [Self; 5] = [
        Self::Area,
        Self::Community,
        Self::Building,
        Self::Unit,
        Self::Room,
    ];
}

impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Area => "area",
            Self::Community => "community",
            Self::Building => "building",
            Self::Unit => "unit",
            Self::Room => "room",
        })
    }
}

/// What is wrong with a field. Carries nothing of the text itself: it may have been decrypted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Problem {
    /// The text ends before this field.
    Missing,
    /// A character that the field does not allow.
    Character,
    /// The area has a number of digits other than six.
    AreaLength,
    /// The community is longer than 32 characters, or nothing but padding.
    CommunityLength,
    /// A community that ends in `0` but is not padded to 32 characters.
    CommunityEndsInZero,
    /// A building, unit or room has a number of digits other than three or four.
    NumberLength,
    /// Text goes on after the last field.
    Trailing,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Missing => "is missing",
            Self::Character => "has a character that is not allowed there",
            Self::AreaLength => "must have six digits",
            Self::CommunityLength => "must have 1 to 32 characters of a-z and 0-9",
            Self::CommunityEndsInZero => "must not end in `0` unless it is padded to 32 characters",
            Self::NumberLength => "must have three or four digits",
            Self::Trailing => "is followed by more text",
        })
    }
}

/// Why a text is not a location id. Names the field and where in the text, never the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "location id: {field} {problem} (byte {position}); \
     expected area-community-building-unit-room"
)]
pub struct ParseError {
    /// The field at fault.
    pub field: Field,
    /// Byte offset in the text at which the fault shows.
    pub position: usize,
    /// What is wrong there.
    pub problem: Problem,
}

/// Splits `text` into checked components; the community comes back without padding.
pub(crate) fn components(text: &str) -> Result<Vec<&str>, ParseError> {
    let mut out = Vec::with_capacity(Field::ALL.len());
    let mut start = 0;
    let mut parts = text.split('-');
    for field in Field::ALL {
        let Some(part) = parts.next() else { break };
        out.push(check(field, part, start)?);
        start += part.len() + 1;
    }
    if parts.next().is_some() {
        let position = start - 1;
        return Err(ParseError {
            field: Field::Room,
            position,
            problem: Problem::Trailing,
        });
    }
    Ok(out)
}

fn check(field: Field, part: &str, start: usize) -> Result<&str, ParseError> {
    let fail = |offset: usize, problem| {
        Err(ParseError {
            field,
            position: start + offset,
            problem,
        })
    };
    let allowed =
        |b: u8| b.is_ascii_digit() || (field == Field::Community && b.is_ascii_lowercase());
    if let Some(offset) = part.bytes().position(|b| !allowed(b)) {
        return fail(offset, Problem::Character);
    }
    match field {
        Field::Area if part.len() != AREA_LEN => {
            fail(part.len().min(AREA_LEN), Problem::AreaLength)
        }
        Field::Area => Ok(part),
        Field::Community => {
            if part.is_empty() || part.len() > COMMUNITY_LEN {
                return fail(part.len().min(COMMUNITY_LEN), Problem::CommunityLength);
            }
            let name = part.trim_end_matches('0');
            if name.is_empty() {
                fail(0, Problem::CommunityLength)
            } else if part.len() < COMMUNITY_LEN && name.len() < part.len() {
                fail(name.len(), Problem::CommunityEndsInZero)
            } else {
                Ok(name)
            }
        }
        Field::Building | Field::Unit | Field::Room => match part.len() {
            3 | 4 => Ok(part),
            len => fail(len.min(4), Problem::NumberLength),
        },
    }
}
