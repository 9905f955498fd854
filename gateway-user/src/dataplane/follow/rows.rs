//! The rows of `OPERATORS` and `UPLINKS`, written where they differ.

use std::collections::HashMap;

use doorstep_gateway_common::OperatorIndex;
use doorstep_gateway_common::names::map;
use doorstep_gateway_common::operator::{OperatorValue, UplinkKey, UplinkValue};
use doorstep_gateway_common::table::Layout;

use super::decide::Decision;
use crate::dataplane::DataplaneError;
use crate::dataplane::maps::{self, CellTable, Operators};
use crate::dataplane::pins::Pins;

/// Both maps, which it alone writes. Of `OPERATORS`, what was written last.
pub(super) struct Writer {
    operators: Operators,
    uplinks: CellTable<UplinkKey, UplinkValue>,
    written: HashMap<OperatorIndex, OperatorValue>,
}

impl Writer {
    pub(super) fn open(pins: &Pins) -> Result<Self, DataplaneError> {
        Ok(Self {
            operators: Operators::open(pins)?,
            uplinks: maps::cells(pins, map::UPLINKS, Layout::UPLINKS)?,
            written: HashMap::new(),
        })
    }

    /// Makes the maps what was decided for all operators.
    pub(super) fn write_all(&mut self, decisions: &[Decision]) -> Result<(), DataplaneError> {
        let uplinks = decisions.iter().filter_map(|decision| decision.uplink);
        self.uplinks.replace_all(&uplinks.collect())?;
        decisions
            .iter()
            .try_for_each(|decision| self.write(decision))
    }

    pub(super) fn write(&mut self, decision: &Decision) -> Result<(), DataplaneError> {
        let &Decision {
            operator, value, ..
        } = decision;
        if self.written.get(&operator) != Some(&value) {
            self.operators.set(operator, value)?;
            self.written.insert(operator, value);
        }
        if let Some((key, value)) = &decision.uplink {
            self.uplinks.upsert(key, value)?;
            self.uplinks.wait();
        }
        Ok(())
    }

    /// Has all of `OPERATORS` written again; of `UPLINKS` it is known what is there.
    pub(super) fn forget(&mut self) {
        self.written.clear();
    }
}
