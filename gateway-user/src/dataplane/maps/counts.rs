//! What the programs count, per CPU.

use aya::maps::PerCpuValues;
use doorstep_gateway_common::counters::{self, Tally};
use doorstep_gateway_common::names::map;
use doorstep_gateway_common::{Direction, Reason, Slot};

use super::{Maps, error};
use crate::dataplane::DataplaneError;
use crate::session::Counters;

impl Maps {
    pub(in crate::dataplane) fn counters(&self, slot: Slot) -> Result<Counters, DataplaneError> {
        let tally = |direction| -> Result<Tally, DataplaneError> {
            let values = self
                .counters
                .get(&counters::index(slot, direction), 0)
                .map_err(error(map::COUNTERS))?;
            Ok(values.iter().fold(Tally::default(), |sum, cpu| Tally {
                packets: sum.packets + cpu.packets,
                bytes: sum.bytes + cpu.bytes,
            }))
        };
        let (up, down) = (tally(Direction::Upstream)?, tally(Direction::Downstream)?);
        Ok(Counters {
            upstream_packets: up.packets,
            upstream_bytes: up.bytes,
            downstream_packets: down.packets,
            downstream_bytes: down.bytes,
            ..Counters::default()
        })
    }

    pub(in crate::dataplane) fn reset_counters(
        &mut self,
        slot: Slot,
    ) -> Result<(), DataplaneError> {
        let cpus = aya::util::nr_cpus().map_err(|(file, source)| DataplaneError::Io {
            path: file.into(),
            source,
        })?;
        for direction in [Direction::Upstream, Direction::Downstream] {
            let zero = PerCpuValues::try_from(vec![Tally::default(); cpus]).map_err(|source| {
                DataplaneError::Kernel {
                    what: "counting CPUs".to_owned(),
                    source,
                }
            })?;
            self.counters
                .set(counters::index(slot, direction), zero, 0)
                .map_err(error(map::COUNTERS))?;
        }
        Ok(())
    }

    pub(in crate::dataplane) fn reasons(&self) -> Result<Vec<(Reason, u64)>, DataplaneError> {
        Reason::ALL
            .iter()
            .map(|reason| {
                let values = self
                    .reasons
                    .get(&u32::from(reason.number()), 0)
                    .map_err(error(map::REASONS))?;
                Ok((*reason, values.iter().sum()))
            })
            .collect()
    }
}
