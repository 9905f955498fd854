//! From facts to the first link that does not hold.

use super::traffic::{trace, traffic};
use super::{
    Asked, Break, Chain, Facts, GatewayFacts, Ground, Holds, Host, Kind, Link, Refusal,
    SessionFacts, Stage, Step,
};
use crate::session::{Establishment, State};

/// What is wrong with a link, before it is known which links come behind it.
pub(super) struct Fault {
    pub kind: Kind,
    pub since_ms: i64,
    pub cause: String,
    pub host: Host,
    pub command: String,
}

/// A link that holds: since when (0: not known), and what is to be said of it.
pub(super) type Held = (i64, String);

/// Follows the links in their order, up to the first that does not hold.
pub fn examine(facts: &Facts) -> Chain {
    let mut links = Vec::with_capacity(Stage::ALL.len());
    let mut broken = None;
    for stage in Stage::ALL {
        let mut link = Link {
            stage,
            holds: Holds::Unknown,
            at_ms: 0,
            detail: String::new(),
        };
        if broken.is_none() {
            match follow(facts, stage) {
                Ok(Some((at_ms, detail))) => {
                    (link.holds, link.at_ms, link.detail) = (Holds::Yes, at_ms, detail);
                }
                Ok(None) => {}
                Err(fault) => {
                    link.holds = Holds::No;
                    broken = Some(Break {
                        stage,
                        kind: fault.kind,
                        since_ms: fault.since_ms,
                        cause: fault.cause,
                        host: fault.host,
                        command: fault.command,
                    });
                }
            }
        }
        links.push(link);
    }
    Chain { links, broken }
}

fn follow(facts: &Facts, stage: Stage) -> Result<Option<Held>, Fault> {
    match (stage, &facts.session) {
        (Stage::Registered, _) => registered(facts),
        (Stage::Requested, None) => Err(without_session(facts)),
        (_, None) => Ok(None),
        (Stage::Requested, Some(session)) => requested(facts, session).map(Some),
        (Stage::Bound, Some(session)) => bound(session).map(Some),
        (Stage::Instructed, Some(session)) => instructed(session).map(Some),
        (Stage::Acknowledged, Some(session)) => acknowledged(session).map(Some),
        (Stage::Established, Some(session)) => established(session).map(Some),
        (Stage::Traffic, Some(session)) => traffic(facts, session).map(Some),
    }
}

fn registered(facts: &Facts) -> Result<Option<Held>, Fault> {
    match (facts.registered_ms, &facts.asked) {
        (Some(at_ms), _) => Ok(Some((at_ms, String::new()))),
        (None, Asked::Subscriber) => Err(Fault {
            kind: Kind::NotRegistered,
            since_ms: 0,
            cause: "nobody is registered with this number".to_owned(),
            host: Host::Terminal,
            command: "doorstep-terminal register --phone NUMBER".to_owned(),
        }),
        (None, _) => Ok(None),
    }
}

fn without_session(facts: &Facts) -> Fault {
    if let Some(refusal) = &facts.refusal {
        return refused(refusal);
    }
    let (kind, cause, host, command) = match &facts.asked {
        Asked::Location {
            location,
            gateway: None,
        } => (
            Kind::NoGateway,
            format!("no gateway's locations in the configuration contain {location}"),
            Host::Server,
            "doorstep-server gateways".to_owned(),
        ),
        Asked::Location {
            location,
            gateway: Some(gateway),
        } => (
            Kind::NoSession,
            format!("no subscriber has a session at this location, which {gateway} serves"),
            Host::Server,
            format!("doorstep-server sessions connect {location} --subscriber ID"),
        ),
        Asked::Subscriber | Asked::Session => (
            Kind::NoSession,
            "the subscriber has no session, and no request of its terminal has been refused lately: \
             none has come"
                .to_owned(),
            Host::Terminal,
            "doorstep-terminal request --qr FILE".to_owned(),
        ),
    };
    Fault {
        kind,
        since_ms: 0,
        cause,
        host,
        command,
    }
}

