//! When gateways were last in contact, and what follows once a time to live is over.
//!
//! A gateway ends a session with a time to live by itself once it has been without this operator's
//! servers for so long. A server takes it as ended when the gateway must have done so:
//!
//! ```text
//!   contact is    the contact    the gateway    it ends the    the sessions     another gateway
//!   written       breaks         notices        sessions       forward no more  may connect
//!   ──┼───────────────┼──────────────┼── … ────────┼───────────────┼────────────────┼──▶
//!     └── WRITTEN ────┴── NOTICED ───┴── time to ──┴──── CLOSED ───┘
//!                                        live
//! ```
//!
//! A stream whose contact cannot be written down is ended: no gateway may believe itself in contact
//! where the table does not say so.

use std::collections::HashSet;
use std::time::Duration;

use futures::future::join_all;

use super::{Engine, EngineError, Result, now_ms};
use crate::config::Plans;
use crate::session::machine::{Event, Outcome};
use crate::store::{GatewaySeen, Who};

/// How often contact is written down.
pub const EVERY: Duration = Duration::from_secs(3);
/// Without having been written for so long, a stream ends.
pub const WRITTEN: Duration = Duration::from_secs(10);
/// A gateway's keep-alive (5 s and 5 s), and how long it waits to be welcomed (10 s).
const NOTICED: Duration = Duration::from_secs(20);
/// For the gateway to take sessions out of its fast path, and for clocks that do not run alike.
const CLOSED: Duration = Duration::from_secs(10);

/// How long after the last written contact and the time to live a session has ended for sure.
pub const MARGIN: Duration = WRITTEN.saturating_add(NOTICED).saturating_add(CLOSED);

impl Engine {
    /// Writes down which gateways are in contact, as far as a time to live depends on it. Returns
    /// which these are.
    pub async fn note_contacts(&self) -> Result<HashSet<String>> {
        self.note_contacts_for(&self.plans()).await
    }

    /// The same under plans that may not have been taken up yet.
    pub(super) async fn note_contacts_for(&self, plans: &Plans) -> Result<HashSet<String>> {
        let all = plans.have_time_to_live();
        let some = match all {
            true => HashSet::new(),
            false => self.store.gateways_with_time_to_live().await?,
        };
        let seen_ms = now_ms();
        let links = self.hub.links().into_iter();
        let seen: Vec<_> = links
            .filter(|(id, _)| all || some.contains(id))
            .map(|(id, link)| {
                let seen = GatewaySeen {
                    software_version: link.software_version.clone(),
                    peer: link.peer.clone(),
                    seen_ms,
                    last_receipt: 0,
                };
                (id, seen)
            })
            .collect();
        let noted = seen.iter().map(|(id, _)| id.clone()).collect();
        if seen.is_empty() {
            return Ok(noted);
        }
        self.store
            .change(move |work| {
                for (id, seen) in &seen {
                    work.gateway_seen(id, seen.clone());
                }
                Ok::<(), EngineError>(())
            })
            .await?;
        Ok(noted)
    }

    /// Goes on with sessions that have outlived their time at gateways which are away; returns how
    /// many.
    pub async fn end_outlived(&self, at_ms: i64) -> Result<usize> {
        let margin_ms = i64::try_from(MARGIN.as_millis()).unwrap_or(i64::MAX);
        let outlived = self.store.outlived(at_ms.saturating_sub(margin_ms)).await?;
        let ends = outlived.into_iter().map(|(session, generation)| {
            self.store.change(move |work| {
                let row = work.session(session)?;
                // It may have gone on since, and wait for a gateway that is in contact.
                let Some(row) = row.filter(|row| row.session.generation == generation) else {
                    return Ok::<bool, EngineError>(false);
                };
                let gateway = row.session.connection.gateway.clone();
                let outcome = Self::drive(work, &row.session, Event::Outlived, Who::Server, at_ms)?;
                let changed = matches!(outcome, Outcome::Changed(_));
                if changed {
                    work.audit(
                        Who::Server,
                        "time-to-live-over",
                        Some(row.session.subscriber),
                        Some(session),
                        &format!(
                            "no receipt of {gateway}, which has been away for longer than {} s",
                            row.session.service.service.time_to_live_s
                        ),
                        at_ms,
                    );
                }
                Ok(changed)
            })
        });
        let mut ended = 0;
        for done in join_all(ends).await {
            ended += usize::from(done?);
        }
        Ok(ended)
    }

    /// Ends the streams of these gateways, or of all where any may have a time to live: their contact
    /// could not be written down for too long.
    pub fn end_unrecorded(&self, noted: &HashSet<String>) {
        let all = self.plans().have_time_to_live();
        for (id, link) in self.hub.links() {
            if all || noted.contains(&id) {
                link.unrecorded.cancel();
            }
        }
    }
}
