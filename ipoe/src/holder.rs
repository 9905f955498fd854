//! Who holds what a session has, and when another may.

use std::time::Duration;

use crate::frame::Mac;

/// Who holds a lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Holder {
    /// Its address.
    pub mac: Mac,
    /// When it was acknowledged last, by the caller's clock.
    pub acknowledged: Duration,
}

/// When a client with another MAC address may take a lease over. The line is the identity: this is
/// about two devices that contend for it, not about who may use it. A release frees it at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Replace {
    /// As soon as it asks.
    AtOnce,
    /// If the holder has not been acknowledged for so long.
    AfterHold(Duration),
    /// Only once the holder has released it.
    Never,
}

impl Replace {
    /// Whether a client may have what `holder` holds. `now` is of the same clock as
    /// [`Holder::acknowledged`].
    #[must_use]
    pub fn admits(self, holder: Option<Holder>, mac: Mac, now: Duration) -> bool {
        let Some(holder) = holder.filter(|holder| holder.mac != mac) else {
            return true;
        };
        match self {
            Self::AtOnce => true,
            Self::AfterHold(hold) => now.saturating_sub(holder.acknowledged) >= hold,
            Self::Never => false,
        }
    }
}
