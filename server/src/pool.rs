//! Address pools as plain arithmetic. The store turns them into leases.
//!
//! An address is a number on a line: IPv4 as it is, IPv6 by the upper 64 bits of the prefix. The
//! numbers fit a signed 64-bit column and keep their order there.

use std::net::{Ipv4Addr, Ipv6Addr};

use ipnet::{Ipv4Net, Ipv6Net};

/// A pool of equal, aligned pieces of the number line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pool {
    /// First number that may be given out.
    pub first: i64,
    /// Last number that may be given out.
    pub last: i64,
    /// Numbers in one piece, a power of two.
    pub step: i64,
    /// A number never given out (the gateway's own address).
    pub reserved: Option<i64>,
    /// Numbers that these bits of are all 0 are never given out; 0: there are none.
    pub nonzero: i64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PoolError {
    #[error("an IPv4 pool needs a prefix length of at most 30, not {0}")]
    Ipv4TooSmall(u8),
    #[error(
        "the delegated prefix length must lie between the pool's length {pool} and 64, not {delegated}"
    )]
    DelegatedLen { pool: u8, delegated: u8 },
    #[error(
        "a pool of length {pool} has no /64 for a line, apart from those that a prefix of the \
         delegated length {delegated} begins with"
    )]
    LineLen { pool: u8, delegated: u8 },
}

/// The usable addresses of `net`, without the gateway's own.
pub fn ipv4(net: Ipv4Net, gateway: Ipv4Addr) -> Result<Pool, PoolError> {
    if net.prefix_len() > 30 {
        return Err(PoolError::Ipv4TooSmall(net.prefix_len()));
    }
    Ok(Pool {
        first: ipv4_number(net.network()) + 1,
        last: ipv4_number(net.broadcast()) - 1,
        step: 1,
        reserved: Some(ipv4_number(gateway)),
        nonzero: 0,
    })
}

/// The first host of a pool: the gateway's own address unless another is configured.
pub fn first_host(net: Ipv4Net) -> Ipv4Addr {
    Ipv4Addr::from(u32::from(net.network()).saturating_add(1))
}

/// Prefixes of `delegated` bits cut from `net`. The first one is the gateway's own, unless it is
/// the only one.
pub fn ipv6(net: Ipv6Net, delegated: u8) -> Result<Pool, PoolError> {
    let pool = net.prefix_len();
    if delegated > 64 || delegated < pool || delegated == 0 {
        return Err(PoolError::DelegatedLen { pool, delegated });
    }
    let start = ipv6_number(net.network());
    let end = ipv6_number(net.broadcast());
    let step = if delegated == 1 {
        // A piece of half the line does not fit i64; nobody delegates that.
        return Err(PoolError::DelegatedLen { pool, delegated });
    } else {
        1i64 << (64 - delegated)
    };
    Ok(Pool {
        first: start,
        last: end,
        step,
        reserved: (delegated > pool).then_some(start),
        nonzero: 0,
    })
}

/// Prefixes of the lines' own: each /64 of `net` but those that a prefix of `delegated` bits begins
/// with. The gateways look for that first, and would find it for all others that it holds.
pub fn ipv6_lines(net: Ipv6Net, delegated: u8) -> Result<Pool, PoolError> {
    let len = net.prefix_len();
    if len > 64 || !(2..=64).contains(&delegated) {
        return Err(PoolError::LineLen {
            pool: len,
            delegated,
        });
    }
    let pool = Pool {
        first: ipv6_number(net.network()),
        last: ipv6_number(net.broadcast()),
        step: 1,
        reserved: None,
        nonzero: (1i64 << (64 - delegated)) - 1,
    };
    pool.next(None).map(|_| pool).ok_or(PoolError::LineLen {
        pool: len,
        delegated,
    })
}

pub fn ipv4_number(address: Ipv4Addr) -> i64 {
    i64::from(u32::from(address))
}

pub fn ipv4_address(number: i64) -> Option<Ipv4Addr> {
    u32::try_from(number).ok().map(Ipv4Addr::from)
}

/// The upper 64 bits, with the top bit turned so that the signed order is the address order.
pub fn ipv6_number(address: Ipv6Addr) -> i64 {
    let upper = (u128::from(address) >> 64) as u64;
    (upper ^ (1 << 63)).cast_signed()
}

pub fn ipv6_prefix(number: i64, delegated: u8) -> Option<Ipv6Net> {
    let upper = number.cast_unsigned() ^ (1 << 63);
    Ipv6Net::new(Ipv6Addr::from(u128::from(upper) << 64), delegated).ok()
}

