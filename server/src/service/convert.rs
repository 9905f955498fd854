//! Protobuf to plain types and back, the only place where the two meet.

use std::collections::HashMap;

use doorstep_proto::v1 as pb;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};
use uuid::Uuid;

use crate::config::{Plans, is_name};
use crate::engine::{AccessKind, AccessRequest, EngineError, Wanted};
use crate::hub::{Liveness, Said};
use crate::identity::{IdCard, Phone};
use crate::limits::{Reason, exhausted};
use crate::session::establishment::{Dhcp, Replace};
use crate::session::instruct::{Held, Phase};
use crate::session::service::{Service, ServiceError};
use crate::session::{Establishment, State};
use crate::store::{Counters, CountersRow, Outcome, ReceiptRow, SessionRow, StepRow};
use crate::vault::Secret;
use crate::verification::Verdict;

/// Longest sealed location id looked at; both forms are shorter.
const MAX_SEALED_LEN: usize = 1024;
/// Longest verification code taken.
const MAX_CODE_LEN: usize = 64;
/// Reason of the `google.rpc.ErrorInfo` that asks for a code.
const CODE_NEEDED: &str = "VERIFICATION_CODE_NEEDED";
const ERROR_DOMAIN: &str = "doorstep";
/// Longest text kept of what a gateway says for people.
const MAX_TEXT_LEN: usize = 256;

/// Collects what is wrong with a request, field by field.
#[derive(Debug, Default)]
pub struct Violations(Vec<String>);

impl Violations {
    pub fn add(&mut self, field: &str, what: impl std::fmt::Display) {
        self.0.push(format!("{field}: {what}"));
    }

    /// Keeps a good value; notes what is wrong with a bad one.
    pub fn check<T, E: std::fmt::Display>(
        &mut self,
        field: &str,
        result: Result<T, E>,
    ) -> Option<T> {
        result.map_err(|error| self.add(field, error)).ok()
    }

    pub fn status(&self) -> Status {
        Status::invalid_argument(format!("invalid request: {}", self.0.join("; ")))
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// The status of a refused request. What only the operator may know goes to the log.
pub fn status(error: &EngineError) -> Status {
    let text = error.to_string();
    match error {
        EngineError::Invalid(_) => Status::invalid_argument(text),
        EngineError::Forbidden(_) => Status::permission_denied(text),
        EngineError::Unauthenticated => Status::unauthenticated(text),
        EngineError::AlreadyRegistered => Status::already_exists(text),
        EngineError::NoGateway | EngineError::NotFound(_) => Status::not_found(text),
        EngineError::Precondition(_) => Status::failed_precondition(text),
        // No time heals this one by itself, so there is no hint when to come again.
        EngineError::Exhausted(_) => Status::resource_exhausted(text),
        EngineError::Busy => exhausted(&text, None),
        EngineError::Interrupted(_) => Status::unavailable(text),
        EngineError::Store(_) | EngineError::Vault(_) => {
            tracing::error!(%error, "request failed");
            Status::internal("the server could not carry out the request; its log says why")
        }
    }
}

pub fn uuid(text: &str) -> Result<Uuid, &'static str> {
    // Hyphenated only: other spellings of the same id would only confuse people.
    if text.len() == 36
        && let Ok(id) = Uuid::try_parse(text)
    {
        Ok(id)
    } else {
        Err("must be a UUID like 0190f2c4-5a1e-7c3b-9d2e-1f0a5b6c7d8e")
    }
}

pub fn optional_uuid(text: &str) -> Result<Option<Uuid>, &'static str> {
    if text.is_empty() {
        Ok(None)
    } else {
        uuid(text).map(Some)
    }
}

pub fn credentials(
    given: Option<pb::Credentials>,
    violations: &mut Violations,
) -> Option<(Uuid, Secret)> {
    let Some(given) = given else {
        violations.add("credentials", "missing");
        return None;
    };
    let id = violations.check("credentials.subscriber_id", uuid(&given.subscriber_id));
    let secret = violations.check(
        "credentials.secret",
        Secret::from_slice(&given.secret).ok_or("must be 32 bytes"),
    );
    id.zip(secret)
}

