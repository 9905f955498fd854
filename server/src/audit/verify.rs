//! Reads a log from its first entry to its last, and finds the first that is not as it was written.

use subtle::ConstantTimeEq as _;

use super::chain::{AuditKey, Chained, Head, HeadError, Link};

/// What is wrong with a log, and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    #[error("entry {expected} is missing: entry {found} follows entry {}", .expected - 1)]
    Missing { expected: u64, found: u64 },
    #[error(
        "entry {found} stands where entry {expected} should: it is there twice or out of order"
    )]
    Order { expected: u64, found: u64 },
    #[error(
        "entry {number} is not as it was written: it was changed, or an entry before it is gone"
    )]
    Changed { number: u64 },
    #[error("the log ends with entry {last}, but its head counts {count}: entry {} is missing", .last + 1)]
    CutOff { last: u64, count: u64 },
    #[error("the log's head counts {count}, but the log goes on: entry {} was added from outside, or the head was put back", .count + 1)]
    Beyond { count: u64 },
    #[error("entry {count} is not the one that the head was written for")]
    OtherEntry { count: u64 },
    #[error("the log's own head: {0}")]
    Head(HeadError),
    #[error("the anchor: {0}")]
    Anchor(HeadError),
    #[error(
        "the anchor proves {count} entries, but the log ends with entry {last}: a former state was put back, or entries were cut off"
    )]
    PutBack { last: u64, count: u64 },
    #[error("entry {count} is not the one that the anchor was kept of: the log was written anew")]
    WrittenAnew { count: u64 },
}

impl Fault {
    /// The first entry that is missing or not as it was written; none, where only a head is wrong.
    #[must_use]
    pub fn first_bad(&self) -> Option<u64> {
        match *self {
            Fault::Missing { expected, .. } | Fault::Order { expected, .. } => Some(expected),
            Fault::Changed { number } => Some(number),
            Fault::CutOff { last, .. } | Fault::PutBack { last, .. } => Some(last + 1),
            Fault::Beyond { count } => Some(count + 1),
            Fault::OtherEntry { .. }
            | Fault::WrittenAnew { .. }
            | Fault::Head(_)
            | Fault::Anchor(_) => None,
        }
    }
}

/// Walks over a log. Entries and head must be of one snapshot of the database.
///
/// ```text
/// let mut verifier = Verifier::new(&key, anchor)?;
/// for each entry, in the order of its number: verifier.push(&entry)?;
/// verifier.finish(&head)?
/// ```
pub struct Verifier<'k> {
    key: &'k AuditKey,
    anchor: Option<Head>,
    count: u64,
    last: Link,
    buffer: Vec<u8>,
}

impl<'k> Verifier<'k> {
    /// `anchor`: a head of this log that was kept elsewhere.
    pub fn new(key: &'k AuditKey, anchor: Option<Head>) -> Result<Self, Fault> {
        if let Some(anchor) = &anchor {
            key.check(anchor).map_err(Fault::Anchor)?;
        }
        let verifier = Verifier {
            key,
            anchor,
            count: 0,
            last: Link::NONE,
            buffer: Vec::new(),
        };
        verifier.meet_anchor()?;
        Ok(verifier)
    }

    /// The next entry. After a fault nothing that follows can be told good from bad.
    pub fn push(&mut self, chained: &Chained) -> Result<(), Fault> {
        let expected = self.count + 1;
        let found = chained.entry.number;
        if found > expected {
            return Err(Fault::Missing { expected, found });
        }
        if found < expected {
            return Err(Fault::Order { expected, found });
        }
        let link = self.key.link(&self.last, &chained.entry, &mut self.buffer);
        if !bool::from(link.as_bytes().ct_eq(chained.link.as_bytes())) {
            return Err(Fault::Changed { number: expected });
        }
        self.count = expected;
        self.last = link;
        self.meet_anchor()
    }

    /// The end. Returns how many entries are proven.
    pub fn finish(self, head: &Head) -> Result<u64, Fault> {
        self.key.check(head).map_err(Fault::Head)?;
        if let Some(anchor) = &self.anchor
            && anchor.count > self.count
        {
            return Err(Fault::PutBack {
                last: self.count,
                count: anchor.count,
            });
        }
        if head.count > self.count {
            return Err(Fault::CutOff {
                last: self.count,
                count: head.count,
            });
        }
        if head.count < self.count {
            return Err(Fault::Beyond { count: head.count });
        }
        if head.link != self.last {
            return Err(Fault::OtherEntry { count: head.count });
        }
        Ok(self.count)
    }

    fn meet_anchor(&self) -> Result<(), Fault> {
        match &self.anchor {
            Some(anchor) if anchor.count == self.count && anchor.link != self.last => {
                Err(Fault::WrittenAnew {
                    count: anchor.count,
                })
            }
            _ => Ok(()),
        }
    }
}