impl Pool {
    /// The lowest piece that lies wholly behind `after` (the last number in use, if any).
    pub fn next(&self, after: Option<i64>) -> Option<i64> {
        let mut candidate = match after {
            None => self.first,
            Some(after) if after < self.first => self.first,
            Some(after) => {
                // Aligned up, because pieces of another size may lie before.
                let past = after.checked_add(1)?.checked_sub(self.first)?;
                let pieces = past.checked_add(self.step - 1)? / self.step;
                self.first.checked_add(pieces.checked_mul(self.step)?)?
            }
        };
        if Some(candidate) == self.reserved {
            candidate = candidate.checked_add(self.step)?;
        }
        if !self.gives(candidate) {
            candidate = candidate.checked_add(self.step)?;
        }
        (self.piece_end(candidate)? <= self.last).then_some(candidate)
    }

    /// Whether the bits of a number allow it.
    pub fn gives(&self, number: i64) -> bool {
        self.nonzero == 0 || number & self.nonzero != 0
    }

    pub fn piece_end(&self, first: i64) -> Option<i64> {
        first.checked_add(self.step - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hand_out(pool: Pool, count: usize) -> Vec<i64> {
        let mut last = None;
        let mut given = Vec::new();
        while given.len() < count
            && let Some(piece) = pool.next(last)
        {
            given.push(piece);
            last = pool.piece_end(piece);
        }
        given
    }

    #[test]
    fn ipv4_pool_leaves_out_network_gateway_and_broadcast() {
        let cases = [
            ("100.64.1.0/29", "100.64.1.1", vec![2, 3, 4, 5, 6]),
            ("100.64.1.0/29", "100.64.1.6", vec![1, 2, 3, 4, 5]),
            ("100.64.1.0/30", "192.0.2.1", vec![1, 2]),
        ];
        for (net, gateway, want) in cases {
            let pool = ipv4(net.parse().unwrap(), gateway.parse().unwrap()).unwrap();
            let got: Vec<_> = hand_out(pool, 100)
                .into_iter()
                .map(|number| ipv4_address(number).unwrap().octets()[3])
                .collect();
            assert_eq!(got, want, "{net} {gateway}");
        }
        assert_eq!(
            ipv4(
                "100.64.1.0/31".parse().unwrap(),
                "100.64.1.1".parse().unwrap()
            ),
            Err(PoolError::Ipv4TooSmall(31))
        );
    }

    #[test]
    fn ipv6_pool_is_cut_into_prefixes() {
        for (net, delegated, want) in [
            (
                "2001:db8:1000::/40",
                56,
                vec!["2001:db8:1000:100::/56", "2001:db8:1000:200::/56"],
            ),
            ("fd00::/63", 64, vec!["fd00:0:0:1::/64"]),
            ("2001:db8::/64", 64, vec!["2001:db8::/64"]),
        ] {
            let pool = ipv6(net.parse().unwrap(), delegated).unwrap();
            let got: Vec<_> = hand_out(pool, 2)
                .into_iter()
                .map(|number| ipv6_prefix(number, delegated).unwrap().to_string())
                .collect();
            assert_eq!(got, want, "{net}");
        }
        assert!(ipv6("2001:db8::/40".parse().unwrap(), 65).is_err());
        assert!(ipv6("2001:db8::/40".parse().unwrap(), 32).is_err());
    }

    #[test]
    fn lines_get_no_prefix_that_a_delegated_one_begins_with() {
        for (net, delegated, want) in [
            (
                "2001:db8:f::/48",
                56,
                &["2001:db8:f:1::/64", "2001:db8:f:2::/64"][..],
            ),
            (
                "2001:db8:f:fe::/63",
                56,
                &["2001:db8:f:fe::/64", "2001:db8:f:ff::/64"],
            ),
            (
                "2001:db8:f:8::/62",
                63,
                &["2001:db8:f:9::/64", "2001:db8:f:b::/64"],
            ),
            (
                "2001:db8:f::/63",
                64,
                &["2001:db8:f::/64", "2001:db8:f:1::/64"],
            ),
        ] {
            let pool = ipv6_lines(net.parse().unwrap(), delegated).unwrap();
            let got: Vec<_> = hand_out(pool, 2)
                .into_iter()
                .map(|number| ipv6_prefix(number, 64).unwrap().to_string())
                .collect();
            assert_eq!(got, want, "{net}");
        }
        let all = hand_out(ipv6_lines("fd00::/54".parse().unwrap(), 56).unwrap(), 2000);
        assert_eq!(all.len(), 4 * 255);
        for net in ["fd00::/64", "fd00::/65"] {
            assert!(ipv6_lines(net.parse().unwrap(), 56).is_err(), "{net}");
        }
    }

    #[test]
    fn a_piece_never_overlaps_a_larger_one_given_before() {
        let large = ipv6("2001:db8::/40".parse().unwrap(), 56).unwrap();
        let small = ipv6("2001:db8::/40".parse().unwrap(), 60).unwrap();
        let first = large.next(None).unwrap();
        let end = large.piece_end(first);
        let next = small.next(end).unwrap();
        assert!(next > end.unwrap());
        assert_eq!((next - small.first) % small.step, 0);
    }
}