/// The two numbers of a registration.
pub fn numbers(
    phone: &str,
    id_card: &str,
    country_code: Option<&str>,
) -> Result<(Option<Phone>, Option<IdCard>), Status> {
    let mut violations = Violations::default();
    let own_phone = (!phone.is_empty())
        .then(|| violations.check("phone", Phone::parse(phone, country_code)))
        .flatten();
    let own_card = (!id_card.is_empty())
        .then(|| violations.check("id_card", IdCard::parse(id_card)))
        .flatten();
    if phone.is_empty() && id_card.is_empty() {
        violations.add("phone, id_card", "at least one of the two is needed");
    }
    if violations.is_empty() {
        Ok((own_phone, own_card))
    } else {
        Err(violations.status())
    }
}

/// A code as somebody has typed it: empty if there is none.
pub fn verification_code(code: &str) -> Result<Option<&str>, Status> {
    match code.trim() {
        "" => Ok(None),
        code if code.len() <= MAX_CODE_LEN && code.bytes().all(|byte| byte.is_ascii_graphic()) => {
            Ok(Some(code))
        }
        _ => {
            let mut violations = Violations::default();
            violations.add(
                "verification_code",
                format_args!("must be at most {MAX_CODE_LEN} letters and digits"),
            );
            Err(violations.status())
        }
    }
}

/// What the operator's hook says of a registration.
pub fn verdict(verdict: Verdict) -> Result<(), Status> {
    match verdict {
        Verdict::Accepted => Ok(()),
        Verdict::CodeSent => Err(Status::with_error_details(
            Code::FailedPrecondition,
            "verification_code: a code has been sent to the number given; register again with it",
            ErrorDetails::with_error_info(CODE_NEEDED, ERROR_DOMAIN, HashMap::new()),
        )),
        Verdict::Refused(reason) if reason.is_empty() => Err(Status::permission_denied(
            "the operator does not accept this registration; ask the operator",
        )),
        Verdict::Refused(reason) => Err(Status::permission_denied(format!(
            "the operator does not accept this registration: {}",
            tidy(&reason)
        ))),
        Verdict::Failed => Err(Status::unavailable(
            "the registration cannot be verified at present; register again later",
        )),
    }
}

pub fn access_request(
    request: pb::RequestAccessRequest,
) -> Result<((Uuid, Secret), AccessRequest), Status> {
    let mut violations = Violations::default();
    let credentials = credentials(request.credentials, &mut violations);
    let kind = violations.check(
        "kind",
        match pb::AccessKind::try_from(request.kind) {
            Ok(pb::AccessKind::Connect) => Ok(AccessKind::Connect),
            Ok(pb::AccessKind::Move) => Ok(AccessKind::Move),
            Ok(pb::AccessKind::Additional) => Ok(AccessKind::Additional),
            _ => Err("must be CONNECT, MOVE or ADDITIONAL"),
        },
    );
    if request.sealed_location_id.is_empty() {
        violations.add("sealed_location_id", "missing");
    } else if request.sealed_location_id.len() > MAX_SEALED_LEN {
        violations.add(
            "sealed_location_id",
            format_args!("longer than {MAX_SEALED_LEN} bytes"),
        );
    }
    let session = violations.check("session_id", optional_uuid(&request.session_id));
    if kind.is_some_and(|kind| kind != AccessKind::Move) && !request.session_id.is_empty() {
        violations.add("session_id", "only a MOVE names a session");
    }
    let request_id = violations.check("request_id", uuid(&request.request_id));
    if !request.plan.is_empty() && !is_name(&request.plan) {
        violations.add("plan", "no name of a plan, as `Plans` lists them");
    }
    match (credentials, kind, session, request_id) {
        (Some(credentials), Some(kind), Some(session), Some(request_id))
            if violations.is_empty() =>
        {
            Ok((
                credentials,
                AccessRequest {
                    kind,
                    sealed_location_id: request.sealed_location_id,
                    session,
                    request: request_id,
                    plan: (!request.plan.is_empty()).then_some(request.plan),
                    establishment: Establishment::Terminal,
                },
            ))
        }
        _ => Err(violations.status()),
    }
}

