//! One operator's part of the configuration, checked against the others.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::Range;
use std::path::Path;

use doorstep_gateway_common::OperatorIndex;
use doorstep_gateway_common::operator::MAX_OPERATORS;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use toml::Spanned;
use tonic::codegen::http::Uri;

use super::problem::Problems;
use super::validate::{name, port_name, ranged};
use super::{AccessPort, Address, Operator, Server, garden, raw};
use crate::dataplane;

const MAX_VID: u16 = 4094;
/// linux/rtnetlink.h
const UNSPECIFIED: u32 = 0;
const LOCAL_TABLE: u32 = 255;

/// What earlier operators have taken, and whose it is.
#[derive(Default)]
pub(super) struct Seen {
    names: HashMap<String, ()>,
    indexes: HashMap<OperatorIndex, String>,
    uplinks: HashMap<(String, u16), String>,
    prefixes: Vec<(IpNet, String)>,
}

pub(super) struct Check<'a, 'text> {
    pub problems: &'a mut Problems<'text>,
    pub seen: &'a mut Seen,
    pub folder: &'a Path,
    pub access_ports: &'a [AccessPort],
    pub delegated_prefix_len: u8,
    pub garden: &'a garden::Limits,
}

impl Check<'_, '_> {
    pub fn operator(mut self, raw: raw::Operator) -> Operator {
        let operator_name = raw.name.get_ref().clone();
        name(self.problems, "an operator's name", &raw.name);
        if self.seen.names.insert(operator_name.clone(), ()).is_some() {
            self.problems.add(
                raw.name.span(),
                format_args!("operator '{operator_name}' is named twice"),
            );
        }
        let fixed_index = self.index(raw.index, &operator_name);
        let uplink_vlan = self.uplink(&raw.uplink, raw.uplink_vlan, &operator_name);
        let (subscriber_v4, subscriber_v6) = self.prefixes(raw.subscriber_prefixes, &operator_name);
        let routing_table = self.routing_table(raw.routing_table, !raw.next_hops.is_empty());
        let (next_hop_v4, next_hop_v6) = self.addresses("next hop", raw.next_hops, |address| {
            let inside = match address {
                IpAddr::V4(address) => subscriber_v4.iter().any(|net| net.contains(&address)),
                IpAddr::V6(address) => subscriber_v6.iter().any(|net| net.contains(&address)),
            };
            inside.then(|| {
                format!(
                    "next hop {address} lies in the operator's subscriber_prefixes, \
                     which are routed to the lines"
                )
            })
        });
        let (gateway_v4, gateway_v6) =
            self.addresses("gateway address", raw.gateway_addresses, |_| None);
        let garden = raw.garden.map(|raw| self.garden(raw, &operator_name));
        Operator {
            name: operator_name,
            index: fixed_index.unwrap_or_default(),
            fixed_index,
            uplink: raw.uplink.into_inner(),
            uplink_vlan,
            next_hop_v4,
            next_hop_v6,
            routing_table,
            subscriber_v4,
            subscriber_v6,
            gateway_v4,
            gateway_v6,
            hairpin: raw.hairpin,
            clamp_mss: raw.clamp_mss,
            tag_priority: raw.tag_priority,
            garden,
            server: self.server(raw.server),
        }
    }

    fn index(
        &mut self,
        index: Option<Spanned<OperatorIndex>>,
        operator: &str,
    ) -> Option<OperatorIndex> {
        let index = index?;
        let (span, index) = (index.span(), index.into_inner());
        if !(1..MAX_OPERATORS).contains(&u32::from(index)) {
            self.problems.add(
                span.clone(),
                format_args!("index {index} is not in 1..={}", MAX_OPERATORS - 1),
            );
        }
        if let Some(other) = self.seen.indexes.insert(index, operator.to_owned()) {
            self.problems.add(
                span,
                format_args!("index {index} is operator '{other}' already; give each its own"),
            );
        }
        Some(index)
    }

    fn uplink(
        &mut self,
        uplink: &Spanned<String>,
        vlan: Option<Spanned<u16>>,
        operator: &str,
    ) -> u16 {
        port_name(self.problems, "uplink", uplink);
        let port = uplink.get_ref();
        if self.access_ports.iter().any(|access| access.name == *port) {
            self.problems.add(
                uplink.span(),
                format_args!("port '{port}' is an access port and cannot be an uplink as well"),
            );
        }
        let vid = ranged(self.problems, "uplink_vlan", vlan, 0, 0..=MAX_VID);
        let taken = self
            .seen
            .uplinks
            .insert((port.clone(), vid), operator.to_owned());
        if let Some(other) = taken {
            self.problems.add(
                uplink.span(),
                format_args!(
                    "uplink '{port}' with VLAN {vid} is operator '{other}' already; \
                     operators on one port need different uplink_vlan"
                ),
            );
        }
        vid
    }

    fn routing_table(&mut self, table: Option<Spanned<u32>>, has_next_hops: bool) -> Option<u32> {
        let table = table?;
        let (span, table) = (table.span(), table.into_inner());
        if has_next_hops {
            self.problems.add(
                span.clone(),
                "an operator has either next_hops, which are fixed, or a routing_table that has \
                 them; leave one out",
            );
        }
        if table == UNSPECIFIED || table == LOCAL_TABLE {
            self.problems.add(
                span,
                format_args!(
                    "routing_table = {table} is no table for default routes; write 254 for the \
                     main table, or the one that the routing daemon fills"
                ),
            );
        } else if dataplane::is_own_table(table) {
            self.problems.add(
                span,
                format_args!(
                    "routing_table = {table} is one that the gateway fills by itself; write the \
                     one that the routing daemon fills"
                ),
            );
        }
        Some(table)
    }

