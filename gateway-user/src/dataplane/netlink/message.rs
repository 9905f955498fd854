//! Routes and rules as messages for the kernel.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use doorstep_gateway_common::meta;
use ipnet::IpNet;
use rtnetlink::RouteMessageBuilder;
use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::route::{
    RouteAttribute, RouteMessage, RouteMetric, RouteScope, RouteType,
};
use rtnetlink::packet_route::rule::{RuleAction, RuleAttribute, RuleMessage};

use crate::dataplane::host::{Hop, Route, Rule};

/// The metric of a route that is taken when no other fits.
const LAST: u32 = 4_278_198_272;

/// `RTAX_MTU` of linux/rtnetlink.h, as a bit of `RTAX_LOCK`.
const MTU_LOCKED: u32 = 1 << 2;

pub(super) fn route(route: &Route) -> RouteMessage {
    match route.prefix {
        IpNet::V4(prefix) => {
            let builder = RouteMessageBuilder::<Ipv4Addr>::new()
                .table_id(route.table)
                .destination_prefix(prefix.network(), prefix.prefix_len());
            match route.hop {
                Hop::Link { ifindex, source } => {
                    let builder = builder.output_interface(ifindex).scope(RouteScope::Link);
                    match source {
                        Some(IpAddr::V4(source)) => builder.pref_source(source),
                        _ => builder,
                    }
                }
                Hop::Via { ifindex, address } => {
                    let builder = builder.output_interface(ifindex).onlink();
                    match address {
                        IpAddr::V4(address) => builder.gateway(address),
                        IpAddr::V6(address) => builder.via(address),
                    }
                }
                Hop::Unreachable => builder.kind(RouteType::Unreachable).priority(LAST),
            }
            .build()
        }
        IpNet::V6(prefix) => {
            let builder = RouteMessageBuilder::<Ipv6Addr>::new()
                .table_id(route.table)
                .destination_prefix(prefix.network(), prefix.prefix_len());
            match route.hop {
                Hop::Link { ifindex, source } => {
                    let builder = builder.output_interface(ifindex);
                    match source {
                        Some(IpAddr::V6(source)) => builder.pref_source(source),
                        _ => builder,
                    }
                }
                Hop::Via {
                    ifindex,
                    address: IpAddr::V6(address),
                } => builder.output_interface(ifindex).gateway(address).onlink(),
                // No IPv6 route has an IPv4 gateway.
                Hop::Via { .. } | Hop::Unreachable => {
                    builder.kind(RouteType::Unreachable).priority(LAST)
                }
            }
            .build()
        }
    }
}

/// A route that takes packets up to so many bytes of IP. The value is locked: nothing that the
/// kernel learns later replaces it, and no kernel passes it over for packets that it forwards.
pub(super) fn route_with_mtu(of: &Route, mtu: u16) -> RouteMessage {
    let mut message = route(of);
    message.attributes.push(RouteAttribute::Metrics(vec![
        RouteMetric::Lock(MTU_LOCKED),
        RouteMetric::Mtu(mtu.into()),
    ]));
    message
}

/// Any default route of a table with the metric that [`route`] gives: what a removal matches.
pub(super) fn default_route(table: u32, v6: bool) -> RouteMessage {
    const DEFAULT_METRIC_V6: u32 = 1024;
    match v6 {
        false => RouteMessageBuilder::<Ipv4Addr>::new()
            .table_id(table)
            .build(),
        true => RouteMessageBuilder::<Ipv6Addr>::new()
            .table_id(table)
            .priority(DEFAULT_METRIC_V6)
            .build(),
    }
}

/// What asks for the routes of a table.
pub(super) fn routes_of(table: u32, v6: bool) -> RouteMessage {
    let mut message = RouteMessage::default();
    message.header.address_family = match v6 {
        true => AddressFamily::Inet6,
        false => AddressFamily::Inet,
    };
    message.attributes.push(RouteAttribute::Table(table));
    message
}

pub(super) fn rule(rule: &Rule) -> RuleMessage {
    let mut message = RuleMessage::default();
    message.header.family = match rule.v6 {
        true => AddressFamily::Inet6,
        false => AddressFamily::Inet,
    };
    message.header.action = RuleAction::ToTable;
    message.attributes = vec![
        RuleAttribute::Priority(rule.priority),
        RuleAttribute::FwMark(rule.mark),
        RuleAttribute::FwMask(meta::MARK_MASK),
        RuleAttribute::Table(rule.table),
    ];
    message
        .attributes
        .extend(rule.from_port.clone().map(RuleAttribute::Iifname));
    message
}
