//! The VLAN tags of a frame.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The tag protocol of a C-tag (IEEE 802.1Q).
pub const TPID_8021Q: u16 = 0x8100;
/// The tag protocol of an S-tag (IEEE 802.1ad, now part of 802.1Q).
pub const TPID_8021AD: u16 = 0x88a8;

/// One VLAN tag, without priority bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tag {
    /// [`TPID_8021Q`] or [`TPID_8021AD`].
    pub tpid: u16,
    /// 1 to 4094.
    pub vid: u16,
}

/// No tag, one, or two; the outer one first. Shown as `101.1004`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(try_from = "Vec<Tag>", into = "Vec<Tag>")]
pub struct Tags {
    stack: [Tag; 2],
    len: u8,
}

/// More than two tags, or one that is not a VLAN's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("VLAN tags: expected at most two, of TPID 0x8100 or 0x88a8 and VLAN 1 to 4094")]
pub struct InvalidTags;

impl Tags {
    /// Untagged.
    pub const NONE: Self = Self {
        stack: [Tag { tpid: 0, vid: 0 }; 2],
        len: 0,
    };

    /// The tags in `tags`, outer first.
    pub fn new(tags: &[Tag]) -> Result<Self, InvalidTags> {
        let mut out = Self::NONE;
        for &tag in tags {
            let known = matches!(tag.tpid, TPID_8021Q | TPID_8021AD);
            let slot = out.stack.get_mut(usize::from(out.len)).ok_or(InvalidTags)?;
            if !known || !(1..=4094).contains(&tag.vid) {
                return Err(InvalidTags);
            }
            *slot = tag;
            out.len += 1;
        }
        Ok(out)
    }

    /// The tags with these VLAN ids, outer first: one is a C-tag, of two the outer is an S-tag.
    pub fn from_vids(vids: &[u16]) -> Result<Self, InvalidTags> {
        let outer = if vids.len() > 1 {
            TPID_8021AD
        } else {
            TPID_8021Q
        };
        let tags: Vec<Tag> = vids
            .iter()
            .enumerate()
            .map(|(i, &vid)| Tag {
                tpid: if i == 0 { outer } else { TPID_8021Q },
                vid,
            })
            .collect();
        Self::new(&tags)
    }

    /// The tags, outer first.
    #[must_use]
    pub fn as_slice(&self) -> &[Tag] {
        &self.stack[..usize::from(self.len)]
    }
}

impl TryFrom<Vec<Tag>> for Tags {
    type Error = InvalidTags;

    fn try_from(tags: Vec<Tag>) -> Result<Self, InvalidTags> {
        Self::new(&tags)
    }
}

impl From<Tags> for Vec<Tag> {
    fn from(tags: Tags) -> Self {
        tags.as_slice().to_vec()
    }
}

impl fmt::Display for Tags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.as_slice() {
            [] => f.write_str("untagged"),
            [one] => write!(f, "{}", one.vid),
            [outer, inner, ..] => write!(f, "{}.{}", outer.vid, inner.vid),
        }
    }
}

impl fmt::Debug for Tags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.as_slice()).finish()
    }
}
