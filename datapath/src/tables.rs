//! The maps, as the deciding code sees them.

use doorstep_gateway_common::downstream::{DownstreamV4Key, DownstreamV6Key, DownstreamValue};
use doorstep_gateway_common::globals::Globals;
use doorstep_gateway_common::operator::{OperatorValue, UplinkKey, UplinkValue};
use doorstep_gateway_common::upstream::{UpstreamV4Key, UpstreamV6Key, UpstreamValue};
use doorstep_gateway_common::{LineKey, LineValue, OperatorIndex};

/// Read access to the maps. A value is borrowed for as long as the program runs.
pub trait Tables {
    fn globals(&self) -> Globals;
    fn line(&self, key: &LineKey) -> Option<&LineValue>;
    fn upstream_v4(&self, key: &UpstreamV4Key) -> Option<&UpstreamValue>;
    fn upstream_v6(&self, key: &UpstreamV6Key) -> Option<&UpstreamValue>;
    fn downstream_v4(&self, key: &DownstreamV4Key) -> Option<&DownstreamValue>;
    fn downstream_v6(&self, key: &DownstreamV6Key) -> Option<&DownstreamValue>;
    fn operator(&self, index: OperatorIndex) -> Option<&OperatorValue>;
    fn uplink(&self, key: &UplinkKey) -> Option<&UplinkValue>;
}
