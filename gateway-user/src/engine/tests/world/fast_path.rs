//! The fast path: orders, carried out when a test wants it, and its maps.

use super::World;
use crate::engine::{Action, Event};
use crate::plan::{self, Plan, Tables};
use crate::session::{Counters, Reading, SessionEntry};

impl World {
    /// Carries one order out, as the fast path's thread does.
    pub fn order(&mut self) -> Option<Event> {
        let order = self.orders.pop_front()?;
        let fails = self.failures > 0;
        self.failures = self.failures.saturating_sub(1);
        let failure = || "no space".to_owned();
        let event = match order {
            Action::Open {
                session,
                entry,
                displaced,
            } => Event::Opened {
                session,
                generation: entry.generation,
                result: if fails {
                    // Half done, as a real failure may leave it.
                    let rows = plan::rows(&entry);
                    self.maps.downstream_v4.extend(rows.downstream_v4);
                    Err(failure())
                } else {
                    displaced.changes.iter().for_each(|c| self.maps.apply(c));
                    self.open(&entry);
                    Ok(())
                },
            },
            Action::Change { session, entry } => Event::Changed {
                session,
                generation: entry.generation,
                result: if fails {
                    Err(failure())
                } else {
                    let held = self.services.get(&entry.slot).map(|held| held.0);
                    assert_eq!(held, Some(entry.generation), "changed while it was open");
                    self.put(&entry);
                    Ok(())
                },
            },
            Action::Close { session, entry } => Event::Closed {
                session,
                generation: entry.generation,
                result: if fails {
                    Err(failure())
                } else {
                    Ok(self.close(&entry))
                },
            },
            Action::Remove { operator, plan } => Event::Removed {
                operator,
                result: if fails {
                    Err(failure())
                } else {
                    plan.changes.iter().for_each(|c| self.maps.apply(c));
                    Ok(())
                },
            },
            Action::ReadCounters { operator, slots } => Event::CountersRead {
                operator,
                readings: slots
                    .iter()
                    .map(|(id, generation, slot)| {
                        let reading = Reading {
                            counters: self.counters[slot],
                            silent: self.silent.get(slot).copied(),
                        };
                        (*id, *generation, reading)
                    })
                    .collect(),
            },
            other => panic!("not an order: {other:?}"),
        };
        Some(event)
    }

    fn put(&mut self, entry: &SessionEntry) {
        for change in Plan::diff(&Tables::of([entry]), &Tables::default()).changes {
            self.maps.apply(&change);
        }
        let rates = crate::plan::Rates::of(&entry.service, entry.shaper);
        self.maps.set_rates(entry.slot, rates);
        self.services
            .insert(entry.slot, (entry.generation, entry.service));
    }

    fn open(&mut self, entry: &SessionEntry) {
        self.put(entry);
        let counted = Counters {
            upstream_packets: entry.generation,
            ..Counters::default()
        };
        self.counters.insert(entry.slot, counted);
    }

    /// Removes only what is this generation's, as the real one does.
    fn close(&mut self, entry: &SessionEntry) -> Counters {
        let own = Tables::of([entry]);
        let generation = entry.generation;
        self.maps
            .upstream_v4
            .retain(|key, row| !own.upstream_v4.contains_key(key) || row.generation != generation);
        self.maps
            .upstream_v6
            .retain(|key, row| !own.upstream_v6.contains_key(key) || row.generation != generation);
        self.maps.downstream_v4.retain(|key, row| {
            !own.downstream_v4.contains_key(key) || row.generation != generation
        });
        self.maps.downstream_v6.retain(|key, row| {
            !own.downstream_v6.contains_key(key) || row.generation != generation
        });
        if self.services.get(&entry.slot).map(|held| held.0) == Some(generation) {
            self.services.remove(&entry.slot);
        }
        let slots = self.maps.slots();
        self.maps.rates.retain(|slot, _| slots.contains(slot));
        self.counters.get(&entry.slot).copied().unwrap_or_default()
    }

    /// Has the fast path finish all its orders.
    pub fn settle(&mut self) {
        while let Some(event) = self.order() {
            self.feed(event);
        }
    }
}
