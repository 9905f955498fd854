//! What events make of a session's service.

use super::{Change, Ignored, Outcome, changed};
use crate::session::service::Grant;
use crate::session::{Session, State};

/// A change of the service only: no step of the session's history.
pub(super) fn granted(session: &Session, service: Grant, instruct: bool) -> Outcome {
    if service == session.service {
        return Outcome::Ignored(Ignored::NotApplicable);
    }
    Outcome::Changed(Box::new(Change {
        session: Session {
            service,
            ..session.clone()
        },
        free_addresses_at: Vec::new(),
        instruct,
        step: false,
    }))
}

pub(super) fn acknowledged(session: &Session, revision: u64) -> Outcome {
    if !session.state.is_connected_side() {
        return Outcome::Ignored(Ignored::NotApplicable);
    }
    let service = session.service.acknowledge(revision);
    if session.state != State::Connecting {
        return granted(session, service, false);
    }
    // The service may have been changed while the Connect was on its way.
    let instruct = !service.is_acknowledged();
    changed(
        Session {
            state: State::Establishing,
            detail: "the gateway has recorded it and asks the terminal".to_owned(),
            service,
            ..session.clone()
        },
        Vec::new(),
        instruct,
    )
}

/// The session goes on by the service that it has; why becomes visible.
pub(super) fn service_refused(session: &Session, revision: u64, reason: &str) -> Outcome {
    let grant = &session.service;
    if !session.state.is_connected_side() || revision != grant.revision || grant.is_acknowledged() {
        return Outcome::Ignored(Ignored::NotApplicable);
    }
    let grant = Grant {
        problem: reason.to_owned(),
        ..grant.clone()
    };
    granted(session, grant, false)
}
