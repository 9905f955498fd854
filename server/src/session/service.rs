//! What a subscriber has paid for, and how far a gateway has followed.

use std::fmt;

use serde::Serialize;

use doorstep_daemon::rate;

/// Rates, shaping and priority of one session. The default is not limited.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Service {
    /// From the subscriber, bits of IP per second; 0: unlimited.
    pub upstream_bps: u64,
    /// To the subscriber, bits of IP per second; 0: unlimited.
    pub downstream_bps: u64,
    /// Delay what is too fast toward the subscriber, instead of dropping it.
    pub shape_downstream: bool,
    /// PCP of the session's frames (IEEE 802.1Q clause 6.9.3), 0..=7.
    pub priority: u8,
    /// Seconds for which a gateway serves the session without this server; 0: for ever.
    pub time_to_live_s: u32,
}

/// Seconds. In less a gateway would give sessions up while its server is only started anew.
pub const TIME_TO_LIVE_S: std::ops::RangeInclusive<u32> = 10..=31_536_000;

/// PCP has three bits.
pub const MAX_PRIORITY: u8 = 7;

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ServiceError {
    #[error("{0}: {1}")]
    Rate(&'static str, rate::RateError),
    #[error("priority: must be 0 to {MAX_PRIORITY}")]
    Priority,
    #[error(
        "time_to_live_s: must be 0 (for ever) or {} to {}",
        TIME_TO_LIVE_S.start(),
        TIME_TO_LIVE_S.end()
    )]
    TimeToLive,
}

impl Service {
    /// A gateway refuses what is not good.
    pub fn check(&self) -> Result<(), ServiceError> {
        rate::check(self.upstream_bps).map_err(|error| ServiceError::Rate("upstream", error))?;
        rate::check(self.downstream_bps)
            .map_err(|error| ServiceError::Rate("downstream", error))?;
        if self.priority > MAX_PRIORITY {
            return Err(ServiceError::Priority);
        }
        if self.time_to_live_s != 0 && !TIME_TO_LIVE_S.contains(&self.time_to_live_s) {
            return Err(ServiceError::TimeToLive);
        }
        Ok(())
    }
}

impl fmt::Display for Service {
    /// For people: `up 100M, down 300M shaped, priority 2`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shaped = if self.shape_downstream { " shaped" } else { "" };
        write!(
            f,
            "up {}, down {}{shaped}, priority {}",
            rate::show(self.upstream_bps),
            rate::show(self.downstream_bps),
            self.priority
        )?;
        match self.time_to_live_s {
            0 => Ok(()),
            seconds => write!(f, ", {seconds} s without the server"),
        }
    }
}

/// The service of one session, as the table has it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Grant {
    pub service: Service,
    /// The plan that the service follows; none where it was given by itself.
    pub plan: Option<String>,
    /// Grows with each change of the service.
    pub revision: u64,
    /// The newest revision that the present gateway has acknowledged.
    pub acknowledged: u64,
    /// Why the gateway has not acknowledged the newest, in its words; or empty.
    pub problem: String,
}

impl Grant {
    /// Of a new session, under a plan or without limits.
    pub fn new(plan: Option<(&str, Service)>) -> Self {
        Grant {
            service: plan.map(|(_, service)| service).unwrap_or_default(),
            plan: plan.map(|(name, _)| name.to_owned()),
            revision: 1,
            ..Grant::default()
        }
    }

    /// The same with another service, which the gateway must be told if it differs.
    pub fn with(&self, service: Service, plan: Option<&str>) -> Self {
        let mut next = self.clone();
        next.plan = plan.map(str::to_owned);
        if service != self.service {
            next.service = service;
            next.revision += 1;
            next.problem = String::new();
        }
        next
    }

    /// What a gateway has that knows nothing of the session yet.
    pub fn elsewhere(&self) -> Self {
        Grant {
            acknowledged: 0,
            problem: String::new(),
            ..self.clone()
        }
    }

    /// The gateway follows this revision. One that was never given out is passed over.
    pub fn acknowledge(&self, revision: u64) -> Self {
        let mut next = self.clone();
        if revision > self.acknowledged && revision <= self.revision {
            next.acknowledged = revision;
            if revision == self.revision {
                next.problem = String::new();
            }
        }
        next
    }

    /// The gateway says which revision it follows. If it is newer than the newest given out, as
    /// after an older copy of the table was put back, the table's service gets a newer one.
    pub fn held(&self, revision: u64) -> Self {
        let mut next = self.clone();
        next.acknowledged = revision;
        if revision > self.revision {
            next.revision = revision + 1;
        } else if revision == self.revision {
            next.problem = String::new();
        }
        next
    }

    pub fn is_acknowledged(&self) -> bool {
        self.acknowledged >= self.revision
    }
}

#[cfg(test)]
#[path = "service_tests.rs"]
mod tests;