/// What a subscriber may choose from, who was put on `own` or on none.
pub fn offered_plans(plans: &Plans, own: Option<&str>) -> pb::PlansResponse {
    let without_choice = plans.of(own).map(|plan| plan.name.as_str());
    let offered = plans.choice(own).map(|plan| pb::OfferedPlan {
        name: plan.name.clone(),
        title: plan.offer.title.clone(),
        price: plan.offer.price.clone(),
        upstream_bps: plan.service.upstream_bps,
        downstream_bps: plan.service.downstream_bps,
        own: without_choice == Some(plan.name.as_str()),
    });
    pb::PlansResponse {
        plans: offered.collect(),
    }
}

pub fn state(state: State) -> pb::SessionState {
    match state {
        State::Connecting => pb::SessionState::Connecting,
        State::Establishing => pb::SessionState::Establishing,
        State::Established => pb::SessionState::Established,
        State::Disconnecting => pb::SessionState::Disconnecting,
        State::DisconnectingUnconfirmed => pb::SessionState::DisconnectingUnconfirmed,
        State::Refused => pb::SessionState::Refused,
        State::Released => pb::SessionState::Released,
    }
}

pub fn state_name(value: i32) -> &'static str {
    match pb::SessionState::try_from(value) {
        Ok(pb::SessionState::Connecting) => State::Connecting.name(),
        Ok(pb::SessionState::Establishing) => State::Establishing.name(),
        Ok(pb::SessionState::Established) => State::Established.name(),
        Ok(pb::SessionState::Disconnecting) => State::Disconnecting.name(),
        Ok(pb::SessionState::DisconnectingUnconfirmed) => State::DisconnectingUnconfirmed.name(),
        Ok(pb::SessionState::Refused) => State::Refused.name(),
        Ok(pb::SessionState::Released) => State::Released.name(),
        _ => "unknown",
    }
}

pub fn session_status(session: Uuid, step: &StepRow) -> pb::SessionStatus {
    pb::SessionStatus {
        session_id: session.to_string(),
        generation: step.generation,
        state: state(step.state).into(),
        detail: step.detail.clone(),
        at_unix_ms: step.at_ms,
        gateway_id: step.gateway.clone(),
    }
}

pub fn session_step(step: StepRow) -> pb::SessionStep {
    pb::SessionStep {
        state: state(step.state).into(),
        generation: step.generation,
        detail: step.detail,
        at_unix_ms: step.at_ms,
        gateway_id: step.gateway,
        who: step.who,
    }
}

pub fn receipt_view(receipt: &ReceiptRow) -> pb::ReceiptView {
    pb::ReceiptView {
        gateway_id: receipt.gateway.clone(),
        number: receipt.number,
        generation: receipt.generation,
        counters: Some(counters(receipt.counters)),
        at_unix_ms: receipt.at_ms,
        recorded_unix_ms: receipt.recorded_ms,
    }
}

/// A session that a dry run would make. It has no id: the real one would be another.
pub fn session_to_be(outcome: Outcome) -> pb::SessionDetail {
    let view = session_view(outcome.row, None, None, Liveness::Unknown);
    pb::SessionDetail {
        session: Some(pb::SessionView {
            session_id: String::new(),
            ..view
        }),
        steps: outcome.steps.into_iter().map(session_step).collect(),
        receipts: Vec::new(),
    }
}

