//! Lines through which nothing passes: the inventory blocks them, or somebody does by hand.
//!
//! A session on such a line goes on, with its addresses and its place in the fast path, and carries
//! nothing; one that begins waits. What somebody has blocked stays so over restarts.

use std::collections::HashMap;

use doorstep_gateway_common::flag;
use doorstep_location::LocationId;
use thiserror::Error;

use super::list::{LineList, first};
use super::row::{Block, Phase, Write};
use super::{Action, Engine, Now, Session, Timer};
use crate::inventory::map_value;

/// One line, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LineView {
    pub location: LocationId,
    /// None where the inventory does not name the location any more.
    pub line: Option<String>,
    /// The inventory's `blocked` column says so.
    pub blocked_by_inventory: bool,
    /// Somebody has blocked it.
    pub blocked: Option<Block>,
    pub sessions: u32,
}

/// Why a line is not blocked or unblocked.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum BlockRefusal {
    #[error("{0} is not in this gateway's inventory; `lines` shows what is")]
    Unknown(LocationId),
    #[error(
        "{0} is blocked by the inventory: take it out of the column 'blocked' there, and restart the \
         daemon"
    )]
    ByInventory(LocationId),
}

impl Engine {
    /// Blocks the line of a location, or takes back that somebody did. Doing it again changes
    /// nothing.
    pub fn set_blocked(
        &mut self,
        location: &LocationId,
        blocked: bool,
        now: Now,
    ) -> Result<(LineView, Vec<Action>), BlockRefusal> {
        self.check_block(location, blocked)?;
        if blocked != self.blocks.contains_key(location) {
            self.record_block(location, blocked, now);
            self.bring_into_force(location, now);
            tracing::info!(%location, blocked, "line set by hand");
        }
        let view = self.line_view(location, self.sessions_at(location));
        Ok((view, std::mem::take(&mut self.out)))
    }

    /// The line as [`Engine::set_blocked`] would leave it; nothing changes.
    pub fn would_be_blocked(
        &self,
        location: &LocationId,
        blocked: bool,
        now: Now,
    ) -> Result<LineView, BlockRefusal> {
        self.check_block(location, blocked)?;
        let view = self.line_view(location, self.sessions_at(location));
        let at_unix_ms = now.unix_ms;
        let by_hand = || view.blocked.unwrap_or(Block { at_unix_ms });
        Ok(LineView {
            blocked: blocked.then(by_hand),
            ..view
        })
    }

    fn check_block(&self, location: &LocationId, blocked: bool) -> Result<(), BlockRefusal> {
        let inventory = &self.settings.inventory;
        let by_hand = self.blocks.contains_key(location);
        if inventory.resolve(location).is_none() && !by_hand {
            return Err(BlockRefusal::Unknown(location.clone()));
        }
        if !blocked && !by_hand && inventory.is_blocked(location) {
            return Err(BlockRefusal::ByInventory(location.clone()));
        }
        Ok(())
    }

    fn sessions_at(&self, location: &LocationId) -> usize {
        let sessions = self.sessions.values();
        let there = sessions.filter(|held| held.row.connect.location == *location);
        there.count()
    }

    fn record_block(&mut self, location: &LocationId, blocked: bool, now: Now) {
        let block = Block {
            at_unix_ms: now.unix_ms,
        };
        let location = location.clone();
        if blocked {
            self.blocks.insert(location.clone(), block);
            self.persist(Write::PutBlock(location, block));
        } else {
            self.blocks.remove(&location);
            self.persist(Write::DeleteBlock(location));
        }
    }

    /// Has the line and its sessions do as is recorded.
    fn bring_into_force(&mut self, location: &LocationId, now: Now) {
        let blocked = self.is_blocked(location);
        let mut sessions: Vec<_> = self
            .sessions
            .iter()
            .filter(|(_, held)| held.row.connect.location == *location)
            .map(|(session, _)| *session)
            .collect();
        sessions.sort_unstable();
        for session in sessions {
            let Some(held) = self.sessions.get_mut(&session) else {
                continue;
            };
            held.flags &= !flag::BLOCKED;
            if blocked {
                held.flags |= flag::BLOCKED;
            }
            if held.waits_for_terminal() {
                held.flags_in_force = held.flags;
                self.timers.set(Timer::Session(session), Some(now.at));
            } else if matches!(held.row.phase, Phase::Established(_)) {
                self.change_service(session);
            }
        }
        if let Some(line) = self.settings.inventory.resolve(location) {
            self.out.push(Action::SetLine {
                key: line.key,
                value: map_value(location, blocked),
            });
        }
    }

    pub(super) fn is_blocked(&self, location: &LocationId) -> bool {
        self.settings.inventory.is_blocked(location) || self.blocks.contains_key(location)
    }

    /// How many lines of the inventory are blocked.
    pub(super) fn blocked_lines(&self) -> usize {
        let inventory = &self.settings.inventory;
        let by_hand = self.blocks.keys().filter(|location| {
            inventory.resolve(location).is_some() && !inventory.is_blocked(location)
        });
        inventory.blocked_len() + by_hand.count()
    }

    /// Lines of the inventory, and of what else is blocked, by location.
    pub fn lines(&self, list: &LineList) -> Vec<LineView> {
        let inventory = &self.settings.inventory;
        let others = self.blocks.keys();
        let others = others.filter(|location| inventory.resolve(location).is_none());
        let all = inventory.iter().map(|(location, _)| location).chain(others);
        let all = all.filter(|location| {
            list.has(location) && (!list.blocked_only || self.is_blocked(location))
        });
        let listed = first(all.collect(), list.limit);
        let mut sessions: HashMap<&LocationId, usize> =
            listed.iter().map(|location| (*location, 0)).collect();
        for held in self.sessions.values() {
            if let Some(count) = sessions.get_mut(&held.row.connect.location) {
                *count += 1;
            }
        }
        let views = listed.iter().map(|location| {
            let sessions = sessions.get(location).copied().unwrap_or_default();
            self.line_view(location, sessions)
        });
        views.collect()
    }

    fn line_view(&self, location: &LocationId, sessions: usize) -> LineView {
        let inventory = &self.settings.inventory;
        LineView {
            location: location.clone(),
            line: inventory.resolve(location).map(ToString::to_string),
            blocked_by_inventory: inventory.is_blocked(location),
            blocked: self.blocks.get(location).copied(),
            sessions: u32::try_from(sessions).unwrap_or(u32::MAX),
        }
    }
}

impl Session {
    pub(super) fn is_blocked(&self) -> bool {
        self.flags & flag::BLOCKED != 0
    }
}
