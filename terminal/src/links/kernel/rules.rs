//! Rules as the kernel takes them.

use std::net::IpAddr;

use rtnetlink::packet_route::rule::{RuleAction, RuleMessage};
use rtnetlink::{Error, Handle};

use crate::links::Rule;

/// Adds a rule.
pub(super) async fn add(handle: &Handle, rule: &Rule) -> Result<(), Error> {
    let mut request = handle.rule().add();
    *request.message_mut() = message(handle, rule);
    request.execute().await
}

/// Deletes it.
pub(super) async fn delete(handle: &Handle, rule: &Rule) -> Result<(), Error> {
    handle.rule().del(message(handle, rule)).execute().await
}

fn message(handle: &Handle, rule: &Rule) -> RuleMessage {
    let request = handle.rule().add();
    let request = request.table_id(rule.table).priority(rule.priority);
    let mut request = request.action(RuleAction::ToTable);
    if let Some(link) = &rule.link {
        request = request.input_interface(link);
    }
    // The kernel shows no source where all of them are meant.
    match (rule.source.addr(), rule.source.prefix_len()) {
        (IpAddr::V4(_), 0) => request.v4().message_mut().clone(),
        (IpAddr::V6(_), 0) => request.v6().message_mut().clone(),
        (IpAddr::V4(a), len) => request.v4().source_prefix(a, len).message_mut().clone(),
        (IpAddr::V6(a), len) => request.v6().source_prefix(a, len).message_mut().clone(),
    }
}
