//! Rows as former versions of the journal have them; only to be read.
//!
//! Version 3 knew no sessions that come up by DHCP.

use std::net::{IpAddr, Ipv4Addr};

use doorstep_establish::{Nonce, SessionKey};
use doorstep_gateway_common::Slot;
use doorstep_location::LocationId;
use ipnet::Ipv6Net;
use serde::Deserialize;
use uuid::Uuid;

use crate::engine::message;
use crate::engine::row::{self, Opened, Place, Step};
use crate::session::Service;

#[derive(Deserialize)]
pub struct SessionRow {
    connect: Connect,
    slot: Slot,
    place: Place,
    nonce: Nonce,
    phase: Phase,
    steps: Vec<Step>,
}

#[derive(Deserialize)]
enum Phase {
    Establishing,
    Established(Opened),
    Closing { opened: Option<Opened>, then: Then },
}

#[derive(Deserialize)]
struct Then {
    receipt: Option<u64>,
    connect: Option<Box<Connect>>,
}

#[derive(Deserialize)]
struct Connect {
    session: Uuid,
    generation: u64,
    location: LocationId,
    #[serde(deserialize_with = "message::read_key")]
    key: SessionKey,
    ipv4: Option<Ipv4Addr>,
    ipv6: Option<Ipv6Net>,
    ipv6_line: Option<Ipv6Net>,
    ipv4_gateway: Option<Ipv4Addr>,
    dns: Vec<IpAddr>,
    mtu: u16,
    service: Service,
    service_revision: u64,
}

impl From<SessionRow> for row::SessionRow {
    fn from(former: SessionRow) -> Self {
        Self {
            connect: former.connect.into(),
            slot: former.slot,
            place: former.place,
            nonce: former.nonce,
            phase: match former.phase {
                Phase::Establishing => row::Phase::Establishing,
                Phase::Established(opened) => row::Phase::Established(opened),
                Phase::Closing { opened, then } => row::Phase::Closing {
                    opened,
                    then: row::Then {
                        receipt: then.receipt,
                        connect: then.connect.map(|connect| Box::new((*connect).into())),
                    },
                },
            },
            steps: former.steps,
            released: false,
        }
    }
}

impl From<Connect> for message::Connect {
    fn from(former: Connect) -> Self {
        Self {
            session: former.session,
            generation: former.generation,
            location: former.location,
            key: former.key,
            ipv4: former.ipv4,
            ipv6: former.ipv6,
            ipv6_line: former.ipv6_line,
            ipv4_gateway: former.ipv4_gateway,
            dns: former.dns,
            mtu: former.mtu,
            service: former.service,
            service_revision: former.service_revision,
            dhcp: None,
        }
    }
}
