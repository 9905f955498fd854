//! The key, the links, and the head.

use std::fmt;
use std::str::FromStr;

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;
use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

use super::entry::{Entry, Event};

const LINK: &[u8] = b"doorstep-server/audit/link/1";
const HEAD: &[u8] = b"doorstep-server/audit/head/1";

/// What binds an entry to all that came before it: HMAC-SHA256 under the audit key over the link
/// before (zeros for the first entry) and the entry's encoding.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Link([u8; Self::LEN]);

impl Link {
    pub const LEN: usize = 32;

    /// Before the first entry.
    pub const NONE: Link = Link([0; Self::LEN]);

    #[must_use]
    pub fn from_slice(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Link)
    }

    #[must_use]
    pub fn as_bytes(&self) -> &[u8; Self::LEN] {
        &self.0
    }
}

/// In hexadecimal digits, 64 of them.
impl fmt::Display for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Link({self})")
    }
}

impl FromStr for Link {
    type Err = HeadError;

    fn from_str(text: &str) -> Result<Self, HeadError> {
        crate::keys::files::from_hex(text)
            .map(|bytes| Link(*bytes))
            .ok_or(HeadError::Form)
    }
}

/// An entry as it stands in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chained {
    pub entry: Entry,
    pub link: Link,
}

/// The end of the log: how many entries there are, and the last one's link. Sealed with the audit
/// key, so that who can write the database cannot make one for a shorter log.
///
/// It is written in the same transaction as the entries that it counts. Kept elsewhere, it is an
/// *anchor*: proof of all entries up to its count, also against a database that was put back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    pub count: u64,
    pub link: Link,
    pub seal: Link,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HeadError {
    #[error(
        "not a head of the audit log: it reads `audit1:COUNT:LINK:SEAL`, with 64 hexadecimal \
         digits each for LINK and SEAL, as `audit head` prints it"
    )]
    Form,
    #[error(
        "the seal of this head of the audit log is not of this server's audit key: it was changed \
         or mistyped, or belongs to another server"
    )]
    Seal,
}

/// `audit1:COUNT:LINK:SEAL`, one word for people to keep.
impl fmt::Display for Head {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "audit1:{}:{}:{}", self.count, self.link, self.seal)
    }
}

impl FromStr for Head {
    type Err = HeadError;

    fn from_str(text: &str) -> Result<Self, HeadError> {
        let mut parts = text.split(':');
        let mut next = || parts.next().ok_or(HeadError::Form);
        if next()? != "audit1" {
            return Err(HeadError::Form);
        }
        let count = next()?;
        if count.is_empty() || !count.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(HeadError::Form);
        }
        let head = Head {
            count: count.parse().map_err(|_| HeadError::Form)?,
            link: next()?.parse()?,
            seal: next()?.parse()?,
        };
        match parts.next() {
            None => Ok(head),
            Some(_) => Err(HeadError::Form),
        }
    }
}

/// Makes and checks links. It lies beside the database's other keys, outside the database.
pub struct AuditKey(Zeroizing<[u8; 32]>);

impl fmt::Debug for AuditKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AuditKey(hidden)")
    }
}

impl AuditKey {
    #[must_use]
    pub fn new(key: Zeroizing<[u8; 32]>) -> Self {
        AuditKey(key)
    }

    /// The head of a log without entries.
    #[must_use]
    pub fn empty(&self) -> Head {
        self.head(0, Link::NONE)
    }

    /// Gives an event its place after `head`, and moves the head there.
    ///
    /// Entry and head belong into one transaction with what the entry tells of, and the head's row
    /// must still hold what `head` was read from (compare and set): two writers that append to the
    /// same head would fork the log.
    pub fn append(&self, head: &mut Head, event: Event) -> Chained {
        let entry = Entry {
            number: head.count + 1,
            event,
        };
        let link = self.link(&head.link, &entry, &mut Vec::with_capacity(256));
        *head = self.head(entry.number, link);
        Chained { entry, link }
    }

    /// Whether a head was made with this key.
    pub fn check(&self, head: &Head) -> Result<(), HeadError> {
        let expected = self.head(head.count, head.link).seal;
        if bool::from(expected.0.ct_eq(&head.seal.0)) {
            Ok(())
        } else {
            Err(HeadError::Seal)
        }
    }

    /// `buffer` is only there to be used again.
    pub(super) fn link(&self, previous: &Link, entry: &Entry, buffer: &mut Vec<u8>) -> Link {
        buffer.clear();
        entry.encode(buffer);
        self.mac(&[LINK, &previous.0, buffer])
    }

    fn head(&self, count: u64, link: Link) -> Head {
        Head {
            count,
            link,
            seal: self.mac(&[HEAD, &count.to_be_bytes(), &link.0]),
        }
    }

    fn mac(&self, parts: &[&[u8]]) -> Link {
        let mut mac = Hmac::<Sha256>::new_from_slice(self.0.as_slice())
            .expect("HMAC takes keys of any length");
        for part in parts {
            mac.update(part);
        }
        Link(mac.finalize().into_bytes().into())
    }
}
