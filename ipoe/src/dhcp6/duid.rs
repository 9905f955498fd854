//! Who is who in DHCPv6.

use crate::frame::Mac;

const LINK_LAYER: u16 = 3;
const ETHERNET: u16 = 1;

/// A DHCP unique identifier (RFC 8415, 11): opaque, to be compared only.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Duid(Vec<u8>);

impl Duid {
    /// Shortest one: its type and a byte.
    pub const MIN_LEN: usize = 3;
    /// Longest one: its type and 128 bytes (RFC 8415, 11.1).
    pub const MAX_LEN: usize = 130;

    /// None if it is shorter or longer than one can be.
    #[must_use]
    pub fn new(bytes: &[u8]) -> Option<Self> {
        let fits = (Self::MIN_LEN..=Self::MAX_LEN).contains(&bytes.len());
        fits.then(|| Self(bytes.to_vec()))
    }

    /// Made of a MAC address that the device keeps (DUID-LL, RFC 8415, 11.4): the same after every
    /// start without anything being stored.
    #[must_use]
    pub fn of_mac(mac: Mac) -> Self {
        let [kind, hardware] = [LINK_LAYER, ETHERNET].map(u16::to_be_bytes);
        Self([&kind[..], &hardware, &mac].concat())
    }

    /// As it is sent.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}
