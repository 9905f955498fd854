//! What becomes of a client's associations.

use std::net::Ipv6Addr;

use dhcproto::v6::Status;
use ipnet::Ipv6Net;

use super::message::{Association, Kind, Question, What};
use super::{Binding, Client};
use crate::line6::Session;

/// What a client is told about one of its associations.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Told {
    pub what: What,
    pub id: u32,
    /// What it has by this association, for the session's time.
    pub granted: Option<Ipv6Net>,
    /// What it must not use any more: told with lifetimes of zero.
    pub withdrawn: Vec<Ipv6Net>,
    /// Why it has nothing.
    pub status: Option<Status>,
}

impl Told {
    fn of(association: &Association) -> Self {
        Self {
            what: association.what,
            id: association.id,
            granted: None,
            withdrawn: Vec::new(),
            status: None,
        }
    }
}

/// Decides on all associations of a message that asks for something.
///
/// A session has one address and one prefix. So the association that the client has it by gets it;
/// else one that lists it already, as after a restart of the gateway or a move to this one; else the
/// one with the smallest id. The others get nothing. That a renewal may make a binding is RFC 8415's
/// choice (18.3.4, 18.3.5), and right here because the line, not the binding, says whose it is.
pub(super) fn decide(
    question: &Question,
    session: Option<&Session>,
    binding: Option<&Binding>,
) -> Vec<Told> {
    let own = |what| own(session, what);
    let chosen = [What::Address, What::Prefix].map(|what| {
        let lease = own(what)?;
        let mut candidates: Vec<_> = question
            .associations
            .iter()
            .filter(|association| association.what == what)
            .filter(|association| !is_elsewhere(question.kind, association, session))
            .collect();
        let recorded = binding.and_then(|binding| binding.id(what));
        candidates.sort_by_key(|candidate| {
            let known = recorded == Some(candidate.id);
            (!known, !candidate.lists(lease), candidate.id)
        });
        candidates.first().map(|first| (what, first.id, lease))
    });
    let mut granted: Vec<_> = chosen.into_iter().flatten().collect();
    question
        .associations
        .iter()
        .map(|association| {
            let mut told = Told::of(association);
            let lease = own(association.what);
            // Once, though a message may have an association twice.
            let key = (association.what, association.id);
            let place = granted.iter().position(|(what, id, _)| (*what, *id) == key);
            if is_elsewhere(question.kind, association, session) {
                told.status = Some(Status::NotOnLink);
                return told;
            }
            told.granted = place.map(|place| granted.swap_remove(place).2);
            if question.kind.extends() {
                let others = association.leases.iter().copied();
                told.withdrawn = others.filter(|other| Some(*other) != lease).collect();
            }
            if told.granted.is_none() && told.withdrawn.is_empty() {
                told.status = Some(nothing(question.kind, association.what, session));
            }
            told
        })
        .collect()
}

/// Whether a client requests an address of another link (RFC 8415, 18.3.2).
fn is_elsewhere(kind: Kind, association: &Association, session: Option<&Session>) -> bool {
    let on_link = |lease: &Ipv6Net| session.is_some_and(|session| session.on_link(lease.addr()));
    kind == Kind::Request
        && association.what != What::Prefix
        && !association.leases.iter().all(on_link)
}

/// Why there is nothing to be had by an association (RFC 8415, 18.3.1, 18.3.2, 18.3.4).
fn nothing(kind: Kind, what: What, session: Option<&Session>) -> Status {
    match (session, what) {
        (None, _) if kind.extends() => Status::NoBinding,
        (_, What::Prefix) => Status::NoPrefixAvail,
        (_, What::Address | What::Temporary) => Status::NoAddrsAvail,
    }
}

/// What a client gives back: the associations that it has nothing by (RFC 8415, 18.3.7, 18.3.8), and
/// what it had by the others.
pub(super) fn give_back(
    question: &Question,
    session: Option<&Session>,
    binding: Option<&Binding>,
) -> (Vec<Told>, Option<Binding>) {
    let mut unknown = Vec::new();
    let mut given: Option<Binding> = None;
    for association in &question.associations {
        let what = association.what;
        // Only an address can be in use by another device (RFC 8415, 18.2.8).
        if question.kind == Kind::Decline && what == What::Prefix {
            continue;
        }
        let held = binding.filter(|binding| binding.id(what) == Some(association.id));
        match held {
            None => unknown.push(Told {
                status: Some(Status::NoBinding),
                ..Told::of(association)
            }),
            // What is listed and is not the client's is passed over.
            Some(held) if own(session, what).is_some_and(|own| association.lists(own)) => {
                given
                    .get_or_insert_with(|| Binding::none(held.client.clone()))
                    .set(what, association.id);
            }
            Some(_) => {}
        }
    }
    (unknown, given)
}

/// Whether the addresses that a client has had belong on this link; none if it names no address, and
/// there is nothing to be said to it (RFC 8415, 18.3.3).
pub(super) fn confirm(question: &Question, session: Option<&Session>) -> Option<bool> {
    let mut addresses = question
        .associations
        .iter()
        .filter(|association| association.what != What::Prefix)
        .flat_map(|association| &association.leases)
        .peekable();
    addresses.peek()?;
    let on_link = |address: Ipv6Addr| session.is_some_and(|session| session.on_link(address));
    Some(addresses.all(|address| on_link(address.addr())))
}

/// What a client has by the message, and what it had by earlier ones.
pub(super) fn bound(told: &[Told], client: Client, before: Option<&Binding>) -> Option<Binding> {
    let mut binding = before.cloned().unwrap_or_else(|| Binding::none(client));
    let granted = told.iter().filter(|told| told.granted.is_some());
    let mut any = false;
    for told in granted {
        binding.set(told.what, told.id);
        any = true;
    }
    any.then_some(binding)
}

/// What the session has of a kind.
fn own(session: Option<&Session>, what: What) -> Option<Ipv6Net> {
    let session = session?;
    match what {
        What::Address => session.address().map(Ipv6Net::from),
        What::Temporary => None,
        What::Prefix => session.delegated.map(|prefix| prefix.trunc()),
    }
}

impl Binding {
    fn none(client: Client) -> Self {
        Self {
            client,
            address: None,
            prefix: None,
        }
    }

    fn id(&self, what: What) -> Option<u32> {
        match what {
            What::Address => self.address,
            What::Temporary => None,
            What::Prefix => self.prefix,
        }
    }

    pub(super) fn set(&mut self, what: What, id: u32) {
        match what {
            What::Address => self.address = Some(id),
            What::Temporary => {}
            What::Prefix => self.prefix = Some(id),
        }
    }
}
