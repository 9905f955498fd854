//! The map entry that decided on a packet.

use std::net::Ipv6Addr;

use doorstep_establish::Tags;
use doorstep_gateway_common::trace::{Entry, TraceEvent, needs_no_entry};
use doorstep_gateway_common::{LineKey, LineValue, OperatorIndex, Reason, flag};

use super::{Frame, addresses};

/// What the numbers of this host stand for.
pub trait Names {
    fn port(&self, ifindex: u32) -> String;
    fn operator(&self, index: OperatorIndex) -> String;
    /// Bits of a delegated prefix.
    fn delegated_len(&self) -> u8;

    /// `access0/101.1004`.
    fn line(&self, key: LineKey) -> String {
        let vids = [key.s_vid, key.c_vid];
        let vids: Vec<u16> = vids.into_iter().filter(|vid| *vid != 0).collect();
        let port = self.port(key.ifindex);
        match Tags::from_vids(&vids) {
            Ok(tags) if tags != Tags::NONE => format!("{port}/{tags}"),
            _ => port,
        }
    }
}

/// An entry, its key in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Used {
    pub map: &'static str,
    pub key: String,
    /// Slot and generation of the session.
    pub session: Option<(u32, u64)>,
    pub flags: Vec<&'static str>,
}

/// The entry that a packet's fate depended on; none if it was decided on without one.
pub fn entry(event: &TraceEvent, reason: Reason, names: &impl Names) -> Option<Used> {
    let entry = Entry::from_number(event.entry)?;
    if needs_no_entry(reason) {
        return None;
    }
    let (source, destination) = addresses(event).unzip();
    let text = |address: Option<std::net::IpAddr>| address.map(|it| it.to_string());
    let prefix = || prefix(event.prefix_be, names.delegated_len());
    let line = || names.line(event.line);
    let operator = || names.operator(event.operator);
    let key = match entry {
        Entry::UpstreamV4 => format!("{} {}", line(), text(source).unwrap_or_default()),
        Entry::UpstreamV6 => format!("{} {}", line(), prefix()),
        Entry::DownstreamV4 => format!("{} {}", operator(), text(destination).unwrap_or_default()),
        Entry::DownstreamV6 => format!("{} {}", operator(), prefix()),
        Entry::Line => line(),
        Entry::Uplink => names.line(LineKey {
            ifindex: event.ifindex,
            s_vid: 0,
            c_vid: Frame::of(event).tags.first().map_or(0, |tag| tag.vid),
        }),
    };
    let flags = match entry {
        Entry::Line if u32::from(event.flags) & LineValue::BLOCKED != 0 => vec!["blocked"],
        Entry::Line | Entry::Uplink => Vec::new(),
        _ => flag::names(event.flags).collect(),
    };
    Some(Used {
        map: entry.name(),
        key,
        session: (event.slot != TraceEvent::NO_SLOT).then_some((event.slot, event.generation)),
        flags,
    })
}

/// A delegated prefix, or the line's own.
fn prefix([a, b, c, d, e, f, g, h]: [u8; 8], delegated_len: u8) -> String {
    let address = Ipv6Addr::from([a, b, c, d, e, f, g, h, 0, 0, 0, 0, 0, 0, 0, 0]);
    let whole = u128::from(address).trailing_zeros() < 128 - u32::from(delegated_len);
    format!("{address}/{}", if whole { 64 } else { delegated_len })
}

#[cfg(test)]
mod tests {
    use doorstep_gateway_common::garden::mapped;
    use doorstep_gateway_common::record;

    use super::*;

    struct Host;

    impl Names for Host {
        fn port(&self, ifindex: u32) -> String {
            format!("port{ifindex}")
        }

        fn operator(&self, index: OperatorIndex) -> String {
            format!("operator{index}")
        }

        fn delegated_len(&self) -> u8 {
            56
        }
    }

    fn event(entry: Entry) -> TraceEvent {
        let zero = [0; size_of::<TraceEvent>()];
        let (event, _) = record::split::<TraceEvent>(&zero).expect("long enough");
        TraceEvent {
            entry: entry as u16,
            line: LineKey {
                ifindex: 7,
                s_vid: 101,
                c_vid: 1004,
            },
            source: mapped([100, 64, 1, 10]),
            destination: mapped([203, 0, 113, 10]),
            prefix_be: [0x20, 1, 0x0d, 0xb8, 0x10, 0, 1, 0],
            ifindex: 9,
            operator: 2,
            slot: 3,
            generation: 12,
            flags: flag::POLICED | flag::SHAPED | 5 << flag::PRIORITY_SHIFT,
            ..event
        }
    }

    fn shown(event: &TraceEvent, reason: Reason) -> Option<String> {
        entry(event, reason, &Host).map(|used| format!("{} {}", used.map, used.key))
    }

    #[test]
    fn keys_in_words() {
        for (entry, expected) in [
            (Entry::UpstreamV4, "UPSTREAM_V4 port7/101.1004 100.64.1.10"),
            (
                Entry::UpstreamV6,
                "UPSTREAM_V6 port7/101.1004 2001:db8:1000:100::/56",
            ),
            (Entry::DownstreamV4, "DOWNSTREAM_V4 operator2 203.0.113.10"),
            (
                Entry::DownstreamV6,
                "DOWNSTREAM_V6 operator2 2001:db8:1000:100::/56",
            ),
            (Entry::Line, "LINES port7/101.1004"),
            (Entry::Uplink, "UPLINKS port9"),
        ] {
            let told = shown(&event(entry), Reason::ForwardedUpstream);
            assert_eq!(told.as_deref(), Some(expected));
        }
    }

    #[test]
    fn the_lines_own_prefix_is_a_64() {
        let own = [0x20, 1, 0x0d, 0xb8, 0x10, 0, 1, 7];
        assert_eq!(prefix(own, 56), "2001:db8:1000:107::/64");
        assert_eq!(prefix(own, 64), "2001:db8:1000:107::/64");
    }

    #[test]
    fn what_it_says_of_a_session() {
        let used = entry(&event(Entry::UpstreamV4), Reason::PolicedUpstream, &Host);
        let used = used.expect("an entry");
        assert_eq!(used.session, Some((3, 12)));
        assert_eq!(used.flags, ["policed", "shaped"]);
    }

    #[test]
    fn what_was_decided_without_an_entry_shows_none() {
        let event = event(Entry::UpstreamV4);
        assert_eq!(shown(&event, Reason::Multicast), None);
        let none = TraceEvent { entry: 0, ..event };
        assert_eq!(shown(&none, Reason::UnknownLine), None);
    }
}
