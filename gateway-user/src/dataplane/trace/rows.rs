//! `TRACE_FILTERS`: a row for each trace.

use aya::maps::{Array, MapData};
use doorstep_gateway_common::names::map::TRACE_FILTERS;
use doorstep_gateway_common::trace::{MAX_FILTERS, TraceFilter};

use crate::dataplane::pins::Pins;
use crate::dataplane::{DataplaneError, maps};

pub(super) struct Rows(Array<MapData, TraceFilter>);

impl Rows {
    /// Empties what an earlier daemon left.
    pub(super) fn open(pins: &Pins) -> Result<Self, DataplaneError> {
        let mut rows = Self(maps::pinned(pins, TRACE_FILTERS)?);
        for row in 0..MAX_FILTERS {
            rows.set(row, TraceFilter::default())?;
        }
        Ok(rows)
    }

    pub(super) fn set(&mut self, row: u32, filter: TraceFilter) -> Result<(), DataplaneError> {
        self.0
            .set(row, filter, 0)
            .map_err(maps::error(TRACE_FILTERS))
    }
}
