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
    #[error("a pool of length {0} is larger than all addresses in use; the shortest is /3")]
    TooLarge(u8),
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

/// Global unicast is 2000::/3 (RFC 4291 section 2.4); and the arithmetic here stays within 64 bits.
const SHORTEST_IPV6: u8 = 3;

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
    if pool < SHORTEST_IPV6 {
        return Err(PoolError::TooLarge(pool));
    }
    if delegated > 64 || delegated < pool {
        return Err(PoolError::DelegatedLen { pool, delegated });
    }
    let start = ipv6_number(net.network());
    let end = ipv6_number(net.broadcast());
    let step = 1i64 << (64 - delegated);
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
    if len < SHORTEST_IPV6 {
        return Err(PoolError::TooLarge(len));
    }
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
    if pool.capacity() == 0 {
        return Err(PoolError::LineLen {
            pool: len,
            delegated,
        });
    }
    Ok(pool)
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
    /// How many pieces there are to give out.
    pub fn capacity(&self) -> i64 {
        let pieces = (self.last - self.first + 1) / self.step;
        if self.nonzero != 0 {
            return pieces - self.left_out_before(self.last + 1);
        }
        let reserved = self.reserved.is_some_and(|own| self.contains(own));
        pieces - i64::from(reserved)
    }

    /// First number of the piece at a place, counted from 0; none beyond the last one.
    pub fn piece(&self, place: i64) -> Option<i64> {
        if !(0..self.capacity()).contains(&place) {
            return None;
        }
        if self.nonzero != 0 {
            // Whole groups behind the first one, each without its first number.
            let group = self.nonzero + 1;
            let start = self.first & !self.nonzero;
            let skipped = (self.first - start - 1).max(0);
            let nth = place + skipped;
            return Some(start + nth / self.nonzero * group + nth % self.nonzero + 1);
        }
        let first = self.first + place * self.step;
        match self.reserved {
            Some(own) if self.contains(own) && first >= own => Some(first + self.step),
            _ => Some(first),
        }
    }

    /// The place of the piece that a number lies in, if it can be given out.
    pub fn place(&self, number: i64) -> Option<i64> {
        if !self.contains(number) {
            return None;
        }
        if self.nonzero != 0 {
            if number & self.nonzero == 0 {
                return None;
            }
            return Some(number - self.first - self.left_out_before(number));
        }
        let first = self.first + (number - self.first) / self.step * self.step;
        match self.reserved {
            Some(own) if first == own => None,
            Some(own) if self.contains(own) && first > own => {
                Some((first - self.first) / self.step - 1)
            }
            _ => Some((first - self.first) / self.step),
        }
    }

    fn contains(&self, number: i64) -> bool {
        (self.first..=self.last).contains(&number)
    }

    /// How many numbers from the first one on, and before `end`, have none of the bits that one
    /// must have.
    fn left_out_before(&self, end: i64) -> i64 {
        let group = self.nonzero + 1;
        let groups = |number: i64| (number + self.nonzero).div_euclid(group);
        groups(end) - groups(self.first)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The first pieces; each is found again by its numbers.
    fn hand_out(pool: Pool, count: usize) -> Vec<i64> {
        let pieces: Vec<i64> = (0..)
            .map_while(|place| pool.piece(place))
            .take(count)
            .collect();
        for (place, first) in (0..).zip(&pieces) {
            for number in [*first, *first + pool.step - 1] {
                assert_eq!(pool.place(number), Some(place), "{number} of {pool:?}");
            }
        }
        pieces
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
    fn what_is_not_given_out_has_no_place() {
        let gateway = "100.64.1.3".parse().unwrap();
        let ipv4 = ipv4("100.64.1.0/29".parse().unwrap(), gateway).unwrap();
        let own = ipv4_number(gateway);
        assert_eq!(ipv4.capacity(), 5);
        for (number, want) in [
            (-3, None),
            (-2, Some(0)),
            (0, None),
            (1, Some(2)),
            (4, None),
        ] {
            assert_eq!(ipv4.place(own + number), want, "{number}");
        }
        let homes = ipv6("2001:db8::/40".parse().unwrap(), 56).unwrap();
        assert_eq!(homes.capacity(), (1 << 16) - 1);
        assert_eq!(homes.place(homes.first), None, "the gateway's own");
        assert_eq!(homes.piece(homes.capacity()), None);
        let lines = ipv6_lines("fd00::/54".parse().unwrap(), 56).unwrap();
        assert_eq!(lines.capacity(), 4 * 255);
        assert_eq!(lines.place(lines.first + 256), None);
        assert_eq!(lines.place(lines.first + 257), Some(255));
    }
}
