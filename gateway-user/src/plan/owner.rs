//! Whose a row is, as far as it tells: an operator's, for one address. Rows know no session ids.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::Ipv4Addr;

use doorstep_gateway_common::{OperatorIndex, flag};
use ipnet::Ipv6Net;

use super::{Plan, Tables, masked};

/// What a row forwards for. Of one session there may be three: for its
/// IPv4 address, its delegated prefix, and its line's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Owner {
    pub operator: OperatorIndex,
    address: Address,
}

/// As it lies in the maps' keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Address {
    V4([u8; 4]),
    V6([u8; 8]),
}

impl Owner {
    /// The owners of the rows of a session with these addresses.
    pub fn of(
        operator: OperatorIndex,
        v4: Option<Ipv4Addr>,
        v6: impl IntoIterator<Item = Ipv6Net>,
    ) -> impl Iterator<Item = Self> {
        let v4 = v4.map(|address| Address::V4(address.octets()));
        let v6 = v6.into_iter().map(|prefix| Address::V6(masked(prefix)));
        let addresses = v4.into_iter().chain(v6);
        addresses.map(move |address| Self { operator, address })
    }
}

impl Tables {
    /// The rows of some owners.
    pub fn owned(&self, wanted: impl Fn(Owner) -> bool) -> Self {
        let v4 = |operator, address| {
            let address = Address::V4(address);
            wanted(Owner { operator, address })
        };
        let v6 = |operator, address| {
            let address = Address::V6(address);
            wanted(Owner { operator, address })
        };
        Self {
            upstream_v4: select(&self.upstream_v4, |key, row| {
                v4(row.operator, key.source_be)
            }),
            upstream_v6: select(&self.upstream_v6, |key, row| {
                v6(row.operator, key.prefix_be)
            }),
            downstream_v4: select(&self.downstream_v4, |key, _| {
                v4(key.operator, key.destination_be)
            }),
            downstream_v6: select(&self.downstream_v6, |key, _| {
                v6(key.operator, key.prefix_be)
            }),
            ..Self::default()
        }
        .with_rates_of(self)
    }

    /// The rows of the garden's leases.
    pub fn in_garden(&self) -> Self {
        let of_lease = |flags: u16| flags & flag::GARDEN != 0;
        Self {
            upstream_v4: select(&self.upstream_v4, |_, row| of_lease(row.flags)),
            upstream_v6: select(&self.upstream_v6, |_, row| of_lease(row.flags)),
            downstream_v4: select(&self.downstream_v4, |_, row| of_lease(row.flags)),
            downstream_v6: select(&self.downstream_v6, |_, row| of_lease(row.flags)),
            ..Self::default()
        }
        .with_rates_of(self)
    }

    /// The rows whose keys `others` does not have.
    pub fn without(&self, others: &Self) -> Self {
        Self {
            upstream_v4: select(&self.upstream_v4, |key, _| {
                !others.upstream_v4.contains_key(key)
            }),
            upstream_v6: select(&self.upstream_v6, |key, _| {
                !others.upstream_v6.contains_key(key)
            }),
            downstream_v4: select(&self.downstream_v4, |key, _| {
                !others.downstream_v4.contains_key(key)
            }),
            downstream_v6: select(&self.downstream_v6, |key, _| {
                !others.downstream_v6.contains_key(key)
            }),
            ..Self::default()
        }
        .with_rates_of(self)
    }

    /// The rates of those slots that the rows count in.
    fn with_rates_of(mut self, all: &Self) -> Self {
        let slots = self.slots();
        self.rates = select(&all.rates, |slot, _| slots.contains(slot));
        self
    }

    /// Takes rows in; a row of the same key is replaced.
    pub fn extend(&mut self, rows: &Self) {
        self.upstream_v4.extend(&rows.upstream_v4);
        self.upstream_v6.extend(&rows.upstream_v6);
        self.downstream_v4.extend(&rows.downstream_v4);
        self.downstream_v6.extend(&rows.downstream_v6);
        self.rates.extend(&rows.rates);
    }

    pub fn len(&self) -> usize {
        self.upstream_v4.len()
            + self.upstream_v6.len()
            + self.downstream_v4.len()
            + self.downstream_v6.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Removes all these rows.
    pub fn removal(&self) -> Plan {
        Plan::diff(&Self::default(), self)
    }
}

fn select<K: Copy + Eq + Hash, V: Copy>(
    rows: &HashMap<K, V>,
    wanted: impl Fn(&K, &V) -> bool,
) -> HashMap<K, V> {
    let rows = rows.iter().filter(|(key, value)| wanted(key, value));
    rows.map(|(key, value)| (*key, *value)).collect()
}
