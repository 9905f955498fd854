//! What each gateway has for itself: its name, its places and its addresses. Two gateways share none.

use std::collections::{BTreeMap, HashSet};

use super::Gateway;

/// What the gateways so far have.
#[derive(Default)]
pub(super) struct Claims {
    ids: HashSet<String>,
    /// By the first address, as a number. No two overlap.
    ipv4: BTreeMap<u128, Claim>,
    ipv6: BTreeMap<u128, Claim>,
}

struct Claim {
    last: u128,
    /// The key in the configuration, and the pool.
    what: String,
    gateway: String,
}

impl Claims {
    /// Adds a gateway, or tells with whom it clashes.
    pub(super) fn claim(&mut self, gateway: &Gateway) -> Result<(), String> {
        let id = &gateway.id;
        if !self.ids.insert(id.clone()) {
            return Err(format!("gateway \"{id}\" is there twice"));
        }
        if let Some(ipv4) = gateway.ipv4 {
            let (first, last) = (ipv4.net.network(), ipv4.net.broadcast());
            let range = (first.to_bits().into(), last.to_bits().into());
            claim(&mut self.ipv4, range, format!("ipv4_pool {}", ipv4.net), id)?;
        }
        let homes = gateway.ipv6.map(|pool| ("ipv6_pool", pool.net));
        let lines = gateway.ipv6_line.map(|pool| ("ipv6_line_pool", pool.net));
        for (key, net) in homes.into_iter().chain(lines) {
            let range = (net.network().to_bits(), net.broadcast().to_bits());
            claim(&mut self.ipv6, range, format!("{key} {net}"), id)?;
        }
        Ok(())
    }
}

fn claim(
    claims: &mut BTreeMap<u128, Claim>,
    (first, last): (u128, u128),
    what: String,
    gateway: &str,
) -> Result<(), String> {
    // Of those that begin before this one's end, the last one is the only that can reach into it.
    if let Some((_, other)) = claims.range(..=last).next_back()
        && other.last >= first
    {
        return Err(format!(
            "gateway \"{gateway}\": {what} overlaps {} of gateway \"{}\"",
            other.what, other.gateway
        ));
    }
    let gateway = gateway.to_owned();
    claims.insert(
        first,
        Claim {
            last,
            what,
            gateway,
        },
    );
    Ok(())
}
