//! How large an IP packet may be on a line: what the server says, or what the port carries.

use super::{Engine, LinePort};
use crate::session::Line;

/// Length of a VLAN tag, and what every Ethernet driver carries beside the port's MTU.
const TAG: u32 = 4;

/// The largest IP packet that leaves a port with that many tags: one tag is free.
pub(crate) fn fits(port_mtu: u32, tags: usize) -> u32 {
    let tags = u32::try_from(tags).unwrap_or(u32::MAX);
    let bytes = TAG.saturating_mul(tags.saturating_sub(1));
    port_mtu.saturating_sub(bytes)
}

impl Engine {
    /// The MTU of a line for a session that is to have `asked`. A port that is too narrow makes
    /// packets smaller, not service impossible.
    pub(super) fn line_mtu(&mut self, line: &Line, asked: u16) -> u16 {
        let ifindex = line.key.ifindex;
        let Some(&LinePort { mtu: port_mtu, .. }) = self.settings.ports.get(&ifindex) else {
            return asked;
        };
        let fits = fits(port_mtu, line.tags.as_slice().len());
        let mtu = u16::try_from(fits).map_or(asked, |fits| asked.min(fits));
        if mtu < asked && self.narrow_ports.insert(ifindex) {
            let needed = port_mtu + u32::from(asked - mtu);
            tracing::warn!(
                port = line.port,
                port_mtu,
                asked,
                offered = mtu,
                needed,
                "the port's MTU has no room for full packets with their tags: lines get a smaller \
                 one; set the port's MTU to what is needed and restart"
            );
        }
        mtu
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_tag_is_free() {
        for (port_mtu, tags, expected) in [
            (1500, 0, 1500),
            (1500, 1, 1500),
            (1500, 2, 1496),
            (1504, 2, 1500),
            (1508, 3, 1500),
            (0, 2, 0),
            (u32::MAX, 0, u32::MAX),
        ] {
            assert_eq!(fits(port_mtu, tags), expected, "{port_mtu} {tags}");
        }
    }
}
