//! Between the protocol's messages and plain values; nothing else knows both.

use std::str::FromStr;

use doorstep_establish::SessionKey;
use doorstep_location::LocationId;
use doorstep_proto::{PROTOCOL_VERSION, v1};
use thiserror::Error;
use uuid::Uuid;

use crate::engine::message::{
    ChangeService, Connect, CpeReplacement, Dhcp, Held, HeldPhase, Instruction, Receipt, Refusal,
    RefusalReason, Report,
};
use crate::session::{Counters, Service};

/// MTU of a line unless the server says otherwise.
const DEFAULT_MTU: u16 = 1500;
/// How long a lease by DHCP holds unless the server says otherwise.
const DEFAULT_LEASE_S: u32 = 3600;
/// As many resolvers as an offer to the terminal has room for.
const MAX_RESOLVERS: usize = 8;
/// How much of a server's own text is sent back to it.
const MAX_ECHO: usize = 64;

/// A message that is not an instruction.
#[derive(Debug, PartialEq, Eq)]
pub enum Incoming {
    Welcome { operator: String },
    Instruction(Instruction),
}

#[derive(Debug, Error, PartialEq, Eq)]
#[error("a message without a body, or of a kind that this version does not know")]
pub struct EmptyMessage;

pub fn incoming(message: v1::ServerMessage) -> Result<Incoming, EmptyMessage> {
    use v1::server_message::Body;
    let instruction = match message.body.ok_or(EmptyMessage)? {
        Body::Welcome(welcome) => {
            return Ok(Incoming::Welcome {
                operator: welcome.operator,
            });
        }
        Body::Connect(message) => {
            let (session, generation) = (echo(&message.session_id), message.generation);
            match connect(message) {
                Ok(connect) => Instruction::Connect(connect),
                Err(detail) => malformed(session, generation, 0, detail),
            }
        }
        Body::ChangeService(message) => {
            let (session, generation) = (echo(&message.session_id), message.generation);
            let revision = message.revision;
            match change_service(message) {
                Ok(change) => Instruction::ChangeService(change),
                Err(detail) => malformed(session, generation, revision, detail),
            }
        }
        Body::Disconnect(v1::Disconnect {
            session_id,
            generation,
        }) => match uuid(&session_id) {
            Ok(session) => Instruction::Disconnect {
                session,
                generation,
            },
            Err(detail) => malformed(echo(&session_id), generation, 0, detail),
        },
        Body::Synced(v1::Synced {}) => Instruction::Synced,
        Body::ReceiptAck(v1::ReceiptAck { number }) => Instruction::ReceiptAck { number },
    };
    Ok(Incoming::Instruction(instruction))
}

fn connect(message: v1::Connect) -> Result<Connect, String> {
    let mtu = match message.mtu {
        0 => DEFAULT_MTU,
        mtu => u16::try_from(mtu).map_err(|_| format!("mtu: {mtu} is beyond 65535"))?,
    };
    if message.dns.len() > MAX_RESOLVERS {
        return Err(format!(
            "dns: {} addresses, at most {MAX_RESOLVERS} are possible",
            message.dns.len()
        ));
    }
    Ok(Connect {
        session: uuid(&message.session_id)?,
        generation: message.generation,
        location: message
            .location_id
            .parse::<LocationId>()
            .map_err(|error| format!("location_id: {error}"))?,
        key: SessionKey::from_slice(&message.session_key)
            .map_err(|error| format!("session_key: {error}"))?,
        ipv4: optional("ipv4_address", &message.ipv4_address)?,
        ipv6: optional("ipv6_prefix", &message.ipv6_prefix)?,
        ipv6_line: optional("ipv6_line_prefix", &message.ipv6_line_prefix)?,
        ipv4_gateway: optional("ipv4_gateway", &message.ipv4_gateway)?,
        dns: message
            .dns
            .iter()
            .map(|text| required("dns", text))
            .collect::<Result<_, _>>()?,
        mtu,
        service: service(message.service)?,
        service_revision: message.service_revision,
        dhcp: message.dhcp.map(dhcp).transpose()?,
    })
}

/// Its bounds are checked where it is decided on.
fn dhcp(message: v1::Dhcp) -> Result<Dhcp, String> {
    let replacement = match v1::CpeReplacement::try_from(message.replacement) {
        Ok(v1::CpeReplacement::Unspecified | v1::CpeReplacement::AtOnce) => CpeReplacement::AtOnce,
        Ok(v1::CpeReplacement::AfterHold) => CpeReplacement::AfterHold {
            hold_s: message.hold_s,
        },
        Ok(v1::CpeReplacement::Never) => CpeReplacement::Never,
        Err(_) => {
            return Err(format!(
                "dhcp.replacement: {} is none that this version knows",
                message.replacement
            ));
        }
    };
    Ok(Dhcp {
        lease_s: match message.lease_s {
            0 => DEFAULT_LEASE_S,
            seconds => seconds,
        },
        replacement,
    })
}

fn change_service(message: v1::ChangeService) -> Result<ChangeService, String> {
    Ok(ChangeService {
        session: uuid(&message.session_id)?,
        generation: message.generation,
        revision: message.revision,
        service: service(message.service)?,
    })
}

