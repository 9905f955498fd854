//! Lines of every kind: without a tag, with one, with two; tagged by the building or the terminal.

use anyhow::ensure;
use doorstep_tests::lab::street::{Plan, Street, Tagging};
use doorstep_tests::suite::CaseResult;

use crate::support::{connect, needs_vlan_links, packets};

fn line(tags: usize, tagging: Tagging) -> CaseResult {
    let street = Street::new(Plan {
        tags,
        tagging,
        ..Plan::default()
    })?;
    let session = connect(&street, 0)?;
    let packets = packets(&street.gateways[0])?;
    for direction in ["forwarded_upstream", "forwarded_downstream"] {
        ensure!(
            packets[direction] > 50,
            "{direction}: {}",
            packets[direction]
        );
    }
    let wan = session.wan_interface.as_deref().unwrap_or_default();
    let expected = match (tagging, tags) {
        (Tagging::Terminal, 1..) => wan != "wan0" && wan.starts_with("wan0."),
        _ => wan == "wan0",
    };
    ensure!(expected, "the session is on {wan}");
    street.homes[0].release(&session.session_id)?;
    let links = street.homes[0].netns.ip("-o link show")?;
    ensure!(!links.contains("wan0."), "VLAN links are left: {links}");
    Ok(())
}

pub fn untagged() -> CaseResult {
    line(0, Tagging::Switch)
}

pub fn one_tag() -> CaseResult {
    line(1, Tagging::Switch)
}

pub fn two_tags() -> CaseResult {
    line(2, Tagging::Switch)
}

pub fn terminal_one_tag() -> CaseResult {
    needs_vlan_links()?;
    line(1, Tagging::Terminal)
}

pub fn terminal_two_tags() -> CaseResult {
    needs_vlan_links()?;
    line(2, Tagging::Terminal)
}
