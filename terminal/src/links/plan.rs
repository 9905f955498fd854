//! What to change: desired and actual compared. Pure.

use super::actual::Actual;
use super::{Item, Owned};

/// One change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Make it; it is recorded as ours.
    Make(Owned),
    /// Undo what we made.
    Undo(Owned),
}

/// Changes in the order in which to do them, and what is ours afterwards.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    /// The changes.
    pub steps: Vec<Step>,
    /// What is ours once all are done.
    pub owned: Vec<Owned>,
    /// Ports that are named but not there: the rest does without them.
    pub absent: Vec<String>,
}

impl Plan {
    /// Compares.
    ///
    /// What is ours and no longer desired is undone; what is desired and missing is made; what is
    /// there without being ours is left alone for ever. Where one value replaces another of ours,
    /// what was there before both is what will be put back. Interfaces and addresses go last: the
    /// kernel takes its time to delete an interface, and a moving home waits; with the last IPv4
    /// address of an interface it would flush the neighbours too.
    #[must_use]
    pub fn diff(desired: &[Item], owned: &[Owned], actual: &Actual) -> Self {
        let mut wanted = sorted(desired);
        let absent = absent(&wanted, actual);
        let mut without = absent.clone();
        without.extend(vlans_of(&absent, &wanted));
        wanted.retain(|item| match item {
            Item::Setting { .. } => !item
                .link()
                .is_some_and(|port| absent.iter().any(|own| own == port)),
            _ => !port_of(item).is_some_and(|port| without.contains(port)),
        });
        let (kept, gone): (Vec<&Owned>, Vec<&Owned>) =
            owned.iter().partition(|own| wanted.contains(&&own.item));
        let replaced = |item: &Item| gone.iter().find(|own| own.item.excludes(item));

        let mut plan = Self {
            absent: absent.clone(),
            ..Self::default()
        };
        let mut late = Vec::new();
        for own in gone.iter().rev() {
            // A new value is written over the old one.
            let value_follows = wanted
                .iter()
                .any(|item| item.excludes(&own.item) && has_former(item));
            if value_follows {
                continue;
            }
            if own.item.goes_last() {
                late.push(Step::Undo((*own).clone()));
            } else {
                plan.steps.push(Step::Undo((*own).clone()));
            }
        }
        for item in wanted {
            let ours = kept.iter().find(|own| own.item == *item);
            let there = actual.holds(item, ours.is_some());
            let own = match (ours, replaced(item)) {
                (Some(own), _) => (*own).clone(),
                (None, Some(old)) if has_former(item) => Owned {
                    item: item.clone(),
                    former: old.former.clone(),
                },
                (None, _) if there => continue,
                (None, _) => Owned {
                    item: item.clone(),
                    former: actual.former(item),
                },
            };
            if !there {
                plan.steps.push(Step::Make(own.clone()));
            }
            plan.owned.push(own);
        }
        plan.steps.append(&mut late);
        plan
    }
}

/// The port that the item is about, if it only makes a port ready.
fn port_of(item: &Item) -> Option<&String> {
    match item {
        Item::Up { link } | Item::Port { link, .. } => Some(link),
        Item::Vlan { name, .. } => Some(name),
        _ => None,
    }
}

/// VLAN interfaces of ports that are not there, as far as they are nothing but ports themselves: what
/// needs one for anything else fails.
fn vlans_of(ports: &[String], wanted: &[&Item]) -> Vec<String> {
    let is_port = |name: &String| {
        let mut about = wanted
            .iter()
            .filter(|item| item.link() == Some(name.as_str()));
        about.all(|item| port_of(item).is_some())
    };
    let vlan = |item: &&Item| match item {
        Item::Vlan { name, parent, .. } if ports.contains(parent) && is_port(name) => {
            Some(name.clone())
        }
        _ => None,
    };
    wanted.iter().filter_map(vlan).collect()
}

fn absent(wanted: &[&Item], actual: &Actual) -> Vec<String> {
    let made = |name: &String| {
        wanted.iter().any(|item| match item {
            Item::Vlan { name: n, .. } | Item::Bridge { name: n } => n == name,
            _ => false,
        })
    };
    let mut absent: Vec<String> = Vec::new();
    for port in wanted.iter().filter_map(|item| port_of(item)) {
        if !actual.links.contains_key(port) && !made(port) && !absent.contains(port) {
            absent.push(port.clone());
        }
    }
    absent
}

/// Whether making it writes over a value, which undoing it puts back.
fn has_former(item: &Item) -> bool {
    matches!(
        item,
        Item::Mtu { .. }
            | Item::Setting { .. }
            | Item::Port { .. }
            | Item::Nat { .. }
            | Item::File { .. }
    )
}

/// In the order of making, each thing once; of two that exclude each other the first counts.
fn sorted(desired: &[Item]) -> Vec<&Item> {
    let mut out: Vec<&Item> = Vec::with_capacity(desired.len());
    for item in desired {
        if !out.iter().any(|earlier| earlier.excludes(item)) {
            out.push(item);
        }
    }
    out.sort_by_key(|item| item.rank());
    out
}
