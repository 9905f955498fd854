//! Addresses: a session has one place in the pools of its gateway, and what each pool has there.

use std::collections::BTreeSet;

use ipnet::Ipv6Net;
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::{Engine, Result};
use crate::config::Gateway;
use crate::pool;
use crate::session::Addresses;
use crate::store::{Pools, StoreError, Work};

impl Engine {
    /// A place for a session that comes to a gateway.
    pub(super) fn lease(
        work: &mut Work<'_>,
        gateway: &Gateway,
        subscriber: Uuid,
        session: Uuid,
    ) -> std::result::Result<Addresses, StoreError> {
        let (capacity, family) = capacity(gateway);
        let wanted = wanted(gateway, subscriber, capacity);
        match work.take_place(&gateway.id, capacity, wanted, session)? {
            Some(place) => Ok(addresses(gateway, place)),
            None => Err(StoreError::PoolExhausted {
                gateway: gateway.id.clone(),
                family,
            }),
        }
    }

    /// Makes the leases anew where pools are others than last time.
    pub async fn follow_pools(&self) -> Result<()> {
        type Places<'a> = Box<dyn Fn(&Addresses) -> BTreeSet<i64> + Sync + 'a>;
        type Given<'a> = Box<dyn Fn(i64) -> Addresses + Sync + 'a>;
        let made: Vec<(&Gateway, Places<'_>, Given<'_>)> = self
            .config
            .gateways
            .iter()
            .map(|gateway| {
                let places: Places<'_> = Box::new(|of| places(gateway, of));
                let given: Given<'_> = Box::new(|place| addresses(gateway, place));
                (gateway, places, given)
            })
            .collect();
        let pools: Vec<Pools<'_>> = made
            .iter()
            .map(|(gateway, places, given)| Pools {
                gateway: &gateway.id,
                text: text(gateway),
                places: &**places,
                addresses: &**given,
            })
            .collect();
        Ok(self.store.follow_pools(&pools).await?)
    }
}

/// Where a subscriber's place at a gateway is, unless somebody else has it: whoever comes back gets
/// the same addresses, without a table of who had which.
fn wanted(gateway: &Gateway, subscriber: Uuid, capacity: i64) -> i64 {
    let mut hasher = Sha256::new();
    hasher.update(subscriber.as_bytes());
    hasher.update(&gateway.id);
    let digest = hasher.finalize();
    let number = digest
        .first_chunk()
        .map_or(0, |head| u64::from_be_bytes(*head));
    // Half the range, so that it is never negative.
    (number >> 1).cast_signed() % capacity.max(1)
}

/// How many sessions there are addresses for, and which family has the fewest.
fn capacity(gateway: &Gateway) -> (i64, &'static str) {
    let ipv4 = gateway.ipv4.map(|ipv4| (ipv4.pool.capacity(), "IPv4"));
    let ipv6 = gateway.ipv6.map(|ipv6| (ipv6.pool.capacity(), "IPv6"));
    let lines = gateway
        .ipv6_line
        .map(|lines| (lines.pool.capacity(), "IPv6 line"));
    [ipv4, ipv6, lines]
        .into_iter()
        .flatten()
        .min()
        .unwrap_or((0, "address"))
}

fn addresses(gateway: &Gateway, place: i64) -> Addresses {
    let prefix =
        |number: Option<i64>, length: u8| -> Option<Ipv6Net> { pool::ipv6_prefix(number?, length) };
    Addresses {
        place: Some(place),
        ipv4: gateway
            .ipv4
            .and_then(|ipv4| pool::ipv4_address(ipv4.pool.piece(place)?)),
        ipv6: gateway
            .ipv6
            .and_then(|ipv6| prefix(ipv6.pool.piece(place), ipv6.delegated_prefix_len)),
        ipv6_line: gateway
            .ipv6_line
            .and_then(|lines| prefix(lines.pool.piece(place), 64)),
    }
}

/// All places that some of these addresses lie in, whichever pools they were given from.
fn places(gateway: &Gateway, of: &Addresses) -> BTreeSet<i64> {
    let mut places = BTreeSet::new();
    if let (Some(ipv4), Some(own)) = (gateway.ipv4, of.ipv4) {
        places.extend(ipv4.pool.place(pool::ipv4_number(own)));
    }
    for (pool, own) in [
        (gateway.ipv6.map(|ipv6| ipv6.pool), of.ipv6),
        (gateway.ipv6_line.map(|lines| lines.pool), of.ipv6_line),
    ] {
        let (Some(pool), Some(own)) = (pool, own) else {
            continue;
        };
        // A prefix of another length may lie in several places.
        let first = pool::ipv6_number(own.network());
        let last = pool::ipv6_number(own.broadcast());
        let mut number = first;
        while number <= last {
            places.extend(pool.place(number));
            let Some(next) = number.checked_add(pool.step) else {
                break;
            };
            number = next;
        }
    }
    places
}

/// What tells a gateway's pools from others.
fn text(gateway: &Gateway) -> String {
    let part = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
    format!(
        "{} {} {}",
        part(
            gateway
                .ipv4
                .map(|ipv4| format!("{} but {}", ipv4.net, ipv4.gateway))
        ),
        part(
            gateway
                .ipv6
                .map(|ipv6| format!("{} by /{}", ipv6.net, ipv6.delegated_prefix_len))
        ),
        part(gateway.ipv6_line.map(|lines| lines.net.to_string())),
    )
}
