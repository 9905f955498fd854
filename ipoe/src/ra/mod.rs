//! Router discovery (RFC 4861) toward a line: solicitations and the session's own data go in,
//! advertisements come out, with the line's prefix for SLAAC (RFC 4862) and resolvers (RFC 8106).
//!
//! | message | when |
//! |---|---|
//! | answer | to each solicitation, at once |
//! | unsolicited | when the session begins, twice more within half a minute, then by [`Schedule`] |
//! | final | when the session ends: every lifetime is zero |
//!
//! RFC 4861, 6.2.6, has routers wait up to half a second (MAX_RA_DELAY_TIME) so that those of a link
//! do not answer all at the same time. A line has one router, and nobody but the client sees the
//! answer, so that it is not delayed.

mod advertisement;
mod schedule;
mod solicitation;
#[cfg(test)]
mod tests;

use std::time::Duration;

use crate::frame::{FrameError, HOP_LIMIT, Mac};
use crate::line6::Line;
pub use advertisement::{Kind, advertisement};
pub use schedule::Schedule;
use solicitation::Solicitation;

/// What becomes of a solicitation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// Who has asked: from now on the session may be taken for this device's.
    pub mac: Mac,
    /// The advertisement to be sent to it. None if it has no address yet: then all nodes are told,
    /// when [`Schedule::solicited`] says.
    pub frame: Option<Vec<u8>>,
}

/// Why a frame is not answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Ignored {
    /// No packet.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// Not ICMPv6, or another message than a solicitation of routers.
    #[error("not a router solicitation")]
    NotSolicitation,
    /// An advertisement or a redirect, which only a router sends.
    #[error("discovery: a router's message from a line")]
    FromRouter,
    /// Not to all routers, nor to the gateway.
    #[error("discovery: a solicitation not for this router")]
    NotForRouter,
    /// A hop limit below 255 (RFC 4861, 6.1.1).
    #[error("discovery: the hop limit is not {HOP_LIMIT}: it has come from another link")]
    Forwarded,
    /// A wrong checksum (RFC 4861, 6.1.1).
    #[error("discovery: wrong checksum")]
    Checksum,
    /// An option of no length, or longer than the message (RFC 4861, 6.1.1).
    #[error("discovery: an option of a wrong length")]
    Options,
    /// The source is a group; or it is unspecified, and yet there is a link-layer address of it
    /// (RFC 4861, 6.1.1).
    #[error("discovery: a source that nobody can have")]
    Source,
    /// There is no session to advertise.
    #[error("discovery: no session on the line")]
    NoSession,
    /// Another client holds the session.
    #[error("discovery: another client holds the session")]
    Held,
}

impl Ignored {
    /// What it counts as.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Frame(_) => "solicitation_frame",
            Self::NotSolicitation => "solicitation_other",
            Self::FromRouter => "solicitation_from_router",
            Self::NotForRouter => "solicitation_not_for_router",
            Self::Forwarded => "solicitation_forwarded",
            Self::Checksum => "solicitation_checksum",
            Self::Options => "solicitation_options",
            Self::Source => "solicitation_source",
            Self::NoSession => "solicitation_no_session",
            Self::Held => "solicitation_held",
        }
    }
}

/// Answers a frame of a line. `now` is of the clock of the line's holder.
pub fn answer(frame: &[u8], line: &Line, now: Duration) -> Result<Answer, Ignored> {
    let asked = Solicitation::read(frame, &line.gateway)?;
    let session = line.session.as_ref().ok_or(Ignored::NoSession)?;
    if !line.replace.admits(line.holder, asked.mac, now) {
        return Err(Ignored::Held);
    }
    let frame = asked.source.and_then(|source| {
        let to = (asked.mac, source);
        advertisement::to(to, &line.gateway, session, Kind::Current, asked.tags)
    });
    Ok(Answer {
        mac: asked.mac,
        frame,
    })
}
