//! The maps, as the deciding code sees them.

use doorstep_gateway_common::account::Account;
use doorstep_gateway_common::downstream::{DownstreamV4Key, DownstreamV6Key, DownstreamValue};
use doorstep_gateway_common::garden::GardenKey;
use doorstep_gateway_common::globals::Globals;
use doorstep_gateway_common::limit::LineUse;
use doorstep_gateway_common::liveness::Liveness;
use doorstep_gateway_common::operator::{OperatorValue, UplinkKey, UplinkValue};
use doorstep_gateway_common::policer::Policers;
use doorstep_gateway_common::upstream::{UpstreamV4Key, UpstreamV6Key, UpstreamValue};
use doorstep_gateway_common::{LineKey, LineValue, OperatorIndex, Slot, Word};

/// Access to the maps and the clock. What is borrowed lives for as long as the program runs.
pub trait Tables {
    fn globals(&self) -> &Globals;
    fn line(&self, key: &LineKey) -> Option<&LineValue>;
    fn upstream_v4(&self, key: &UpstreamV4Key) -> Option<&UpstreamValue>;
    fn upstream_v6(&self, key: &UpstreamV6Key) -> Option<&UpstreamValue>;
    fn downstream_v4(&self, key: &DownstreamV4Key) -> Option<&DownstreamValue>;
    fn downstream_v6(&self, key: &DownstreamV6Key) -> Option<&DownstreamValue>;
    fn operator(&self, index: OperatorIndex) -> Option<&OperatorValue>;
    fn uplink(&self, key: &UplinkKey) -> Option<&UplinkValue>;
    fn is_in_garden(&self, key: &GardenKey) -> bool;

    /// What a session has counted on this CPU.
    fn account(&self, slot: Slot) -> Option<&Account>;
    fn policers(&self, slot: Slot) -> Option<&Policers>;
    /// Who may ask whether the session of a slot is alive.
    fn liveness(&self, slot: Slot) -> Option<&Liveness>;
    /// What a line has used of its limits; made if there is none.
    fn line_use(&self, key: &LineKey) -> Option<&LineUse>;
    /// What all lines have used of their common limit for frames to the daemon.
    fn punts(&self) -> Option<&Word>;

    /// Replaces `old` by `new`, unless another CPU was faster. The BPF target of Rust has no atomic
    /// comparison of its own.
    fn swap(&self, cell: &Word, old: u64, new: u64) -> bool;

    /// Nanoseconds of a clock that only grows.
    fn now_ns(&self) -> u64;
}
