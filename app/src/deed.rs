//! What somebody does with connections.

use crate::words::{Deeds, Done};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deed {
    Connect,
    Move,
    Additional,
    Switch,
    Release,
}

impl Deed {
    pub const ALL: [Deed; 5] = [
        Deed::Connect,
        Deed::Move,
        Deed::Additional,
        Deed::Switch,
        Deed::Release,
    ];

    /// As addresses have it.
    #[must_use]
    pub fn path(self) -> &'static str {
        match self {
            Deed::Connect => "connect",
            Deed::Move => "move",
            Deed::Additional => "add",
            Deed::Switch => "switch",
            Deed::Release => "release",
        }
    }

    #[must_use]
    pub fn of(path: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|deed| deed.path() == path)
    }

    #[must_use]
    pub fn words(self, deeds: &Deeds) -> &Done {
        match self {
            Deed::Connect => &deeds.connect,
            Deed::Move => &deeds.relocate,
            Deed::Additional => &deeds.additional,
            Deed::Switch => &deeds.switch,
            Deed::Release => &deeds.release,
        }
    }

    /// Whether it is done to one of the connections that are there.
    #[must_use]
    pub fn has_session(self) -> bool {
        matches!(self, Deed::Move | Deed::Switch | Deed::Release)
    }

    /// Whether it begins at a door.
    #[must_use]
    pub fn has_location(self) -> bool {
        self != Deed::Release
    }

    /// Whether one of several operators is chosen; the others stay with the connection's.
    #[must_use]
    pub fn has_operator(self) -> bool {
        matches!(self, Deed::Connect | Deed::Additional | Deed::Switch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_lead_back() {
        for deed in Deed::ALL {
            assert_eq!(Deed::of(deed.path()), Some(deed));
        }
        assert_eq!(Deed::of("register"), None);
    }
}
