//! Accounts of the operator's people: what they are called, and what each may do.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

const LONGEST: usize = 32;

/// What an account is called: 1 to 32 of `a-z`, `0-9`, `.`, `_` and `-`, beginning with a letter or a
/// digit.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Name {
    bytes: [u8; LONGEST],
    len: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "an account's name is 1 to 32 of a-z, 0-9, '.', '_' and '-', and begins with a letter or a digit"
)]
pub struct NameError;

impl Name {
    #[must_use]
    pub fn as_str(&self) -> &str {
        // Only ASCII is ever put there.
        std::str::from_utf8(&self.bytes[..usize::from(self.len)]).unwrap_or_default()
    }
}

impl FromStr for Name {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let is_first = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        let is_good = |byte: u8| is_first(byte) || matches!(byte, b'.' | b'_' | b'-');
        let len = u8::try_from(text.len()).map_err(|_| NameError)?;
        let mut bytes = [0; LONGEST];
        let place = bytes.get_mut(..text.len()).ok_or(NameError)?;
        if !text.bytes().next().is_some_and(is_first) || !text.bytes().all(is_good) {
            return Err(NameError);
        }
        place.copy_from_slice(text.as_bytes());
        Ok(Name { bytes, len })
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Name({self})")
    }
}

/// What an account is for; each role may do what those before it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Role {
    Viewer,
    Agent,
    Admin,
}

impl Role {
    pub const ALL: [Role; 3] = [Role::Viewer, Role::Agent, Role::Admin];

    /// The name in the database, the command line and on pages.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Role::Viewer => "viewer",
            Role::Agent => "agent",
            Role::Admin => "admin",
        }
    }

    #[must_use]
    pub fn from_name(name: &str) -> Option<Role> {
        Role::ALL.into_iter().find(|role| role.name() == name)
    }

    #[must_use]
    pub fn may(self, right: Right) -> bool {
        self >= right.least()
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// Something that not everybody may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Right {
    /// See places, sessions, gateways.
    Look,
    /// Look for subscribers; connect, disconnect and move their sessions.
    Serve,
    /// Go on without a gateway's receipt.
    Force,
    /// Change accounts.
    Administer,
}

impl Right {
    #[must_use]
    pub fn least(self) -> Role {
        match self {
            Right::Look => Role::Viewer,
            Right::Serve => Role::Agent,
            Right::Force | Right::Administer => Role::Admin,
        }
    }

    /// What it is to do, for people.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Right::Look => "look",
            Right::Serve => "look for subscribers, connect, disconnect or move",
            Right::Force => "force a session",
            Right::Administer => "change accounts",
        }
    }
}

/// Who has something done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Actor {
    /// Whoever may use the administration socket: they may do everything.
    Operator,
    Account(Name, Role),
}

impl Actor {
    #[must_use]
    pub fn may(self, right: Right) -> bool {
        match self {
            Actor::Operator => true,
            Actor::Account(_, role) => role.may(right),
        }
    }

    /// As the audit log and histories name them.
    #[must_use]
    pub fn name(self) -> Cow<'static, str> {
        match self {
            Actor::Operator => "operator".into(),
            Actor::Account(name, _) => format!("account {name}").into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_checked() {
        for (text, good) in [
            ("li", true),
            ("li.wei_2-b", true),
            ("0", true),
            (&"x".repeat(32), true),
            (&"x".repeat(33), false),
            (&"x".repeat(300), false),
            ("", false),
            (".li", false),
            ("Li", false),
            ("li wei", false),
            ("李", false),
            ("<b>", false),
        ] {
            let name = text.parse::<Name>();
            assert_eq!(name.is_ok(), good, "{text}");
            if let Ok(name) = name {
                assert_eq!(name.as_str(), text);
            }
        }
    }

    #[test]
    fn who_may_what() {
        use Right::{Administer, Force, Look, Serve};
        for (role, rights) in [
            (Role::Viewer, vec![Look]),
            (Role::Agent, vec![Look, Serve]),
            (Role::Admin, vec![Look, Serve, Force, Administer]),
        ] {
            let all = [Look, Serve, Force, Administer];
            let may: Vec<_> = all.into_iter().filter(|right| role.may(*right)).collect();
            assert_eq!(may, rights, "{role}");
            assert_eq!(Role::from_name(role.name()), Some(role));
        }
    }
}