/// Its bounds are checked where it is decided on.
fn service(message: Option<v1::Service>) -> Result<Service, String> {
    let message = message.unwrap_or_default();
    Ok(Service {
        upstream_bps: message.upstream_bps,
        downstream_bps: message.downstream_bps,
        shape_downstream: message.shape_downstream,
        priority: u8::try_from(message.priority)
            .map_err(|_| format!("service.priority: {} is beyond 7", message.priority))?,
        time_to_live_s: message.time_to_live_s,
    })
}

pub fn service_message(service: Service) -> v1::Service {
    v1::Service {
        upstream_bps: service.upstream_bps,
        downstream_bps: service.downstream_bps,
        shape_downstream: service.shape_downstream,
        priority: service.priority.into(),
        time_to_live_s: service.time_to_live_s,
    }
}

fn uuid(text: &str) -> Result<Uuid, String> {
    required("session_id", text)
}

fn optional<T: FromStr<Err: std::fmt::Display>>(
    field: &str,
    text: &str,
) -> Result<Option<T>, String> {
    if text.is_empty() {
        return Ok(None);
    }
    required(field, text).map(Some)
}

fn required<T: FromStr<Err: std::fmt::Display>>(field: &str, text: &str) -> Result<T, String> {
    text.parse().map_err(|error: T::Err| {
        // It may name the character at which it gave up, which may be any.
        let error: String = error.to_string().chars().map(visible).collect();
        format!("{field}: '{}': {error}", echo(text))
    })
}

fn visible(char: char) -> char {
    if char.is_control() { '\u{fffd}' } else { char }
}

pub(super) fn echo(text: &str) -> String {
    text.chars()
        .take(MAX_ECHO)
        .flat_map(char::escape_debug)
        .collect()
}

fn malformed(session: String, generation: u64, revision: u64, detail: String) -> Instruction {
    Instruction::Malformed(Refusal {
        session,
        generation,
        revision,
        reason: RefusalReason::Malformed,
        detail,
    })
}

pub fn outgoing(gateway_id: &str, report: Report) -> v1::GatewayMessage {
    use v1::gateway_message::Body;
    let body = match report {
        Report::Hello { held } => Body::Hello(v1::Hello {
            protocol_version: PROTOCOL_VERSION,
            gateway_id: gateway_id.to_owned(),
            software_version: env!("CARGO_PKG_VERSION").to_owned(),
            held: held.into_iter().map(held_session).collect(),
        }),
        Report::Ack {
            session,
            generation,
            revision,
        } => Body::Ack(v1::Ack {
            session_id: session.to_string(),
            generation,
            revision,
        }),
        Report::Nack(refusal) => Body::Nack(v1::Nack {
            session_id: refusal.session,
            generation: refusal.generation,
            reason: reason(refusal.reason).into(),
            detail: refusal.detail,
            revision: refusal.revision,
        }),
        Report::Established {
            session,
            generation,
            mac,
            line,
            route,
            at_unix_ms,
        } => Body::Established(v1::Established {
            session_id: session.to_string(),
            generation,
            terminal_mac: mac.0.to_vec(),
            line,
            route,
            at_unix_ms,
        }),
        Report::Receipt(receipt) => Body::Receipt(receipt_message(receipt)),
        Report::Accounting(accounts) => Body::Accounting(v1::Accounting {
            sessions: accounts
                .into_iter()
                .map(|account| v1::SessionCounters {
                    session_id: account.session.to_string(),
                    generation: account.generation,
                    counters: Some(counters(account.counters)),
                    silent_since_unix_ms: account.silent_since_ms.unwrap_or_default(),
                    blocked: account.blocked,
                })
                .collect(),
            // The client adds it.
            uplink_problem: String::new(),
        }),
    };
    v1::GatewayMessage { body: Some(body) }
}

fn held_session(held: Held) -> v1::HeldSession {
    let phase = match held.phase {
        HeldPhase::Establishing => v1::HeldPhase::Establishing,
        HeldPhase::Established => v1::HeldPhase::Established,
        HeldPhase::Disconnected => v1::HeldPhase::Disconnected,
    };
    v1::HeldSession {
        session_id: held.session.to_string(),
        generation: held.generation,
        phase: phase.into(),
        service_revision: held.revision,
    }
}

fn receipt_message(receipt: Receipt) -> v1::Receipt {
    v1::Receipt {
        number: receipt.number,
        session_id: receipt.session.to_string(),
        generation: receipt.generation,
        r#final: Some(counters(receipt.final_counters)),
        at_unix_ms: receipt.at_unix_ms,
    }
}

pub fn counters(counters: Counters) -> v1::Counters {
    v1::Counters {
        upstream_packets: counters.upstream_packets,
        upstream_bytes: counters.upstream_bytes,
        downstream_packets: counters.downstream_packets,
        downstream_bytes: counters.downstream_bytes,
        upstream_policed: counters.upstream_policed,
        downstream_policed: counters.downstream_policed,
    }
}

fn reason(reason: RefusalReason) -> v1::NackReason {
    match reason {
        RefusalReason::StaleGeneration => v1::NackReason::StaleGeneration,
        RefusalReason::UnknownLocation => v1::NackReason::UnknownLocation,
        RefusalReason::Malformed => v1::NackReason::Malformed,
        RefusalReason::AddressInUse => v1::NackReason::AddressInUse,
        RefusalReason::NoCapacity => v1::NackReason::NoCapacity,
        RefusalReason::Dataplane => v1::NackReason::Dataplane,
        RefusalReason::NotHeld => v1::NackReason::NotHeld,
    }
}

#[cfg(test)]
mod tests;
