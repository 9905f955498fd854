//! The default routes of the gateway's own tables: where the kernel sends what XDP leaves to it.
//!
//! They are copies. The operator's table may lead anywhere; what is copied leads over its uplink
//! only, and so no packet of an operator ever leaves by another's.

use std::collections::HashMap;
use std::net::IpAddr;

use doorstep_gateway_common::OperatorIndex;
use tracing::warn;

use super::decide::{Decision, Hop};
use crate::dataplane::DataplaneError;
use crate::dataplane::host::{self, Route};
use crate::dataplane::netlink::Netlink;

/// A link and the address of a neighbour on it.
type Target = Option<(u32, IpAddr)>;

/// What was put where last. Nothing is known of what is not in it.
#[derive(Default)]
pub(super) struct Defaults {
    put: HashMap<(OperatorIndex, bool), Target>,
}

impl Defaults {
    /// Makes the routes of an operator's tables what was decided. A route that the kernel refuses
    /// is tried again the next time.
    pub(super) async fn put(&mut self, netlink: &Netlink, decision: &Decision) {
        for (v6, hop) in [(false, decision.v4), (true, decision.v6)] {
            let target = hop.and_then(
                |Hop {
                     ifindex, address, ..
                 }| Some((ifindex?, address)),
            );
            let place = (decision.operator, v6);
            if self.put.get(&place) == Some(&target) {
                continue;
            }
            match put(netlink, decision.operator, v6, target).await {
                Ok(()) => {
                    self.put.insert(place, target);
                }
                Err(error) => {
                    warn!(operator = decision.operator, %error, "the kernel's path is not as wanted");
                    self.put.remove(&place);
                }
            }
        }
    }

    /// Has everything put again.
    pub(super) fn forget(&mut self) {
        self.put.clear();
    }
}

async fn put(
    netlink: &Netlink,
    operator: OperatorIndex,
    v6: bool,
    target: Target,
) -> Result<(), DataplaneError> {
    for table in host::tables(operator) {
        match target {
            Some((ifindex, address)) => {
                let hop = host::Hop::Via { ifindex, address };
                let prefix = host::default_route(!v6);
                netlink.replace_route(&Route { table, prefix, hop }).await?;
            }
            None => netlink.remove_default(table, v6).await?,
        }
    }
    Ok(())
}
