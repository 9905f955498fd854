//! `TRACE_FILTERS`: a row for each trace.

use aya::maps::{Array, Map, MapData, MapError};
use doorstep_gateway_common::names::map::TRACE_FILTERS;
use doorstep_gateway_common::trace::{MAX_FILTERS, TraceFilter};

use crate::dataplane::DataplaneError;
use crate::dataplane::pins::Pins;

pub(super) struct Rows(Array<MapData, TraceFilter>);

impl Rows {
    /// Empties what an earlier daemon left.
    pub(super) fn open(pins: &Pins) -> Result<Self, DataplaneError> {
        let data = MapData::from_pin(pins.map(TRACE_FILTERS)).map_err(failed)?;
        let map = Map::from_map_data(data).map_err(failed)?;
        let mut rows = Self(Array::try_from(map).map_err(failed)?);
        for row in 0..MAX_FILTERS {
            rows.set(row, TraceFilter::default())?;
        }
        Ok(rows)
    }

    pub(super) fn set(&mut self, row: u32, filter: TraceFilter) -> Result<(), DataplaneError> {
        self.0.set(row, filter, 0).map_err(failed)
    }
}

fn failed(source: MapError) -> DataplaneError {
    DataplaneError::Map {
        map: TRACE_FILTERS,
        source: Box::new(source),
    }
}
