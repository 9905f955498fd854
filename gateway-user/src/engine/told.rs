//! What the routers of a line are told: a read of its sessions.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use doorstep_establish::Mac;
use doorstep_ipoe::dhcp4::{self, Forcerenew, Lease, Times};
use doorstep_ipoe::frame::Datagram;
use doorstep_ipoe::holder::Replace;
use ipnet::Ipv4Net;

use super::dhcp::SETTLED;
use super::message::{CpeReplacement, Dhcp};
use super::row::{Phase, SessionRef};
use super::{Engine, Now, Session};

impl Engine {
    /// What routers are told of a session.
    pub(super) fn told(
        &self,
        session: SessionRef,
        held: &Session,
        client: Mac,
        counter: u64,
    ) -> Option<dhcp4::Line> {
        let connect = &held.row.connect;
        let (dhcp, address) = (connect.dhcp?, connect.ipv4?);
        let operator = self.operator(session.operator)?;
        let server = operator.gateway_v4?;
        let dns = connect.dns.iter().filter_map(|address| match address {
            IpAddr::V4(address) => Some(*address),
            IpAddr::V6(_) => None,
        });
        Some(dhcp4::Line {
            gateway_mac: self.settings.gateway_mac.0,
            server,
            lease: Some(Lease {
                address,
                prefix_len: prefix_len(&operator.subscriber_v4, address, server),
                dns: dns.collect(),
                mtu: held.mtu,
                times: Times::of(Duration::from_secs(dhcp.lease_s.into())),
                forcerenew: Some(Forcerenew::derive(
                    connect.key.as_bytes(),
                    connect.generation,
                    client.0,
                    counter,
                )),
            }),
            holder: held.holder(&self.dhcp),
            replace: replace(dhcp),
        })
    }

    /// What a router is told where there is no session: that it has no right to what it had. It takes
    /// that from the server that it has asked only.
    pub(super) fn told_of_none(&self, asked: &Datagram<'_>) -> dhcp4::Line {
        let operators = self.settings.operators.iter();
        let own = operators.filter_map(|operator| operator.gateway_v4).next();
        let server = match asked.destination {
            Ipv4Addr::BROADCAST => own.unwrap_or(Ipv4Addr::UNSPECIFIED),
            asked => asked,
        };
        dhcp4::Line {
            gateway_mac: self.settings.gateway_mac.0,
            server,
            lease: None,
            holder: None,
            replace: Replace::AtOnce,
        }
    }

    /// Has the router of a session that has ended renew, if it can be told to: it then hears that
    /// nothing is left.
    pub(super) fn force_renew(&mut self, session: SessionRef, held: &Session, now: Now) {
        let (Phase::Closing { opened, .. }, Some(xid)) = (&held.row.phase, held.client.told_nonce)
        else {
            return;
        };
        let Some(opened) = opened.filter(|_| !held.row.released) else {
            return;
        };
        let counter = self.dhcp.next_counter(now);
        let told = self.told(session, held, opened.mac, counter);
        let frame = told.and_then(|told| dhcp4::forcerenew(&told, opened.mac.0, xid, &held.tags()));
        if frame.is_some() {
            self.dhcp.count("forced_to_renew");
            self.send_to(held.line.key, frame);
        }
    }
}

pub(super) fn replace(dhcp: Dhcp) -> Replace {
    match dhcp.replacement {
        CpeReplacement::AtOnce => Replace::AfterHold(SETTLED),
        CpeReplacement::AfterHold { hold_s } => {
            let hold = Duration::from_secs(hold_s.into());
            Replace::AfterHold(hold.max(SETTLED))
        }
        CpeReplacement::Never => Replace::Never,
    }
}

/// The prefix that a router takes to be on the link: the one that holds its address, if it holds the
/// gateway's as well, which it then reaches without classless routes. ARP is answered for all of it.
fn prefix_len(prefixes: &[Ipv4Net], address: Ipv4Addr, server: Ipv4Addr) -> u8 {
    let both = |net: &&Ipv4Net| net.contains(&address) && net.contains(&server);
    prefixes.iter().find(both).map_or(32, Ipv4Net::prefix_len)
}
