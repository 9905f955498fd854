//! What a connection can be, as the steps of a request and the list of connections name it.

use crate::words::{Said, States};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    Waiting,
    Requested,
    Accepted,
    Connecting,
    Establishing,
    BringingUp,
    Accepting,
    Established,
    Disconnecting,
    Unconfirmed,
    Releasing,
    Released,
    Refused,
    Silent,
    Failed,
}

impl State {
    pub const ALL: [State; 15] = [
        State::Waiting,
        State::Requested,
        State::Accepted,
        State::Connecting,
        State::Establishing,
        State::BringingUp,
        State::Accepting,
        State::Established,
        State::Disconnecting,
        State::Unconfirmed,
        State::Releasing,
        State::Released,
        State::Refused,
        State::Silent,
        State::Failed,
    ];

    /// As the daemons' protocol names it (`admin_terminal.proto`).
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            State::Waiting => "waiting",
            State::Requested => "requested",
            State::Accepted => "accepted",
            State::Connecting => "connecting",
            State::Establishing => "establishing",
            State::BringingUp => "bringing-up",
            State::Accepting => "accepting",
            State::Established => "established",
            State::Disconnecting => "disconnecting",
            State::Unconfirmed => "disconnecting-unconfirmed",
            State::Releasing => "releasing",
            State::Released => "released",
            State::Refused => "refused",
            State::Silent => "silent",
            State::Failed => "failed",
        }
    }

    /// Of a name; a later version's is something that one waits for.
    #[must_use]
    pub fn of(name: &str) -> Self {
        let mut all = Self::ALL.into_iter();
        all.find(|state| state.name() == name)
            .unwrap_or(State::Waiting)
    }

    #[must_use]
    pub fn said(self, states: &States) -> &Said {
        match self {
            State::Waiting => &states.waiting,
            State::Requested => &states.requested,
            State::Accepted => &states.accepted,
            State::Connecting => &states.connecting,
            State::Establishing => &states.establishing,
            State::BringingUp => &states.bringing_up,
            State::Accepting => &states.accepting,
            State::Established => &states.established,
            State::Disconnecting => &states.disconnecting,
            State::Unconfirmed => &states.unconfirmed,
            State::Releasing => &states.releasing,
            State::Released => &states.released,
            State::Refused => &states.refused,
            State::Silent => &states.silent,
            State::Failed => &states.failed,
        }
    }

    /// The class that it is coloured by, never its only sign.
    #[must_use]
    pub fn class(self) -> &'static str {
        match self {
            State::Established | State::Released => "good",
            State::Waiting
            | State::Requested
            | State::Accepted
            | State::Connecting
            | State::Establishing
            | State::BringingUp
            | State::Accepting => "busy",
            State::Disconnecting | State::Releasing | State::Unconfirmed => "wait",
            State::Silent | State::Refused | State::Failed => "bad",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_lead_back_and_a_later_versions_is_waited_for() {
        for state in State::ALL {
            assert_eq!(State::of(state.name()), state);
        }
        assert_eq!(State::of("hibernating"), State::Waiting);
    }
}
