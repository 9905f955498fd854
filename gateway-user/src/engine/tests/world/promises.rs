//! What must hold at every step.

use std::collections::BTreeSet;

use doorstep_gateway_common::OperatorIndex;

use super::World;
use super::given::{NORTH, SOUTH, address, id, service};
use super::routers::acknowledged;
use crate::engine::message::{Receipt, Report};
use crate::engine::row::{Phase, SessionRef};

impl World {
    /// Promises about what is told to servers.
    pub(super) fn check_report(&mut self, operator: OperatorIndex, report: &Report) {
        match report {
            Report::Ack {
                session,
                generation,
                revision,
            } => {
                let session = SessionRef {
                    operator,
                    session: *session,
                };
                let fence = self.journal.fences.get(&session);
                assert!(
                    fence.is_some_and(|fence| fence.generation >= *generation),
                    "acknowledged what is not durable"
                );
                self.check_revision(session, *generation, *revision);
            }
            Report::Established {
                session,
                generation,
                ..
            } => {
                let found = self.maps.upstream_v4.iter().any(|(key, row)| {
                    row.operator == operator
                        && row.generation == *generation
                        && (0..8).any(|n| {
                            id(n) == *session && address(operator, n).octets() == key.source_be
                        })
                });
                assert!(found, "reported a session that does not flow");
            }
            Report::Receipt(receipt) => self.check_receipt(operator, receipt),
            _ => {}
        }
    }

    /// A router is told that it has a session once that is durable, and in the fast path.
    pub(super) fn check_frame(&self, bytes: &[u8]) {
        let Some((address, router)) = acknowledged(bytes) else {
            return;
        };
        let mut rows = self.maps.upstream_v4.iter();
        let flows =
            rows.any(|(key, row)| key.source_be == address.octets() && row.mac.bytes() == router.0);
        assert!(flows, "acknowledged what does not flow");
        let mut rows = self.journal.sessions.values();
        let durable = rows.any(|row| match row.phase {
            Phase::Established(opened) => row.connect.ipv4 == Some(address) && opened.mac == router,
            _ => false,
        });
        assert!(durable, "acknowledged what is not durable");
    }

    /// A revision is acknowledged once it is durable, and in the fast path if the session flows.
    fn check_revision(&self, session: SessionRef, generation: u64, revision: u64) {
        let Some(row) = self.journal.sessions.get(&session) else {
            return assert_eq!(revision, 0, "acknowledged a service of nobody");
        };
        let connect = match &row.phase {
            Phase::Closing { then, .. } => then.connect.as_deref(),
            Phase::Establishing | Phase::Established(_) => Some(&row.connect),
        };
        let Some(connect) = connect.filter(|connect| connect.generation == generation) else {
            return assert_eq!(revision, 0, "acknowledged a service of what ends");
        };
        assert!(connect.service_revision >= revision, "not durable");
        if matches!(row.phase, Phase::Established(_)) {
            assert_eq!(
                self.service_of(session),
                Some(service(revision)),
                "acknowledged a service that is not in force"
            );
        }
    }

    fn check_receipt(&mut self, operator: OperatorIndex, receipt: &Receipt) {
        let known = self
            .receipts
            .insert((operator, receipt.number), receipt.clone());
        if let Some(known) = known {
            assert_eq!(known, *receipt, "a number stands for one receipt");
        }
        for number in 1..=receipt.number {
            let held = self.journal.last_numbers.get(&operator);
            assert!(held.is_some_and(|last| *last >= number), "a gap in numbers");
        }
        let number = (0..8).find(|n| id(*n) == receipt.session);
        let Some(number) = number else { return };
        let source = address(operator, number).octets();
        let forwards = self
            .maps
            .upstream_v4
            .iter()
            .map(|(key, row)| (key.source_be, row.operator, row.generation))
            .chain(
                self.maps
                    .downstream_v4
                    .iter()
                    .map(|(key, row)| (key.destination_be, key.operator, row.generation)),
            )
            .any(|(address, of, generation)| {
                address == source && of == operator && generation <= receipt.generation
            });
        assert!(!forwards, "a receipt for a session that still forwards");
    }

    /// Promises about the fast path and the journal.
    pub(super) fn check(&self) {
        let mut addresses = BTreeSet::new();
        for (key, row) in &self.maps.upstream_v4 {
            assert!(
                addresses.insert((row.operator, key.source_be)),
                "two rows for one address"
            );
        }
        let mut slots = BTreeSet::new();
        for row in self.journal.sessions.values() {
            assert!(slots.insert(row.slot), "two sessions in one slot");
        }
        for operator in [NORTH, SOUTH] {
            let last = self.journal.last_numbers.get(&operator).copied();
            let last = last.unwrap_or_default();
            let issued = self.receipts.keys().filter(|(of, _)| *of == operator);
            assert!(issued.count() as u64 <= last);
        }
    }
}