fn refused(refusal: &Refusal) -> Fault {
    let (host, command) = match refusal.ground {
        Ground::Request => (Host::Server, "doorstep-server keys seal LOCATION"),
        Ground::NoGateway => (Host::Server, "doorstep-server gateways"),
        Ground::Standing => (Host::Server, "doorstep-server sessions list --all"),
        Ground::Server => (Host::Server, "doorstep-server status"),
    };
    Fault {
        kind: Kind::RequestRefused,
        since_ms: refusal.at_ms,
        cause: format!(
            "the terminal's last request was refused: {}",
            refusal.reason
        ),
        host,
        command: command.to_owned(),
    }
}

/// A session is there: a request was answered, its seal opened.
fn requested(facts: &Facts, session: &SessionFacts) -> Result<Held, Fault> {
    if session.state == State::Released
        && let Some(refusal) = &facts.refusal
        && refusal.at_ms >= session.since_ms
    {
        return Err(refused(refusal));
    }
    let who = session.steps.first().map_or("", |step| step.who.as_str());
    let detail = match who {
        "" => String::new(),
        "subscriber" => "by the subscriber; the seal was opened".to_owned(),
        who => format!("by the {who}"),
    };
    Ok((session.created_ms, detail))
}

/// The step that the present connection began with.
fn beginning(session: &SessionFacts) -> Option<usize> {
    let steps = session.steps.iter();
    steps
        .clone()
        .rposition(|step| step.state == State::Connecting)
}

/// The first step of the present connection into a state.
fn step_into(session: &SessionFacts, state: State) -> Option<&Step> {
    let present = session.steps.get(beginning(session)?..)?;
    present.iter().find(|step| step.state == state)
}

fn bound_ms(session: &SessionFacts) -> i64 {
    step_into(session, State::Connecting).map_or(session.created_ms, |step| step.at_ms)
}

/// Who wished that it ends: not the gateway, whose receipt comes last.
fn ended_by(session: &SessionFacts) -> &str {
    let last = session.steps.last();
    step_into(session, State::Disconnecting)
        .or(last)
        .map_or("", |step| step.who.as_str())
}

fn bound(session: &SessionFacts) -> Result<Held, Fault> {
    let gateway = &session.gateway;
    if session.state == State::Released {
        let by = match ended_by(session) {
            "" => String::new(),
            who => format!(" by the {who}"),
        };
        return Err(Fault {
            kind: Kind::Released,
            since_ms: session.since_ms,
            cause: format!("the session has been released{by}: {}", session.detail),
            host: Host::Server,
            command: format!("doorstep-server sessions show {}", session.id),
        });
    }
    if session.state.is_disconnecting() {
        return Err(awaiting_receipt(session));
    }
    if !gateway.configured {
        return Err(Fault {
            kind: Kind::NoGateway,
            since_ms: 0,
            cause: format!(
                "gateway {} is not in the configuration any more; put it back, or end the session",
                gateway.id
            ),
            host: Host::Server,
            command: "doorstep-server gateways".to_owned(),
        });
    }
    let detail = format!(
        "{} through {}, generation {}",
        session.location, gateway.id, session.generation
    );
    Ok((bound_ms(session), detail))
}

fn awaiting_receipt(session: &SessionFacts) -> Fault {
    let gateway = &session.gateway;
    let aim = session.target_gateway.as_ref().map_or_else(
        || "to be released".to_owned(),
        |target| format!("to move to {target}"),
    );
    let (why, command) = match gateway.connected_ms {
        Some(_) => (
            "which is connected but has not given it".to_owned(),
            "doorstep-gateway sessions",
        ),
        None => (
            format!("which is {}", away(gateway)),
            "doorstep-gateway status",
        ),
    };
    // When the wait began, not when it was found to be long.
    let steps = session.steps.iter().rev();
    let waiting = steps.take_while(|step| step.state.is_disconnecting());
    Fault {
        kind: Kind::AwaitingReceipt,
        since_ms: waiting.last().map_or(session.since_ms, |step| step.at_ms),
        cause: format!(
            "waits, {aim}, for the receipt of {}, {why}; once it is certain that {} forwards nothing \
             for it, `doorstep-server sessions force {}` goes on without",
            gateway.id, gateway.id, session.id
        ),
        host: Host::Gateway(gateway.id.clone()),
        command: command.to_owned(),
    }
}

/// `not connected (to this server; another one may have it)`.
fn away(gateway: &GatewayFacts) -> String {
    let never = if gateway.seen_ms == 0 {
        ", and never has been"
    } else {
        ""
    };
    if gateway.shared {
        format!("not connected to this server{never} (another server of this operator may have it)")
    } else {
        format!("not connected{never}")
    }
}

