//! Rules as the kernel takes them.

use std::net::IpAddr;

use ipnet::IpNet;
use rtnetlink::Handle;
use rtnetlink::packet_route::rule::{RuleAction, RuleMessage};

/// Packets from these addresses look at a table.
pub(super) fn by_source(handle: &Handle, source: IpNet, table: u32, priority: u32) -> RuleMessage {
    let rule = handle.rule().add().table_id(table).priority(priority);
    let rule = rule.action(RuleAction::ToTable);
    let len = source.prefix_len();
    match source.addr() {
        IpAddr::V4(a) => rule.v4().source_prefix(a, len).message_mut().clone(),
        IpAddr::V6(a) => rule.v6().source_prefix(a, len).message_mut().clone(),
    }
}

/// Packets that come in by an interface look at a table.
pub(super) fn by_interface(
    handle: &Handle,
    link: &str,
    v6: bool,
    table: u32,
    priority: u32,
) -> RuleMessage {
    let rule = handle.rule().add().table_id(table).priority(priority);
    let rule = rule.action(RuleAction::ToTable).input_interface(link);
    if v6 {
        rule.v6().message_mut().clone()
    } else {
        rule.v4().message_mut().clone()
    }
}

/// Adds a rule.
pub(super) async fn add(handle: &Handle, rule: RuleMessage) -> Result<(), rtnetlink::Error> {
    let mut request = handle.rule().add();
    *request.message_mut() = rule;
    request.execute().await
}
