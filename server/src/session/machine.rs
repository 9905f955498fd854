//! The state machine: a row and an event make a new row, or nothing.
//!
//! Two rules carry everything else. Generations only rise. And a row names the target of a move as
//! its connection only after the receipt of the former gateway (or an operator's force), so that
//! no Connect for the target can be derived before.

mod grants;

use grants::{acknowledged, granted, service_refused};

use super::service::Service;
use super::{Addresses, Connection, SealedSecret, Session, State, Target};

/// What has happened to a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event<'a> {
    /// The gateway has recorded the instruction of this generation, and follows this revision of
    /// the service.
    Ack {
        gateway: &'a str,
        generation: u64,
        revision: u64,
    },
    /// The gateway cannot carry out the instruction of this generation, or, with a revision, the
    /// change of the service.
    Nack {
        gateway: &'a str,
        generation: u64,
        revision: u64,
        reason: &'a str,
    },
    /// The gateway says which revision of the service it follows, after it had been away.
    ServiceHeld {
        gateway: &'a str,
        generation: u64,
        revision: u64,
    },
    /// The session shall have this service from now on.
    Serve {
        service: Service,
        /// That the service follows.
        plan: Option<&'a str>,
    },
    /// Traffic flows.
    Established {
        gateway: &'a str,
        generation: u64,
        detail: &'a str,
    },
    /// The gateway forwards nothing more for this session. Under the generation of a Connect: the
    /// terminal, on its own line, has accepted another session in this one's place.
    Receipt { gateway: &'a str, generation: u64 },
    /// The receipt is overdue.
    Unanswered { gateway_connected: bool },
    /// The operator goes on without the receipt.
    Force,
    /// The session's time to live at its gateway is over: the gateway has ended it by itself.
    Outlived,
    /// The session shall end. `generation` is fresh.
    Release { generation: u64 },
    /// The session shall go elsewhere. Both generations are fresh, the target's the newer.
    Move {
        disconnect_generation: u64,
        target: Target,
    },
    /// The gateway holds what the table says it has refused: it must be told to drop it, under a
    /// generation newer than the one it holds.
    HeldThoughRefused { generation: u64 },
}

/// A new row, and what else belongs to the same transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    pub session: Session,
    /// Gateways whose addresses the session gives back.
    pub free_addresses_at: Vec<String>,
    /// Whether the row now asks something of its gateway that it did not ask before.
    pub instruct: bool,
    /// Whether this is a step of the session's history.
    pub step: bool,
}

/// Why an event changes nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Ignored {
    #[error("its generation is older than the session's")]
    StaleGeneration,
    #[error("its generation is newer than any given out for this session's present state")]
    FutureGeneration,
    #[error("the session is no longer at this gateway")]
    OtherGateway,
    #[error("the session's state has no use for it")]
    NotApplicable,
}

/// Why a request cannot be carried out now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    #[error("the session has been released")]
    Released,
    #[error(
        "the session is moving already; watch it, and ask again when it is established or refused"
    )]
    Moving,
    #[error("the session is being released; ask for a new connection instead")]
    Releasing,
    #[error("only a session that waits for a gateway's receipt can be forced")]
    NotWaiting,
    #[error("the generations given are not newer than the session's")]
    GenerationNotNewer,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    Changed(Box<Change>),
    Ignored(Ignored),
    Denied(Denied),
}

