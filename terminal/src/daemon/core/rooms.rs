//! The rooms: which session they use, and how their devices get addresses.

use doorstep_proto::v1 as pb;

use super::Core;
use crate::config::Home;
use crate::daemon::app::doors::doors;
use crate::daemon::rooms::Served;
use crate::daemon::session::Session;
use crate::links::own_rooms::Chosen;
use crate::rooms;

impl Core {
    /// The sessions of the rooms that have one of their own, as far as they are there.
    pub(super) fn chosen(&self, home: Option<&Home>) -> Chosen {
        let Some(home) = home else {
            return Chosen::new();
        };
        let slot = |(port, session)| Some((port, self.slot_of(session)?));
        home.choices().filter_map(slot).collect()
    }

    /// Of the session that is meant by an operator's name or an id.
    fn slot_of(&self, meant: &str) -> Option<u32> {
        let is_meant = |session: &&Session| {
            let saved = &session.saved;
            let named = saved.operator == meant || meant.parse() == Ok(saved.session_id);
            named && saved.line.is_some()
        };
        let sessions = self.sessions.values().filter(is_meant);
        let oldest = sessions.min_by_key(|session| session.age())?;
        Some(oldest.saved.slot)
    }

    /// The rooms' devices get addresses by what the sessions have now, and the app where it is to be.
    pub(super) fn serve_rooms(&mut self) {
        let (sessions, home) = (self.actives(), self.home.as_ref());
        let chosen = self.chosen(home);
        let folder = self.rooms.folder();
        let served = home.map(|home| rooms::configurations(home, &sessions, &chosen, folder));
        self.rooms.serve(served.unwrap_or_default());
        self.doors.open(doors(self.home.as_ref()));
    }

    pub(super) fn rooms_status(&self) -> Option<pb::TerminalRooms> {
        let waiting = self.waiting();
        let served = self.rooms.served();
        if served == Served::No && waiting.is_empty() {
            return None;
        }
        let (served, why) = match served {
            Served::No => (false, None),
            Served::Yes => (true, None),
            Served::Fails(why) => (false, Some(why)),
        };
        let detail: Vec<String> = why.into_iter().chain(waiting).collect();
        Some(pb::TerminalRooms {
            served,
            detail: detail.join("; "),
        })
    }

    /// Which rooms have no way out because the session that is meant for them is not there, while
    /// another one is.
    fn waiting(&self) -> Vec<String> {
        if self.actives().is_empty() {
            return Vec::new();
        }
        let choices = self.home.iter().flat_map(Home::choices);
        let without = choices.filter(|(_, meant)| self.slot_of(meant).is_none());
        let told = without.map(|(room, meant)| {
            format!("{room} has no way out: its session ({meant}) is not there")
        });
        told.collect()
    }
}