    fn prefixes(
        &mut self,
        prefixes: Spanned<Vec<Spanned<String>>>,
        operator: &str,
    ) -> (Vec<Ipv4Net>, Vec<Ipv6Net>) {
        let (mut v4, mut v6) = (Vec::new(), Vec::new());
        if prefixes.get_ref().is_empty() {
            self.problems
                .add(prefixes.span(), "subscriber_prefixes needs a prefix");
        }
        for prefix in prefixes.into_inner() {
            let span = prefix.span();
            let Ok(net) = prefix.get_ref().parse::<IpNet>() else {
                self.problems.add(
                    span,
                    format_args!(
                        "'{}' is not a prefix such as 100.64.1.0/24 or 2001:db8:1000::/40",
                        prefix.get_ref()
                    ),
                );
                continue;
            };
            if net.trunc() != net {
                self.problems.add(
                    span.clone(),
                    format_args!("{net} has host bits set; write {}", net.trunc()),
                );
            }
            take(self.problems, self.seen, span.clone(), net, operator);
            match net {
                IpNet::V4(net) => v4.push(net),
                IpNet::V6(net) => {
                    if net.prefix_len() > self.delegated_prefix_len {
                        self.problems.add(
                            span,
                            format_args!(
                                "{net} is longer than delegated_prefix_len, {}: \
                                 no session's prefix fits into it",
                                self.delegated_prefix_len
                            ),
                        );
                    }
                    v6.push(net);
                }
            }
        }
        (v4, v6)
    }

    fn garden(&mut self, raw: raw::OperatorGarden, operator: &str) -> garden::Garden {
        let seen = &mut *self.seen;
        garden::operator(
            self.problems,
            raw,
            self.garden,
            self.delegated_prefix_len,
            |problems, span, net| take(problems, seen, span, net, operator),
        )
    }

    /// At most one address of each family.
    fn addresses(
        &mut self,
        what: &str,
        addresses: Vec<Spanned<String>>,
        objection: impl Fn(IpAddr) -> Option<String>,
    ) -> (Option<Ipv4Addr>, Option<Ipv6Addr>) {
        let (mut v4, mut v6) = (None, None);
        for address in addresses {
            let span = address.span();
            let Ok(address) = address.get_ref().parse::<IpAddr>() else {
                let what = format!("{what} '{}' is not an IP address", address.get_ref());
                self.problems.add(span, what);
                continue;
            };
            if address.is_unspecified() || address.is_multicast() || address.is_loopback() {
                self.problems.add(
                    span.clone(),
                    format_args!("{what} {address} is not a host's"),
                );
            }
            if let Some(objection) = objection(address) {
                self.problems.add(span.clone(), objection);
            }
            let second = match address {
                IpAddr::V4(address) => v4.replace(address).is_some(),
                IpAddr::V6(address) => v6.replace(address).is_some(),
            };
            if second {
                self.problems.add(
                    span,
                    format_args!("a second {what} of one family; at most one each is possible"),
                );
            }
        }
        (v4, v6)
    }

    fn server(&mut self, raw: raw::Server) -> Server {
        let server_name = raw.server_name.map(|name| {
            if name.get_ref().is_empty() {
                self.problems.add(name.span(), "server_name is empty");
            }
            name.into_inner()
        });
        let address = self.address(raw.url, server_name.as_deref());
        let mut replicas: Vec<Address> = Vec::new();
        for url in raw.replicas {
            let span = url.span();
            let replica = self.address(url, server_name.as_deref());
            if replica == address || replicas.contains(&replica) {
                let what = format!("'{}' is named twice", replica.url);
                self.problems.add(span, what);
            }
            replicas.push(replica);
        }
        Server {
            address,
            replicas,
            ca: self.folder.join(raw.ca),
            key: self.folder.join(raw.key.as_ref().unwrap_or(&raw.cert)),
            cert: self.folder.join(raw.cert),
        }
    }

    /// The name in the certificate is the URL's host, unless there is one for all.
    fn address(&mut self, url: Spanned<String>, server_name: Option<&str>) -> Address {
        let span = url.span();
        let url = url.into_inner();
        let uri = url.parse::<Uri>().ok();
        let host = uri.as_ref().and_then(Uri::host).unwrap_or_default();
        if uri.as_ref().and_then(Uri::scheme_str) != Some("https") || host.is_empty() {
            self.problems.add(
                span,
                format_args!("url '{url}' is not of the form https://host:port"),
            );
        }
        let host = host.trim_start_matches('[').trim_end_matches(']');
        Address {
            server_name: server_name.unwrap_or(host).to_owned(),
            url,
        }
    }
}

/// Takes a prefix for an operator, unless it is taken.
fn take(
    problems: &mut Problems<'_>,
    seen: &mut Seen,
    span: Range<usize>,
    net: IpNet,
    operator: &str,
) {
    let mut taken = seen.prefixes.iter();
    if let Some((other, owner)) = taken.find(|(other, _)| overlap(other, &net)) {
        let what = format!("{net} overlaps {other} of operator '{owner}'");
        problems.add(span, what);
    }
    seen.prefixes.push((net, operator.to_owned()));
}

fn overlap(a: &IpNet, b: &IpNet) -> bool {
    a.contains(b) || b.contains(a)
}
