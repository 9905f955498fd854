//! How a session comes up on its line, and how a router is treated that asks for its address there.

use std::fmt;
use std::ops::RangeInclusive;

use serde::{Deserialize, Serialize};

/// How a session comes up on its line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Establishment {
    /// A terminal's daemon answers the gateway's request.
    #[default]
    Terminal,
    /// An ordinary router asks for its address. There is no terminal that could ask for such a session: the
    /// operator opens it, or the subscriber by the app.
    Dhcp,
}

impl Establishment {
    pub const ALL: [Establishment; 2] = [Establishment::Terminal, Establishment::Dhcp];

    /// The name in the database, the command line and JSON.
    pub fn name(self) -> &'static str {
        match self {
            Establishment::Terminal => "terminal",
            Establishment::Dhcp => "dhcp",
        }
    }

    pub fn from_name(name: &str) -> Option<Establishment> {
        Establishment::ALL
            .into_iter()
            .find(|establishment| establishment.name() == name)
    }
}

impl fmt::Display for Establishment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Seconds. In less, renewals alone would be a load; a week is what some access networks use.
pub const LEASE_S: RangeInclusive<u32> = 10..=604_800;

/// Seconds.
pub const HOLD_S: RangeInclusive<u32> = 1..=604_800;

/// When a router may have the session that another one on the line holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Replace {
    /// As soon as it asks.
    #[default]
    AtOnce,
    /// Once the holder has not been heard of for `hold_s`.
    AfterHold,
    /// Once the holder has given it back.
    Never,
}

/// What routers are told by DHCP besides addresses, and which one may have a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Dhcp {
    /// For how long a lease holds unless it is renewed; a router renews after half of it.
    pub lease_s: u32,
    pub replace: Replace,
    pub hold_s: u32,
}

impl Default for Dhcp {
    fn default() -> Self {
        Dhcp {
            lease_s: 3600,
            replace: Replace::default(),
            hold_s: 300,
        }
    }
}

impl Dhcp {
    pub fn check(&self) -> Result<(), String> {
        for (key, value, range) in [
            ("lease_s", self.lease_s, LEASE_S),
            ("hold_s", self.hold_s, HOLD_S),
        ] {
            if !range.contains(&value) {
                let (least, most) = (range.start(), range.end());
                return Err(format!("dhcp: {key} must be {least} to {most}"));
            }
        }
        Ok(())
    }
}
