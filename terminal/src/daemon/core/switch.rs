//! A session that takes another's place, whoever's the two are.
//!
//! On one line of one gateway the acceptance of the new session names the former one, and the
//! gateway ends it in the same step. Anywhere else the former one is released at its server once
//! the new one is established. Either way the former one goes on until then.

use doorstep_establish::Former;
use tokio::sync::oneshot;
use tokio::time::Instant;
use tonic::Status;
use tracing::info;
use uuid::Uuid;

use super::Core;
use super::requests::ASK_AGAIN_FOR;
use crate::daemon::session::Session;

impl Core {
    /// The session that is to end; the only one, where none is named.
    pub(super) fn former(&self, named: &str) -> Result<Uuid, Status> {
        let id = self.session_named(named)?;
        let is_online = self.sessions.get(&id).is_some_and(Session::is_online);
        if is_online {
            return Ok(id);
        }
        Err(Status::failed_precondition(format!(
            "session {id} is not established, so nothing can take its place; see `status`, and use \
             `request` or `release`"
        )))
    }

    /// Before a session's gateway is answered: the answer names the session that it replaces, if the
    /// gateway can end that one with it.
    pub(super) fn name_former(&mut self, id: Uuid) {
        let named = self.sessions.get(&id).and_then(|session| {
            let former = self.sessions.get(&session.saved.replaces?)?;
            shares_line(session, former).then(|| Former {
                session: former.saved.session_id,
                generation: former.saved.generation,
                key: former.saved.key.clone(),
            })
        });
        if let Some(session) = self.sessions.get_mut(&id) {
            session.responder.replace(named);
        }
    }

    /// The session is established: what it replaces has ended with that, or is released now, and has
    /// left it the home's default route already.
    pub(super) fn succeed_former(&mut self, id: Uuid) {
        let Some(mut session) = self.sessions.remove(&id) else {
            return;
        };
        let replaced = session.saved.replaces;
        if let Some(former) = replaced.and_then(|former| self.sessions.get_mut(&former)) {
            // The oldest has the home's default route.
            if let Some(since) = former.saved.since_unix_ms.take() {
                session.saved.since_unix_ms = Some(since);
            }
            let (former, ends_with_it) = (former.saved.session_id, shares_line(&session, former));
            info!(session = %id, %former, ends_with_it, "takes the other session's place");
            if !ends_with_it {
                // Nobody waits for it; `status` shows the session until it has ended.
                let reply = oneshot::channel().0;
                self.ask_release(former, Instant::now() + ASK_AGAIN_FOR, reply, true);
            }
        }
        self.sessions.insert(id, session);
    }

    /// What a former daemon had not come to.
    pub(super) fn succeed_formers(&mut self) {
        let established = |session: &Session| session.saved.since_unix_ms.is_some();
        let sessions = self.sessions.iter();
        let replacing = sessions.filter(|(_, s)| s.saved.replaces.is_some() && established(s));
        for id in replacing.map(|(id, _)| *id).collect::<Vec<_>>() {
            self.succeed_former(id);
        }
    }
}

/// Whether both lie on one line of one gateway.
fn shares_line(a: &Session, b: &Session) -> bool {
    let place = |session: &Session| {
        let line = session.saved.line.as_ref()?;
        let establishment = &line.establishment;
        // A session on its way elsewhere is on this line no more.
        (establishment.generation == session.saved.generation).then(|| {
            let gateway = &establishment.offer.gateway_id;
            (line.port.clone(), establishment.tags, gateway.clone())
        })
    };
    place(a).is_some_and(|here| place(b) == Some(here))
}