pub fn session_view(
    row: SessionRow,
    counted: Option<&CountersRow>,
    last_receipt: Option<&ReceiptRow>,
    heard: Liveness,
) -> pb::SessionView {
    let (heard, silent_since_ms) = liveness(heard);
    let session = row.session;
    let counted = counted.filter(|counted| counted.belong_to(&session));
    let addresses = session.connection.addresses;
    let target = session.target.as_ref().map(|target| &target.connection);
    pb::SessionView {
        session_id: session.id.to_string(),
        subscriber_id: session.subscriber.to_string(),
        location_id: session.connection.location.to_string(),
        gateway_id: session.connection.gateway.clone(),
        generation: session.generation,
        state: state(session.state).into(),
        detail: session.detail,
        ipv4_address: addresses.ipv4.map(|a| a.to_string()).unwrap_or_default(),
        ipv6_prefix: addresses.ipv6.map(|a| a.to_string()).unwrap_or_default(),
        ipv6_line_prefix: addresses
            .ipv6_line
            .map(|a| a.to_string())
            .unwrap_or_default(),
        counters: counted.map(|counted| counters(counted.counters)),
        final_counters: last_receipt.map(|receipt| counters(receipt.counters)),
        since_unix_ms: row.since_ms,
        created_unix_ms: row.created_ms,
        target_location_id: target.map(|t| t.location.to_string()).unwrap_or_default(),
        target_gateway_id: target.map(|t| t.gateway.clone()).unwrap_or_default(),
        terminal_mac: row.terminal_mac,
        line: row.line,
        route: row.route,
        service: Some(service(session.service.service)),
        service_revision: session.service.revision,
        service_acknowledged: session.service.is_acknowledged(),
        service_problem: session.service.problem,
        plan: session.service.plan.unwrap_or_default(),
        establishment: match session.establishment {
            Establishment::Terminal => pb::Establishment::Terminal,
            Establishment::Dhcp => pb::Establishment::Dhcp,
        }
        .into(),
        liveness: heard.into(),
        silent_since_unix_ms: silent_since_ms,
    }
}

fn liveness(liveness: Liveness) -> (pb::Liveness, i64) {
    match liveness {
        Liveness::Unknown => (pb::Liveness::Unspecified, 0),
        Liveness::NotSilent => (pb::Liveness::NotSilent, 0),
        Liveness::SilentSince(since_ms) => (pb::Liveness::Silent, since_ms),
    }
}

/// The name that people know it by.
pub fn liveness_name(liveness: i32) -> &'static str {
    match pb::Liveness::try_from(liveness) {
        Ok(pb::Liveness::Silent) => "silent",
        Ok(pb::Liveness::NotSilent) => "not_silent",
        _ => "unknown",
    }
}

/// What a gateway says of one session; none if it names none.
pub fn account(report: pb::SessionCounters) -> Option<(Said, (Uuid, u64, Counters))> {
    let session = uuid(&report.session_id).ok()?;
    let (generation, since_ms) = (report.generation, report.silent_since_unix_ms);
    let said = Said {
        session,
        generation,
        silent_since_ms: (since_ms != 0).then_some(since_ms),
        blocked: report.blocked,
    };
    Some((said, (session, generation, plain_counters(report.counters))))
}

/// A terminal, unless something else is said.
pub fn from_establishment(establishment: pb::Establishment) -> Establishment {
    match establishment {
        pb::Establishment::Dhcp => Establishment::Dhcp,
        pb::Establishment::Terminal | pb::Establishment::Unspecified => Establishment::Terminal,
    }
}

/// The name that people know it by.
pub fn establishment_name(establishment: i32) -> &'static str {
    let known = pb::Establishment::try_from(establishment).unwrap_or_default();
    from_establishment(known).name()
}

pub fn dhcp(dhcp: Dhcp) -> pb::Dhcp {
    pb::Dhcp {
        lease_s: dhcp.lease_s,
        replacement: match dhcp.replace {
            Replace::AtOnce => pb::CpeReplacement::AtOnce,
            Replace::AfterHold => pb::CpeReplacement::AfterHold,
            Replace::Never => pb::CpeReplacement::Never,
        }
        .into(),
        hold_s: match dhcp.replace {
            Replace::AfterHold => dhcp.hold_s,
            Replace::AtOnce | Replace::Never => 0,
        },
    }
}

pub fn refused((reason, count): (Reason, u64)) -> pb::RefusedCount {
    pb::RefusedCount {
        reason: reason.name().to_owned(),
        count,
    }
}

pub fn service(service: Service) -> pb::Service {
    pb::Service {
        upstream_bps: service.upstream_bps,
        downstream_bps: service.downstream_bps,
        shape_downstream: service.shape_downstream,
        priority: service.priority.into(),
        time_to_live_s: service.time_to_live_s,
    }
}

