//! Which index an operator has. It is part of the keys of maps and journal, and so for ever: one
//! that was given out is never given to another name.

use std::collections::{BTreeMap, BTreeSet};

use doorstep_gateway_common::OperatorIndex;
use doorstep_gateway_common::operator::MAX_OPERATORS;
use thiserror::Error;

use super::Operator;

/// Indexes by the operators' names.
pub type Indexes = BTreeMap<String, OperatorIndex>;

#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum IndexError {
    #[error(
        "operator '{name}' is to have index {wanted}, but its sessions and receipts go by index \
         {known}; write `index = {known}`, or leave index out"
    )]
    Moved {
        name: String,
        known: OperatorIndex,
        wanted: OperatorIndex,
    },
    #[error(
        "operator '{name}' is to have index {index}, which is operator '{owner}' and is never \
         given to another; leave index out, or write one that was never used"
    )]
    Taken {
        name: String,
        index: OperatorIndex,
        owner: String,
    },
    #[error(
        "operator '{name}' cannot have an index: all of 1..={} have been given out; disconnect \
         all sessions, then begin with an empty state_dir",
        MAX_OPERATORS - 1
    )]
    Exhausted { name: String },
}

/// The index of every operator: the known one, else the one that it is to have, else the lowest
/// that was never used.
pub(super) fn assign(operators: &[Operator], known: &Indexes) -> Result<Indexes, IndexError> {
    let mut assigned = Indexes::new();
    let mut owners: BTreeMap<OperatorIndex, &str> = known
        .iter()
        .map(|(name, index)| (*index, name.as_str()))
        .collect();
    for Operator { name, .. } in operators {
        if let Some(index) = known.get(name) {
            assigned.insert(name.clone(), *index);
        }
    }
    for operator in operators {
        let (name, Some(wanted)) = (&operator.name, operator.fixed_index) else {
            continue;
        };
        if let Some(known) = assigned.get(name).copied().filter(|known| *known != wanted) {
            return Err(IndexError::Moved {
                name: name.clone(),
                known,
                wanted,
            });
        }
        let owner = *owners.entry(wanted).or_insert(name);
        if owner != name {
            return Err(IndexError::Taken {
                name: name.clone(),
                index: wanted,
                owner: owner.to_owned(),
            });
        }
        assigned.insert(name.clone(), wanted);
    }
    let used: BTreeSet<OperatorIndex> = owners.into_keys().collect();
    let mut unused = (1..MAX_OPERATORS as OperatorIndex).filter(|index| !used.contains(index));
    for Operator { name, .. } in operators {
        if !assigned.contains_key(name) {
            let index = unused
                .next()
                .ok_or_else(|| IndexError::Exhausted { name: name.clone() })?;
            assigned.insert(name.clone(), index);
        }
    }
    Ok(assigned)
}
