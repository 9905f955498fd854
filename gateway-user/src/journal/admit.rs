//! Whether a configuration fits what the journal holds; decided before anything of the host is
//! touched, in the same way by all who load programs.

use std::sync::PoisonError;

use ipnet::Ipv6Net;
use redb::ReadableDatabase;
use thiserror::Error;
use uuid::Uuid;

use super::{Journal, JournalError};
use crate::config::{Config, IndexError, Indexes};
use crate::engine::message::Connect;
use crate::engine::row::{Phase, SessionRef, Snapshot};
use crate::plan::stands_for_more;

#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Misfit {
    #[error(transparent)]
    Index(#[from] IndexError),
    #[error(
        "delegated_prefix_len = {configured}, but sessions are held with IPv6 prefixes of length \
         {held} ({sessions} of them, such as {example}); disconnect them first, or write \
         delegated_prefix_len = {held} again"
    )]
    PrefixLength {
        configured: u8,
        held: u8,
        sessions: usize,
        example: Uuid,
    },
    #[error(
        "delegated_prefix_len = {configured}, but session {session} is held with the line prefix \
         {line}, which would stand for all addresses that begin like it; disconnect the session \
         first, or write another length"
    )]
    StandsForMore {
        configured: u8,
        session: Uuid,
        line: Ipv6Net,
    },
    #[error(
        "line_prefixes is not set, but sessions are held with line prefixes ({sessions} of them, \
         such as {example}); disconnect them first, or write line_prefixes = true again"
    )]
    LinePrefixes { sessions: usize, example: Uuid },
}

impl Journal {
    /// Opens the journal of a configuration, and gives the operators their indexes for good.
    pub fn admit(config: &mut Config) -> Result<Self, JournalError> {
        let journal = Self::open(&config.state_dir)?;
        let known = journal.check(config)?;
        let indexes = config.indexes();
        if indexes.iter().any(|(name, _)| !known.contains_key(name)) {
            journal.put_operators(&indexes)?;
        }
        Ok(journal)
    }
}

impl<D: ReadableDatabase + Sync> Journal<D> {
    /// Gives the operators their indexes, unless something does not fit. Returns those that were
    /// known before.
    pub fn check(&self, config: &mut Config) -> Result<Indexes, JournalError> {
        let known = self.operators()?;
        let misfit = |source| JournalError::Misfit {
            file: config.file.clone(),
            path: self.path.clone(),
            source,
        };
        let mut indexed = config.clone();
        indexed
            .set_indexes(&known)
            .map_err(|error| misfit(error.into()))?;
        let snapshot = self.load()?;
        prefix_length(&indexed, &snapshot)
            .and_then(|()| line_prefixes(&indexed, &snapshot))
            .map_err(misfit)?;
        *self.checked.lock().unwrap_or_else(PoisonError::into_inner) = Some(snapshot);
        *config = indexed;
        Ok(known)
    }
}

/// The programs look IPv6 addresses up by prefixes of one length: sessions with another one would
/// lose their traffic, or get that of others.
fn prefix_length(config: &Config, snapshot: &Snapshot) -> Result<(), Misfit> {
    let configured = config.delegated_prefix_len;
    let others = held(config, snapshot, |connect| {
        let prefix = connect.ipv6?;
        (prefix.prefix_len() != configured).then_some(prefix.prefix_len())
    });
    match others.first() {
        None => Ok(()),
        Some(&(example, held)) => Err(Misfit::PrefixLength {
            configured,
            held,
            sessions: others.len(),
            example: example.session,
        }),
    }
}

/// Prefixes of the lines' own need room in the maps, and to be told from delegated ones.
fn line_prefixes(config: &Config, snapshot: &Snapshot) -> Result<(), Misfit> {
    let configured = config.delegated_prefix_len;
    let lines = held(config, snapshot, |connect| connect.ipv6_line);
    if let Some((example, _)) = lines.first().filter(|_| !config.line_prefixes) {
        return Err(Misfit::LinePrefixes {
            sessions: lines.len(),
            example: example.session,
        });
    }
    match lines
        .iter()
        .find(|(_, line)| stands_for_more(*line, configured))
    {
        None => Ok(()),
        Some(&(session, line)) => Err(Misfit::StandsForMore {
            configured,
            session: session.session,
            line,
        }),
    }
}

/// What is found in the Connects of sessions of configured operators, in force or waiting.
fn held<T: Ord>(
    config: &Config,
    snapshot: &Snapshot,
    find: impl Fn(&Connect) -> Option<T>,
) -> Vec<(SessionRef, T)> {
    let mut found: Vec<_> = snapshot
        .sessions
        .iter()
        .filter(|(session, _)| config.operator(session.operator).is_some())
        .filter_map(|(session, row)| {
            let waiting = match &row.phase {
                Phase::Closing { then, .. } => then.connect.as_deref(),
                Phase::Establishing | Phase::Established(_) => None,
            };
            let mut connects = std::iter::once(&row.connect).chain(waiting);
            connects.find_map(&find).map(|found| (*session, found))
        })
        .collect();
    found.sort_unstable();
    found
}