/// Which session is to have what.
pub fn wanted_service(request: pb::SetSessionServiceRequest) -> Result<(Uuid, Wanted), Status> {
    let mut violations = Violations::default();
    let session = violations.check("session_id", uuid(&request.session_id));
    let priority = request
        .priority
        .map(|priority| u8::try_from(priority).map_err(|_| ServiceError::Priority))
        .transpose();
    if let Err(error) = &priority {
        violations.add("service", error);
    }
    let wanted = Wanted::Parts {
        upstream_bps: request.upstream_bps,
        downstream_bps: request.downstream_bps,
        shape_downstream: request.shape_downstream,
        priority: priority.unwrap_or_default(),
    };
    let nothing = Wanted::Parts {
        upstream_bps: None,
        downstream_bps: None,
        shape_downstream: None,
        priority: None,
    };
    let wanted = match (request.plan.is_empty(), wanted == nothing) {
        (true, false) => wanted,
        (false, true) => Wanted::Plan(request.plan),
        (true, true) => {
            violations.add("service", "give a plan, or at least one of its parts");
            nothing
        }
        (false, false) => {
            violations.add("plan", "give either a plan or parts of a service");
            nothing
        }
    };
    match session {
        Some(session) if violations.is_empty() => Ok((session, wanted)),
        _ => Err(violations.status()),
    }
}

pub fn counters(counters: Counters) -> pb::Counters {
    pb::Counters {
        upstream_packets: counters.upstream_packets,
        upstream_bytes: counters.upstream_bytes,
        downstream_packets: counters.downstream_packets,
        downstream_bytes: counters.downstream_bytes,
        upstream_policed: counters.upstream_policed,
        downstream_policed: counters.downstream_policed,
    }
}

pub fn plain_counters(given: Option<pb::Counters>) -> Counters {
    let given = given.unwrap_or_default();
    Counters {
        upstream_packets: given.upstream_packets,
        upstream_bytes: given.upstream_bytes,
        downstream_packets: given.downstream_packets,
        downstream_bytes: given.downstream_bytes,
        upstream_policed: given.upstream_policed,
        downstream_policed: given.downstream_policed,
    }
}

pub fn held(given: &pb::HeldSession) -> Result<Held, String> {
    let phase = match pb::HeldPhase::try_from(given.phase) {
        Ok(pb::HeldPhase::Establishing) => Phase::Establishing,
        Ok(pb::HeldPhase::Established) => Phase::Established,
        Ok(pb::HeldPhase::Disconnected) => Phase::Disconnected,
        _ => return Err("phase: unknown".to_owned()),
    };
    Ok(Held {
        session: uuid(&given.session_id).map_err(|error| format!("session_id: {error}"))?,
        generation: given.generation,
        phase,
        revision: given.service_revision,
    })
}

pub fn nack_reason(nack: &pb::Nack) -> String {
    let reason = match pb::NackReason::try_from(nack.reason) {
        Ok(pb::NackReason::StaleGeneration) => "the gateway knows a newer generation",
        Ok(pb::NackReason::UnknownLocation) => "the location is not in the gateway's inventory",
        Ok(pb::NackReason::Malformed) => "the gateway could not read the instruction",
        Ok(pb::NackReason::AddressInUse) => "the address is in use at the gateway",
        Ok(pb::NackReason::NoCapacity) => "the gateway has no capacity left",
        Ok(pb::NackReason::Dataplane) => "the gateway's data plane refused it",
        Ok(pb::NackReason::NotHeld) => "the gateway holds no session of this generation",
        _ => "the gateway refused it",
    };
    let detail = tidy(&nack.detail);
    if detail.is_empty() {
        reason.to_owned()
    } else {
        format!("{reason}: {detail}")
    }
}

pub fn mac(bytes: &[u8]) -> Option<String> {
    let bytes: &[u8; 6] = bytes.try_into().ok()?;
    Some(
        bytes
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect::<Vec<_>>()
            .join(":"),
    )
}

/// Text of another program for people to read: one line, bounded.
pub fn tidy(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .take(MAX_TEXT_LEN)
        .collect::<String>()
        .trim()
        .to_owned()
}

#[cfg(test)]
#[path = "convert_tests.rs"]
mod tests;