pub(super) fn gateway_away(gateway: &GatewayFacts, consequence: &str) -> Fault {
    let (host, command) = if gateway.seen_ms == 0 {
        let command = format!("doorstep-server pki token {}", gateway.id);
        (Host::Server, command)
    } else {
        let command = "doorstep-gateway status".to_owned();
        (Host::Gateway(gateway.id.clone()), command)
    };
    Fault {
        kind: Kind::GatewayAway,
        since_ms: gateway.seen_ms,
        cause: format!("gateway {} is {}{consequence}", gateway.id, away(gateway)),
        host,
        command,
    }
}

/// An answer of the gateway that the present connection has got, if any.
fn answer(session: &SessionFacts) -> Option<&Step> {
    let answers = [State::Establishing, State::Established, State::Refused];
    let steps = answers
        .iter()
        .filter_map(|state| step_into(session, *state));
    steps.min_by_key(|step| step.at_ms)
}

/// Whoever has answered was told. Otherwise it is told as soon as it is connected; that moment
/// itself is not written down.
fn instructed(session: &SessionFacts) -> Result<Held, Fault> {
    let bound_ms = bound_ms(session);
    let gateway = &session.gateway;
    let told_ms = match (answer(session), gateway.connected_ms) {
        (Some(answer), Some(connected)) if connected <= answer.at_ms => bound_ms.max(connected),
        (Some(_), _) => bound_ms,
        (None, Some(connected)) => bound_ms.max(connected),
        (None, None) if session.state != State::Connecting => bound_ms,
        (None, None) => {
            return Err(gateway_away(gateway, "; it is told as soon as it is back"));
        }
    };
    Ok((told_ms, String::new()))
}

fn acknowledged(session: &SessionFacts) -> Result<Held, Fault> {
    let gateway = &session.gateway;
    match session.state {
        State::Connecting => Err(Fault {
            kind: Kind::NotAcknowledged,
            since_ms: bound_ms(session).max(gateway.connected_ms.unwrap_or(0)),
            cause: format!(
                "gateway {} is connected and has been told, but has not acknowledged; it is told again \
                 and again",
                gateway.id
            ),
            host: Host::Gateway(gateway.id.clone()),
            command: "doorstep-gateway status".to_owned(),
        }),
        State::Refused if step_into(session, State::Establishing).is_none() => {
            Err(refused_by_gateway(session))
        }
        // An Ack that was lost is known by what came behind it.
        _ => {
            let step = step_into(session, State::Establishing)
                .or_else(|| step_into(session, State::Established));
            Ok((step.map_or(0, |step| step.at_ms), String::new()))
        }
    }
}

fn refused_by_gateway(session: &SessionFacts) -> Fault {
    let gateway = &session.gateway;
    Fault {
        kind: Kind::RefusedByGateway,
        since_ms: session.since_ms,
        cause: format!(
            "gateway {} has refused it: {}; once that is mended, the subscriber asks again",
            gateway.id, session.detail
        ),
        host: Host::Gateway(gateway.id.clone()),
        command: "doorstep-gateway check".to_owned(),
    }
}

pub(super) fn established(session: &SessionFacts) -> Result<Held, Fault> {
    let gateway = &session.gateway;
    match session.state {
        State::Establishing => {
            if gateway.connected_ms.is_none() && !gateway.shared {
                let whether = "; whether the session is established is known when it is back";
                return Err(gateway_away(gateway, whether));
            }
            let who = match session.establishment {
                Establishment::Terminal => "the terminal does not answer the gateway's request",
                Establishment::Dhcp => "no router asks for its address by DHCP",
            };
            Err(Fault {
                kind: Kind::TerminalSilent,
                since_ms: session.since_ms,
                cause: format!(
                    "{who} on the line of {}: look at power, cabling, the line's VLANs, and whether the \
                     line is blocked",
                    session.location
                ),
                host: Host::Gateway(gateway.id.clone()),
                command: trace(session),
            })
        }
        State::Refused => Err(refused_by_gateway(session)),
        _ => {
            let at_ms =
                step_into(session, State::Established).map_or(session.since_ms, |step| step.at_ms);
            Ok((at_ms, session.detail.clone()))
        }
    }
}
