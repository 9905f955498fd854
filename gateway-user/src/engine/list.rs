//! Some of the sessions or lines, in pages.

use doorstep_gateway_common::OperatorIndex;
use doorstep_location::{LocationId, LocationPrefix};

use super::row::{Phase, SessionRef};
use super::{Engine, Session};

/// Names of a session's phases, as people see them.
pub const PHASES: [&str; 4] = ["opening", "establishing", "established", "closing"];

/// Which sessions are shown, in the order of operators and ids; by default all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SessionList {
    pub operator: Option<OperatorIndex>,
    pub location: Option<LocationPrefix>,
    /// None of them: all.
    pub phases: Vec<String>,
    /// Only those that are in their phases since then or later, in Unix milliseconds.
    pub since_ms: Option<i64>,
    /// Only those behind this one.
    pub after: Option<SessionRef>,
    pub limit: Option<usize>,
}

/// Which lines are shown, in the order of locations; by default all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LineList {
    pub blocked_only: bool,
    pub location: Option<LocationPrefix>,
    /// Only those behind this one.
    pub after: Option<LocationId>,
    pub limit: Option<usize>,
}

impl LineList {
    pub(super) fn has(&self, location: &LocationId) -> bool {
        let prefix = self.location.as_ref();
        prefix.is_none_or(|prefix| location.starts_with(prefix))
            && self.after.as_ref().is_none_or(|after| location > after)
    }
}

impl SessionList {
    fn has(&self, id: SessionRef, session: &Session) -> bool {
        let prefix = self.location.as_ref();
        let location = &session.row.connect.location;
        self.operator.is_none_or(|operator| id.operator == operator)
            && self.after.is_none_or(|after| id > after)
            && prefix.is_none_or(|prefix| location.starts_with(prefix))
            && self
                .since_ms
                .is_none_or(|since_ms| session.since_ms() >= since_ms)
            && (self.phases.is_empty() || self.phases.iter().any(|name| *name == session.phase()))
    }
}

impl Session {
    /// When its last step was, in Unix milliseconds.
    fn since_ms(&self) -> i64 {
        self.row.steps.last().map_or(0, |step| step.at_unix_ms)
    }

    /// One of [`PHASES`].
    pub(super) fn phase(&self) -> &'static str {
        match &self.row.phase {
            Phase::Establishing if self.opening.is_some() => "opening",
            Phase::Establishing => "establishing",
            Phase::Established(_) => "established",
            Phase::Closing { .. } => "closing",
        }
    }
}

impl Engine {
    /// Those of a list, in their order. Nothing is made of the others.
    pub(super) fn listed(&self, list: &SessionList) -> Vec<SessionRef> {
        let all = self.sessions.iter();
        let all = all.filter(|(id, session)| list.has(**id, session));
        first(all.map(|(id, _)| *id).collect(), list.limit)
    }
}

/// The least of them, in their order.
pub(super) fn first<T: Ord>(mut all: Vec<T>, limit: Option<usize>) -> Vec<T> {
    if let Some(limit) = limit.filter(|limit| *limit < all.len()) {
        if limit > 0 {
            all.select_nth_unstable(limit - 1);
        }
        all.truncate(limit);
    }
    all.sort_unstable();
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_has_the_first_ones() {
        for (limit, expected) in [
            (None, &[1, 2, 3, 5, 8][..]),
            (Some(0), &[]),
            (Some(2), &[1, 2]),
            (Some(5), &[1, 2, 3, 5, 8]),
            (Some(9), &[1, 2, 3, 5, 8]),
        ] {
            assert_eq!(first(vec![5, 1, 8, 3, 2], limit), expected, "{limit:?}");
        }
    }
}