/// Applies one event to one row.
pub fn apply(session: &Session, event: Event<'_>) -> Outcome {
    match event {
        Event::Ack {
            gateway,
            generation,
            revision,
        } => match from_gateway(session, gateway, generation) {
            Err(ignored) => Outcome::Ignored(ignored),
            Ok(()) => acknowledged(session, revision),
        },
        Event::ServiceHeld {
            gateway,
            generation,
            revision,
        } => match from_gateway(session, gateway, generation) {
            Err(ignored) => Outcome::Ignored(ignored),
            Ok(()) if session.state.is_connected_side() => {
                granted(session, session.service.held(revision), false)
            }
            Ok(()) => Outcome::Ignored(Ignored::NotApplicable),
        },
        Event::Serve { .. } if session.state == State::Released => {
            Outcome::Denied(Denied::Released)
        }
        Event::Serve { service, plan } => {
            let next = session.service.with(service, plan);
            let instruct =
                next.revision != session.service.revision && session.state.is_connected_side();
            granted(session, next, instruct)
        }
        Event::Established {
            gateway,
            generation,
            detail,
        } => match from_gateway(session, gateway, generation) {
            Err(ignored) => Outcome::Ignored(ignored),
            Ok(())
                if matches!(session.state, State::Connecting | State::Establishing)
                    || (session.state == State::Established && session.detail != detail) =>
            {
                step(session, State::Established, detail)
            }
            Ok(()) => Outcome::Ignored(Ignored::NotApplicable),
        },
        Event::Nack {
            gateway,
            generation,
            revision,
            reason,
        } => match from_gateway(session, gateway, generation) {
            Err(ignored) => Outcome::Ignored(ignored),
            Ok(()) if revision == 0 => nack(session, reason),
            Ok(()) => service_refused(session, revision, reason),
        },
        Event::Receipt {
            gateway,
            generation,
        } => match from_gateway(session, gateway, generation) {
            Err(ignored) => Outcome::Ignored(ignored),
            Ok(()) if session.state.is_disconnecting() => disconnected(session, "receipt recorded"),
            Ok(()) if session.state.is_connected_side() => replaced(session),
            Ok(()) => Outcome::Ignored(Ignored::NotApplicable),
        },
        Event::Unanswered { gateway_connected } if session.state == State::Disconnecting => step(
            session,
            State::DisconnectingUnconfirmed,
            if gateway_connected {
                "the gateway is connected but has sent no receipt; it is asked again and again"
            } else {
                "the gateway cannot be reached; the disconnect is sent as soon as it is back"
            },
        ),
        Event::Unanswered { .. } => Outcome::Ignored(Ignored::NotApplicable),
        Event::Force if session.state.is_disconnecting() => {
            disconnected(session, "forced by the operator, without a receipt")
        }
        Event::Force => Outcome::Denied(Denied::NotWaiting),
        Event::Outlived if session.state.is_disconnecting() && follows_time_to_live(session) => {
            disconnected(session, "the time to live is over, without a receipt")
        }
        Event::Outlived => Outcome::Ignored(Ignored::NotApplicable),
        Event::Release { generation } => release(session, generation),
        Event::Move {
            disconnect_generation,
            target,
        } => start_move(session, disconnect_generation, target),
        Event::HeldThoughRefused { generation } => {
            if session.state != State::Refused {
                Outcome::Ignored(Ignored::NotApplicable)
            } else if generation <= session.generation {
                Outcome::Denied(Denied::GenerationNotNewer)
            } else {
                Outcome::Changed(Box::new(Change {
                    session: Session {
                        generation,
                        ..session.clone()
                    },
                    free_addresses_at: Vec::new(),
                    instruct: false,
                    step: false,
                }))
            }
        }
    }
}

/// Only what the gateway has acknowledged may be relied on.
fn follows_time_to_live(session: &Session) -> bool {
    let grant = &session.service;
    grant.service.time_to_live_s > 0 && grant.acknowledged == grant.revision
}

/// A gateway's message counts only from the session's present gateway, about its present
/// instruction.
fn from_gateway(session: &Session, gateway: &str, generation: u64) -> Result<(), Ignored> {
    if generation < session.generation {
        Err(Ignored::StaleGeneration)
    } else if session.connection.gateway != gateway {
        Err(Ignored::OtherGateway)
    } else if generation > session.generation {
        Err(Ignored::FutureGeneration)
    } else {
        Ok(())
    }
}

fn changed(session: Session, free_addresses_at: Vec<String>, instruct: bool) -> Outcome {
    Outcome::Changed(Box::new(Change {
        session,
        free_addresses_at,
        instruct,
        step: true,
    }))
}

/// A change of state that asks nothing new of the gateway.
fn step(session: &Session, state: State, detail: &str) -> Outcome {
    changed(
        Session {
            state,
            detail: detail.to_owned(),
            ..session.clone()
        },
        Vec::new(),
        false,
    )
}

fn nack(session: &Session, reason: &str) -> Outcome {
    match session.state {
        State::Connecting | State::Establishing => {
            let mut refused = session.clone();
            refused.state = State::Refused;
            refused.detail = reason.to_owned();
            refused.connection.addresses = Addresses::default();
            refused.connection.key = SealedSecret::default();
            changed(refused, vec![session.connection.gateway.clone()], false)
        }
        // The line may still forward: only a receipt ends the wait. The reason becomes visible.
        State::Disconnecting | State::DisconnectingUnconfirmed => {
            let detail = format!("the gateway refuses to disconnect: {reason}");
            if session.detail == detail {
                Outcome::Ignored(Ignored::NotApplicable)
            } else {
                step(session, State::DisconnectingUnconfirmed, &detail)
            }
        }
        _ => Outcome::Ignored(Ignored::NotApplicable),
    }
}

