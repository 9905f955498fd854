//! What to follow.

use std::fmt;
use std::net::IpAddr;

use doorstep_establish::Tags;
use doorstep_gateway_common::LineKey;
use doorstep_gateway_common::trace::TraceFilter;
use doorstep_location::LocationId;
use thiserror::Error;

use crate::inventory::Inventory;

/// Which packets to follow, as people say it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// `access0/101.1004`, `access0/300`, or `access0` where the line is untagged.
    Line(String),
    /// The line of a location of the inventory.
    Location(String),
    /// A source or a destination.
    Address(String),
}

/// The subscriber's address is not told: errors may end up in a log.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum TargetError {
    #[error("'{0}' is not a line: PORT/S.C, PORT/C, or PORT alone, with VLAN ids 1..=4094")]
    NoLine(String),
    #[error("'{port}' is not an access port; there are {}", list(ports))]
    NoPort { port: String, ports: Vec<String> },
    #[error("'{location}' is not a location id: {why}")]
    NoLocation { location: String, why: String },
    #[error("location {0} is not in the inventory")]
    NotListed(String),
    #[error("this is not an IP address: give one, without a prefix length")]
    NoAddress,
}

fn list(ports: &[String]) -> impl fmt::Display {
    ports.join(", ")
}

impl Target {
    /// The filter for it. `ports` are the access ports with their indexes.
    pub fn filter(
        &self,
        ports: &[(String, u32)],
        inventory: &Inventory,
    ) -> Result<TraceFilter, TargetError> {
        match self {
            Self::Line(text) => line(text, ports).map(TraceFilter::line),
            Self::Location(text) => {
                let no = |why: doorstep_location::ParseError| TargetError::NoLocation {
                    location: text.clone(),
                    why: why.to_string(),
                };
                let location: LocationId = text.parse().map_err(no)?;
                let line = inventory.resolve(&location);
                let line = line.ok_or_else(|| TargetError::NotListed(location.to_string()))?;
                Ok(TraceFilter::line(line.key))
            }
            Self::Address(text) => {
                let address: IpAddr = text.parse().map_err(|_| TargetError::NoAddress)?;
                Ok(TraceFilter::address(match address {
                    IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
                    IpAddr::V6(v6) => v6.octets(),
                }))
            }
        }
    }
}

fn line(text: &str, ports: &[(String, u32)]) -> Result<LineKey, TargetError> {
    let wrong = || TargetError::NoLine(text.to_owned());
    let (port, vids) = match text.rsplit_once('/') {
        Some((port, vids)) => {
            let vids: Result<Vec<u16>, _> = vids.split('.').map(str::parse).collect();
            (port, vids.map_err(|_| wrong())?)
        }
        None => (text, Vec::new()),
    };
    let tags = Tags::from_vids(&vids).map_err(|_| wrong())?;
    let known = ports.iter().find(|(name, _)| name == port);
    let (_, ifindex) = known.ok_or_else(|| TargetError::NoPort {
        port: port.to_owned(),
        ports: ports.iter().map(|(name, _)| name.clone()).collect(),
    })?;
    let (s_vid, c_vid) = match tags.as_slice() {
        [s, c] => (s.vid, c.vid),
        [c] => (0, c.vid),
        _ => (0, 0),
    };
    Ok(LineKey {
        ifindex: *ifindex,
        s_vid,
        c_vid,
    })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn filter(target: Target) -> Result<TraceFilter, TargetError> {
        let text =
            "location,port,s_vlan,c_vlan\n110103-xinjingjiayuan-001-002-004,access0,101,1004\n";
        let inventory = Inventory::parse(Path::new("lines.csv"), text, |_| Some(7));
        let ports = [("access0".to_owned(), 7), ("lan/1.5".to_owned(), 8)];
        target.filter(&ports, &inventory.expect("an inventory"))
    }

    fn key(ifindex: u32, s_vid: u16, c_vid: u16) -> Result<TraceFilter, TargetError> {
        Ok(TraceFilter::line(LineKey {
            ifindex,
            s_vid,
            c_vid,
        }))
    }

    #[test]
    fn lines_and_locations() {
        for (text, expected) in [
            ("access0/101.1004", key(7, 101, 1004)),
            ("access0/300", key(7, 0, 300)),
            ("access0", key(7, 0, 0)),
            ("lan/1.5/9", key(8, 0, 9)),
        ] {
            assert_eq!(filter(Target::Line(text.into())), expected, "{text}");
        }
        let location = Target::Location("110103-xinjingjiayuan-001-002-004".into());
        assert_eq!(filter(location), key(7, 101, 1004));
    }

    #[test]
    fn addresses_of_both_families() {
        for (text, bytes) in [
            (
                "100.64.1.10",
                [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 255, 255, 100, 64, 1, 10],
            ),
            (
                "2001:db8::5",
                [0x20, 1, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 5],
            ),
        ] {
            let expected = Ok(TraceFilter::address(bytes));
            assert_eq!(filter(Target::Address(text.into())), expected, "{text}");
        }
    }

    #[test]
    fn errors_say_what_to_write_instead() {
        for (target, expected) in [
            (Target::Line("access0/0".into()), "is not a line: PORT/S.C"),
            (Target::Line("access0/1.2.3".into()), "is not a line"),
            (Target::Line("access0/".into()), "is not a line"),
            (
                Target::Line("uplink0/5".into()),
                "'uplink0' is not an access port; there are access0, lan/1.5",
            ),
            (Target::Location("here".into()), "'here' is not a location"),
            (
                Target::Location("110103-xinjingjiayuan-001-002-005".into()),
                "is not in the inventory",
            ),
            (Target::Address("100.64.1.0/24".into()), "not an IP address"),
        ] {
            let error = filter(target).expect_err(expected).to_string();
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn an_error_keeps_the_address_to_itself() {
        let error = filter(Target::Address("100.64.1.300".into())).expect_err("no address");
        assert!(!format!("{error} {error:?}").contains("100.64"), "{error}");
    }
}
