//! The maps as the deciding code sees them.

use doorstep_datapath::Tables;
use doorstep_gateway_common::downstream::{DownstreamV4Key, DownstreamV6Key, DownstreamValue};
use doorstep_gateway_common::globals::Globals;
use doorstep_gateway_common::operator::{OperatorValue, UplinkKey, UplinkValue};
use doorstep_gateway_common::upstream::{UpstreamV4Key, UpstreamV6Key, UpstreamValue};
use doorstep_gateway_common::{LineKey, LineValue, OperatorIndex};

use crate::maps;

pub struct KernelTables;

/// Looks a key up in a hash map.
macro_rules! get {
    ($map:ident, $key:expr) => {
        // SAFETY: the value lives until the program ends (RCU). The daemon, the only writer, waits
        // after removals before it inserts, so that an element is not used anew under a reader.
        unsafe { maps::$map.get($key) }
    };
}

impl Tables for KernelTables {
    #[inline(always)]
    fn globals(&self) -> Globals {
        maps::globals()
    }

    #[inline(always)]
    fn line(&self, key: &LineKey) -> Option<&LineValue> {
        get!(LINES, key)
    }

    #[inline(always)]
    fn upstream_v4(&self, key: &UpstreamV4Key) -> Option<&UpstreamValue> {
        get!(UPSTREAM_V4, key)
    }

    #[inline(always)]
    fn upstream_v6(&self, key: &UpstreamV6Key) -> Option<&UpstreamValue> {
        get!(UPSTREAM_V6, key)
    }

    #[inline(always)]
    fn downstream_v4(&self, key: &DownstreamV4Key) -> Option<&DownstreamValue> {
        get!(DOWNSTREAM_V4, key)
    }

    #[inline(always)]
    fn downstream_v6(&self, key: &DownstreamV6Key) -> Option<&DownstreamValue> {
        get!(DOWNSTREAM_V6, key)
    }

    #[inline(always)]
    fn operator(&self, index: OperatorIndex) -> Option<&OperatorValue> {
        maps::OPERATORS.get(u32::from(index))
    }

    #[inline(always)]
    fn uplink(&self, key: &UplinkKey) -> Option<&UplinkValue> {
        get!(UPLINKS, key)
    }
}
