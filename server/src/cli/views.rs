//! The JSON forms of what the server tells: field names are part of the interface.

use std::collections::BTreeMap;

use doorstep_proto::v1 as pb;
use doorstep_server::service::convert::{establishment_name, liveness_name, state_name};
use serde::Serialize;

#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Status {
    operator: String,
    version: String,
    listen: String,
    started_unix_ms: i64,
    subscribers: u64,
    sessions_by_state: BTreeMap<&'static str, u64>,
    /// Of the gateways that report to this server.
    silent: u64,
    gateways_connected: u32,
    gateways_configured: u32,
    legacy_seal_enabled: bool,
    legacy_seal_uses: u64,
    receipts: u64,
    watches: u32,
    identity_keys: Vec<IdentityKey>,
    /// As of when `receipts` and `identity_keys` are; null: not counted yet.
    counted_unix_ms: Option<i64>,
    /// Load not taken since the start, by reason.
    refused: BTreeMap<String, u64>,
}

/// Rows that cannot be read without the key; 0 for the current one.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct IdentityKey {
    key: u32,
    state: String,
    subscribers: u64,
    sessions: u64,
    answers: u64,
}

impl From<pb::IdentityKeyView> for IdentityKey {
    fn from(key: pb::IdentityKeyView) -> Self {
        IdentityKey {
            key: key.key,
            state: key.state,
            subscribers: key.subscribers,
            sessions: key.sessions,
            answers: key.answers,
        }
    }
}

impl From<pb::OperatorStatusResponse> for Status {
    fn from(status: pb::OperatorStatusResponse) -> Self {
        Status {
            operator: status.operator,
            version: status.version,
            listen: status.listen,
            started_unix_ms: status.started_unix_ms,
            subscribers: status.subscribers,
            sessions_by_state: status
                .sessions_by_state
                .iter()
                .map(|entry| (state_name(entry.state), entry.count))
                .collect(),
            silent: status.silent,
            gateways_connected: status.gateways_connected,
            gateways_configured: status.gateways_configured,
            legacy_seal_enabled: status.legacy_seal_enabled,
            legacy_seal_uses: status.legacy_seal_uses,
            receipts: status.receipts,
            watches: status.watches,
            identity_keys: status
                .identity_keys
                .into_iter()
                .map(IdentityKey::from)
                .collect(),
            counted_unix_ms: Some(status.counted_unix_ms).filter(|at| *at != 0),
            refused: status
                .refused
                .into_iter()
                .map(|entry| (entry.reason, entry.count))
                .collect(),
        }
    }
}

#[derive(Clone, Copy, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Counters {
    upstream_packets: u64,
    upstream_bytes: u64,
    downstream_packets: u64,
    downstream_bytes: u64,
    upstream_policed: u64,
    downstream_policed: u64,
}

impl From<pb::Counters> for Counters {
    fn from(counters: pb::Counters) -> Self {
        Counters {
            upstream_packets: counters.upstream_packets,
            upstream_bytes: counters.upstream_bytes,
            downstream_packets: counters.downstream_packets,
            downstream_bytes: counters.downstream_bytes,
            upstream_policed: counters.upstream_policed,
            downstream_policed: counters.downstream_policed,
        }
    }
}

#[derive(Clone, Copy, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct Service {
    upstream_bps: u64,
    downstream_bps: u64,
    shape_downstream: bool,
    priority: u32,
    time_to_live_s: u32,
}

impl From<pb::Service> for Service {
    fn from(service: pb::Service) -> Self {
        Service {
            upstream_bps: service.upstream_bps,
            downstream_bps: service.downstream_bps,
            shape_downstream: service.shape_downstream,
            priority: service.priority,
            time_to_live_s: service.time_to_live_s,
        }
    }
}

#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Plan {
    name: String,
    service: Service,
    is_default: bool,
    offered: bool,
    title: String,
    price: String,
}

impl From<pb::PlanView> for Plan {
    fn from(plan: pb::PlanView) -> Self {
        Plan {
            name: plan.name,
            service: plan.service.unwrap_or_default().into(),
            is_default: plan.is_default,
            offered: plan.offered,
            title: plan.title,
            price: plan.price,
        }
    }
}

#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct ReloadedPlans {
    changes: Vec<PlanChange>,
    offers: Vec<OfferChange>,
    /// Null: as before; empty: none any more.
    default_plan: Option<String>,
    needs_restart: Vec<String>,
    missing: Vec<String>,
}

#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct OfferChange {
    name: String,
    offered: bool,
    title: String,
    price: String,
}

/// One of the two is null where the plan is new, or gone.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct PlanChange {
    name: String,
    before: Option<Service>,
    after: Option<Service>,
}

impl From<pb::ReloadPlansResponse> for ReloadedPlans {
    fn from(reloaded: pb::ReloadPlansResponse) -> Self {
        let changes = reloaded.changes.into_iter().map(|change| PlanChange {
            name: change.name,
            before: change.before.map(Service::from),
            after: change.after.map(Service::from),
        });
        let offers = reloaded.offers.into_iter().map(|offer| OfferChange {
            name: offer.name,
            offered: offer.offered,
            title: offer.title,
            price: offer.price,
        });
        ReloadedPlans {
            changes: changes.collect(),
            offers: offers.collect(),
            default_plan: reloaded.default_plan,
            needs_restart: reloaded.needs_restart,
            missing: reloaded.missing,
        }
    }
}

