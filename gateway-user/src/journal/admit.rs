//! Whether a configuration fits what the journal holds; decided before anything of the host is
//! touched, in the same way by all who load programs.

use redb::ReadableDatabase;
use thiserror::Error;
use uuid::Uuid;

use super::{Journal, JournalError};
use crate::config::{Config, IndexError, Indexes};
use crate::engine::row::{Phase, SessionRef, Snapshot};

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

impl<D: ReadableDatabase> Journal<D> {
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
        prefix_length(&indexed, &self.load()?).map_err(misfit)?;
        *config = indexed;
        Ok(known)
    }
}

/// The programs look IPv6 addresses up by prefixes of one length: sessions with another one would
/// lose their traffic, or get that of others.
fn prefix_length(config: &Config, snapshot: &Snapshot) -> Result<(), Misfit> {
    let configured = config.delegated_prefix_len;
    let mut others: Vec<(SessionRef, u8)> = snapshot
        .sessions
        .iter()
        .filter(|(session, _)| config.operator(session.operator).is_some())
        .filter_map(|(session, row)| {
            let waiting = match &row.phase {
                Phase::Closing { then, .. } => then.connect.as_deref(),
                Phase::Establishing | Phase::Established(_) => None,
            };
            let mut connects = std::iter::once(&row.connect).chain(waiting);
            connects
                .find_map(|connect| connect.ipv6.filter(|net| net.prefix_len() != configured))
                .map(|net| (*session, net.prefix_len()))
        })
        .collect();
    others.sort_unstable();
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
