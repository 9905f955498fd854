//! The rows of `OPERATORS` and `UPLINKS`, written where they differ.

use std::collections::HashMap as Rows;

use aya::maps::{HashMap, Map, MapData, MapError};
use doorstep_gateway_common::OperatorIndex;
use doorstep_gateway_common::names::map;
use doorstep_gateway_common::operator::{OperatorValue, UplinkKey, UplinkValue};

use super::decide::Decision;
use crate::dataplane::DataplaneError;
use crate::dataplane::maps::Operators;
use crate::dataplane::pins::Pins;

/// Both maps, and what was written last.
pub(super) struct Writer {
    operators: Operators,
    uplinks: HashMap<MapData, UplinkKey, UplinkValue>,
    written: Rows<OperatorIndex, (OperatorValue, Option<(UplinkKey, UplinkValue)>)>,
}

impl Writer {
    pub(super) fn open(pins: &Pins) -> Result<Self, DataplaneError> {
        let uplinks = MapData::from_pin(pins.map(map::UPLINKS))
            .and_then(Map::from_map_data)
            .and_then(HashMap::try_from)
            .map_err(failed)?;
        Ok(Self {
            operators: Operators::open(pins)?,
            uplinks,
            written: Rows::new(),
        })
    }

    pub(super) fn write(&mut self, decision: &Decision) -> Result<(), DataplaneError> {
        let rows = (decision.value, decision.uplink);
        if self.written.get(&decision.operator) == Some(&rows) {
            return Ok(());
        }
        self.operators.set(decision.operator, decision.value)?;
        if let Some((key, value)) = decision.uplink {
            self.uplinks.insert(key, value, 0).map_err(failed)?;
        }
        self.written.insert(decision.operator, rows);
        Ok(())
    }

    /// Has everything written again.
    pub(super) fn forget(&mut self) {
        self.written.clear();
    }
}

fn failed(source: MapError) -> DataplaneError {
    DataplaneError::Map {
        map: map::UPLINKS,
        source: Box::new(source),
    }
}