#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Session {
    session_id: String,
    subscriber_id: String,
    location_id: String,
    gateway_id: String,
    generation: u64,
    state: &'static str,
    detail: String,
    ipv4_address: String,
    ipv6_prefix: String,
    ipv6_line_prefix: String,
    establishment: &'static str,
    counters: Option<Counters>,
    final_counters: Option<Counters>,
    since_unix_ms: i64,
    created_unix_ms: i64,
    target_location_id: String,
    target_gateway_id: String,
    terminal_mac: String,
    line: String,
    route: String,
    plan: String,
    service: Service,
    service_revision: u64,
    service_acknowledged: bool,
    service_problem: String,
    /// `silent`, `not_silent`, or `unknown` to this server.
    liveness: &'static str,
    silent_since_unix_ms: Option<i64>,
}

impl From<pb::SessionView> for Session {
    fn from(view: pb::SessionView) -> Self {
        Session {
            session_id: view.session_id,
            subscriber_id: view.subscriber_id,
            location_id: view.location_id,
            gateway_id: view.gateway_id,
            generation: view.generation,
            state: state_name(view.state),
            detail: view.detail,
            ipv4_address: view.ipv4_address,
            ipv6_prefix: view.ipv6_prefix,
            ipv6_line_prefix: view.ipv6_line_prefix,
            establishment: establishment_name(view.establishment),
            counters: view.counters.map(Counters::from),
            final_counters: view.final_counters.map(Counters::from),
            since_unix_ms: view.since_unix_ms,
            created_unix_ms: view.created_unix_ms,
            target_location_id: view.target_location_id,
            target_gateway_id: view.target_gateway_id,
            terminal_mac: view.terminal_mac,
            line: view.line,
            route: view.route,
            plan: view.plan,
            service: view.service.unwrap_or_default().into(),
            service_revision: view.service_revision,
            service_acknowledged: view.service_acknowledged,
            service_problem: view.service_problem,
            liveness: liveness_name(view.liveness),
            silent_since_unix_ms: Some(view.silent_since_unix_ms).filter(|since| *since != 0),
        }
    }
}

#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct SessionDetail {
    #[serde(flatten)]
    session: Session,
    steps: Vec<Step>,
    receipts: Vec<Receipt>,
}

#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct Step {
    state: &'static str,
    generation: u64,
    detail: String,
    at_unix_ms: i64,
    gateway_id: String,
    who: String,
}

#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct Receipt {
    gateway_id: String,
    number: u64,
    generation: u64,
    counters: Counters,
    at_unix_ms: i64,
    recorded_unix_ms: i64,
}

impl From<pb::SessionDetail> for SessionDetail {
    fn from(detail: pb::SessionDetail) -> Self {
        SessionDetail {
            session: detail.session.unwrap_or_default().into(),
            steps: detail
                .steps
                .into_iter()
                .map(|step| Step {
                    state: state_name(step.state),
                    generation: step.generation,
                    detail: step.detail,
                    at_unix_ms: step.at_unix_ms,
                    gateway_id: step.gateway_id,
                    who: step.who,
                })
                .collect(),
            receipts: detail
                .receipts
                .into_iter()
                .map(|receipt| Receipt {
                    gateway_id: receipt.gateway_id,
                    number: receipt.number,
                    generation: receipt.generation,
                    counters: receipt.counters.unwrap_or_default().into(),
                    at_unix_ms: receipt.at_unix_ms,
                    recorded_unix_ms: receipt.recorded_unix_ms,
                })
                .collect(),
        }
    }
}

#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Subscriber {
    subscriber_id: String,
    phone: String,
    id_card: String,
    generation: u64,
    sessions: u64,
    created_unix_ms: i64,
    plan: String,
}

impl From<pb::SubscriberView> for Subscriber {
    fn from(view: pb::SubscriberView) -> Self {
        Subscriber {
            subscriber_id: view.subscriber_id,
            phone: view.phone_masked,
            id_card: view.id_card_masked,
            generation: view.generation,
            sessions: view.sessions,
            created_unix_ms: view.created_unix_ms,
            plan: view.plan,
        }
    }
}

/// A subscriber with its sessions.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct SubscriberDetail {
    #[serde(flatten)]
    pub subscriber: Subscriber,
    pub session_list: Vec<Session>,
}

#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct NewSecret {
    pub subscriber_id: String,
    /// In Base64; null: of a dry run, which makes none.
    pub secret: Option<String>,
}

/// A part of the list.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Sessions {
    pub sessions: Vec<Session>,
    /// Null: there is no more.
    pub next_page_token: Option<String>,
}

/// A part of the list.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Subscribers {
    pub subscribers: Vec<Subscriber>,
    /// Null: there is no more.
    pub next_page_token: Option<String>,
}

#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Gateway {
    gateway_id: String,
    connected: bool,
    since_unix_ms: i64,
    sessions: u64,
    last_receipt: u64,
    software_version: String,
    peer: String,
}

impl From<pb::GatewayView> for Gateway {
    fn from(view: pb::GatewayView) -> Self {
        Gateway {
            gateway_id: view.gateway_id,
            connected: view.connected,
            since_unix_ms: view.since_unix_ms,
            sessions: view.sessions,
            last_receipt: view.last_receipt,
            software_version: view.software_version,
            peer: view.peer,
        }
    }
}
