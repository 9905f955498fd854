//! The rooms: which session they use, and how their devices get addresses.

use doorstep_proto::v1 as pb;

use super::Core;
use crate::config::{Home, Room};
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
        let slot = |(port, room): (&String, &Room)| Some((port.clone(), self.slot_of(room)?));
        home.rooms.iter().filter_map(slot).collect()
    }

    fn slot_of(&self, room: &Room) -> Option<u32> {
        let is_meant = |session: &&Session| {
            let saved = &session.saved;
            let named =
                saved.operator == room.session || room.session.parse() == Ok(saved.session_id);
            named && saved.line.is_some()
        };
        let sessions = self.sessions.values().filter(is_meant);
        let oldest = sessions.min_by_key(|session| session.age())?;
        Some(oldest.saved.slot)
    }

    /// The rooms' devices get addresses by what the sessions have now.
    pub(super) fn serve_rooms(&self) {
        let (sessions, home) = (self.actives(), self.home.as_ref());
        let chosen = self.chosen(home);
        let leases = self.rooms.leases();
        let text = home.and_then(|home| rooms::configuration(home, &sessions, &chosen, leases));
        self.rooms.serve(text);
    }

    pub(super) fn rooms_status(&self) -> Option<pb::TerminalRooms> {
        let (served, detail) = match self.rooms.served() {
            Served::No => return None,
            Served::Yes => (true, String::new()),
            Served::Fails(why) => (false, why),
        };
        Some(pb::TerminalRooms { served, detail })
    }
}