/// The former gateway forwards nothing more: on to the target, or to the end.
fn disconnected(session: &Session, how: &str) -> Outcome {
    let former = session.connection.gateway.clone();
    match &session.target {
        Some(target) => {
            let stays = target.connection.gateway == former;
            changed(
                Session {
                    generation: target.generation,
                    state: State::Connecting,
                    connection: target.connection.clone(),
                    target: None,
                    service: session.service.elsewhere(),
                    detail: format!("{how} from {former}; moving on"),
                    ..session.clone()
                },
                if stays { Vec::new() } else { vec![former] },
                true,
            )
        }
        None => changed(
            ended(session, session.generation, format!("{how} from {former}")),
            vec![former],
            false,
        ),
    }
}

/// The gateway may forward for another session now, whose it does not say.
fn replaced(session: &Session) -> Outcome {
    let gateway = session.connection.gateway.clone();
    let detail = format!("replaced by the terminal; receipt recorded from {gateway}");
    changed(
        ended(session, session.generation, detail),
        vec![gateway],
        false,
    )
}

fn ended(session: &Session, generation: u64, detail: String) -> Session {
    Session {
        generation,
        state: State::Released,
        connection: Connection {
            addresses: Addresses::default(),
            key: SealedSecret::default(),
            ..session.connection.clone()
        },
        target: None,
        detail,
        ..session.clone()
    }
}

fn release(session: &Session, generation: u64) -> Outcome {
    match session.state {
        State::Released => Outcome::Denied(Denied::Released),
        State::Refused => {
            if generation <= session.generation {
                return Outcome::Denied(Denied::GenerationNotNewer);
            }
            changed(
                ended(session, generation, "released after a refusal".to_owned()),
                Vec::new(),
                false,
            )
        }
        // The Disconnect has been given already; what follows it is changed to the end.
        State::Disconnecting | State::DisconnectingUnconfirmed => match &session.target {
            None => Outcome::Ignored(Ignored::NotApplicable),
            Some(target) => {
                let stays = target.connection.gateway == session.connection.gateway;
                changed(
                    Session {
                        target: None,
                        detail: "the move was given up; releasing".to_owned(),
                        ..session.clone()
                    },
                    if stays {
                        Vec::new()
                    } else {
                        vec![target.connection.gateway.clone()]
                    },
                    false,
                )
            }
        },
        State::Connecting | State::Establishing | State::Established => {
            if generation <= session.generation {
                return Outcome::Denied(Denied::GenerationNotNewer);
            }
            changed(
                Session {
                    generation,
                    state: State::Disconnecting,
                    target: None,
                    detail: "releasing; waits for the gateway's receipt".to_owned(),
                    ..session.clone()
                },
                Vec::new(),
                true,
            )
        }
    }
}

fn start_move(session: &Session, disconnect_generation: u64, target: Target) -> Outcome {
    if disconnect_generation <= session.generation || target.generation <= disconnect_generation {
        return Outcome::Denied(Denied::GenerationNotNewer);
    }
    match session.state {
        State::Released => Outcome::Denied(Denied::Released),
        State::Disconnecting | State::DisconnectingUnconfirmed => {
            Outcome::Denied(if session.target.is_some() {
                Denied::Moving
            } else {
                Denied::Releasing
            })
        }
        // A newer generation takes the place of whatever the gateway may hold.
        State::Refused if target.connection.gateway == session.connection.gateway => changed(
            Session {
                generation: target.generation,
                state: State::Connecting,
                connection: target.connection,
                target: None,
                service: session.service.elsewhere(),
                detail: "asked for again after a refusal".to_owned(),
                ..session.clone()
            },
            Vec::new(),
            true,
        ),
        // Also after a refusal: the same Connect may have come twice, refused once and once not.
        State::Refused | State::Connecting | State::Establishing | State::Established => changed(
            Session {
                generation: disconnect_generation,
                state: State::Disconnecting,
                detail: format!(
                    "moving to {}; waits for the receipt of {}",
                    target.connection.gateway, session.connection.gateway
                ),
                target: Some(target),
                ..session.clone()
            },
            Vec::new(),
            true,
        ),
    }
}

#[cfg(test)]
#[path = "machine_tests.rs"]
mod tests;
