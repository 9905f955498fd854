//! What people say of which packets are to be followed.

use std::net::IpAddr;
use std::path::Path;
use std::sync::LazyLock;

use doorstep_gateway::inventory::Inventory;
use doorstep_gateway::trace::{Target as Wanted, TargetError};
use doorstep_gateway_common::trace::TraceFilter;

use crate::Target;
use crate::mutate::Shape;

pub const TARGET: Target = Target {
    name: "trace_target",
    about: "lines, locations and addresses to follow: one filter for each, no address in errors",
    check,
    seeds,
    shape: Shape::Text,
    words: &["access0", "lan/1.5", "4094", "::ffff:", "/"],
    inputs: 10_000,
};

const PORTS: [(&str, u32); 2] = [("access0", 7), ("lan/1.5", 8)];
const LOCATION: &str = "110103-xinjingjiayuan-001-002-004";

static INVENTORY: LazyLock<Inventory> = LazyLock::new(|| {
    let text = format!("location,port,s_vlan,c_vlan\n{LOCATION},access0,101,1004\n");
    Inventory::parse(Path::new("lines.csv"), &text, |_| Some(7)).expect("an inventory")
});

fn seeds() -> Vec<Vec<u8>> {
    let texts = [
        "access0/101.1004",
        "access0/300",
        "access0",
        "lan/1.5/9",
        LOCATION,
        "100.64.1.10",
        "2001:db8::5",
    ];
    texts.map(|text| text.as_bytes().to_vec()).to_vec()
}

fn check(data: &[u8]) {
    let text = String::from_utf8_lossy(data).into_owned();
    let ports = PORTS.map(|(name, index)| (name.to_owned(), index));
    let filter = |wanted: Wanted| wanted.filter(&ports, &INVENTORY);

    if let Ok(TraceFilter { flags, line, .. }) = filter(Wanted::Line(text.clone())) {
        assert_eq!(flags, TraceFilter::ENABLED | TraceFilter::LINE);
        let (port, _) = PORTS
            .into_iter()
            .find(|(_, index)| *index == line.ifindex)
            .expect("a port");
        let again = match (line.s_vid, line.c_vid) {
            (0, 0) => port.to_owned(),
            (0, c_vid) => format!("{port}/{c_vid}"),
            (s_vid, c_vid) => format!("{port}/{s_vid}.{c_vid}"),
        };
        assert_eq!(filter(Wanted::Line(again)), Ok(TraceFilter::line(line)));
    }
    match filter(Wanted::Location(text.clone())) {
        Ok(found) => assert_eq!(found.line.c_vid, 1004),
        Err(error) => assert!(!matches!(error, TargetError::NoAddress), "{error}"),
    }
    match (
        filter(Wanted::Address(text.clone())),
        text.parse::<IpAddr>(),
    ) {
        (Ok(found), Ok(_)) => assert_eq!(found.flags, TraceFilter::ENABLED | TraceFilter::ADDRESS),
        (Err(error), Err(_)) => assert_eq!(error, TargetError::NoAddress),
        (found, _) => panic!("{text:?}: {found:?}"),
    }
}
