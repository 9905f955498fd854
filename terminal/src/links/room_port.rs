//! The ports of rooms, as they are named: an interface such as `lan1`, or a VLAN of it, such as
//! `lan1.20`. Pure.

use doorstep_establish::{TPID_8021Q, Tag};

use super::Item;
use super::desired::{set, vlan_name};

/// A room's port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RoomPort<'a> {
    /// The interface that carries its frames.
    pub port: &'a str,
    /// The VLAN that is the room's; else the room has what is untagged.
    pub vlan: Option<u16>,
}

/// No VLAN can have that id (IEEE 802.1Q-2018, 9.6: 0 and 4095 are reserved).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{name:?}: {id} is no VLAN id: expected 1 to 4094 behind the point")]
pub struct BadVlan {
    name: String,
    id: String,
}

impl<'a> RoomPort<'a> {
    /// Digits behind the last point are a VLAN.
    pub fn parse(name: &'a str) -> Result<Self, BadVlan> {
        let Some((port, id)) = name.rsplit_once('.').filter(|(_, id)| is_number(id)) else {
            return Ok(Self {
                port: name,
                vlan: None,
            });
        };
        match id.parse() {
            Ok(vid @ 1..=4094) if !id.starts_with('0') => Ok(Self {
                port,
                vlan: Some(vid),
            }),
            _ => Err(BadVlan {
                name: name.to_owned(),
                id: id.to_owned(),
            }),
        }
    }

    /// The interface that is a port of the rooms' bridge.
    #[must_use]
    pub fn link(&self) -> String {
        match self.vlan {
            Some(vid) => vlan_name(self.port, &format!(".{vid}")),
            None => self.port.to_owned(),
        }
    }

    /// What there must be for it.
    pub(super) fn desired(&self, items: &mut Vec<Item>) {
        let link = self.link();
        if let Some(vid) = self.vlan {
            items.push(Item::Vlan {
                name: link.clone(),
                parent: self.port.to_owned(),
                tag: Tag {
                    tpid: TPID_8021Q,
                    vid,
                },
            });
            items.push(Item::Up {
                link: self.port.to_owned(),
            });
            // What is untagged there is no room's, and goes nowhere.
            let closed = [("ipv4", "forwarding", "0"), ("ipv6", "disable_ipv6", "1")];
            items.extend(closed.map(|(family, key, value)| {
                set(format!("{family}/conf/{}/{key}", self.port), value)
            }));
        }
        items.push(Item::Up { link });
    }
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_behind_the_last_point_are_a_vlan() {
        let cases = [
            ("lan1", "lan1", None, "lan1"),
            ("lan1.20", "lan1", Some(20), "lan1.20"),
            ("lan1.1", "lan1", Some(1), "lan1.1"),
            ("lan1.4094", "lan1", Some(4094), "lan1.4094"),
            ("lan1.30.20", "lan1.30", Some(20), "lan1.30.20"),
            ("lan1.guests", "lan1.guests", None, "lan1.guests"),
            ("lan1.", "lan1.", None, "lan1."),
        ];
        for (name, port, vlan, link) in cases {
            let parsed = RoomPort::parse(name).unwrap();
            assert_eq!(parsed, RoomPort { port, vlan }, "{name}");
            assert_eq!(parsed.link(), link, "{name}");
        }
    }

    #[test]
    fn what_no_vlan_can_be_is_refused() {
        for id in ["0", "4095", "65536", "99999999999", "020"] {
            let name = format!("lan1.{id}");
            let error = RoomPort::parse(&name).unwrap_err().to_string();
            assert!(
                error.contains(&format!("{name:?}: {id} is no VLAN id")),
                "{error}"
            );
        }
    }

    #[test]
    fn a_name_that_does_not_fit_the_kernel_has_a_short_one_for_it() {
        let links = [20, 21].map(|vid| {
            let name = format!("enp130s0f1np1.{vid}");
            RoomPort::parse(&name).unwrap().link()
        });
        assert_ne!(links[0], links[1]);
        for link in links {
            assert!(link.len() <= 15, "{link}");
        }
    }
}
