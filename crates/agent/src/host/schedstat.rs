//! `schedstat`: time that tasks ran and waited by CPU, from `/proc/schedstat`.

use super::file::{KeptFile, float};
use super::{CollectError, Collector, Roots};
use crate::samples::Samples;

const NANOSECONDS_PER_SECOND: f64 = 1e9;

pub struct SchedStat {
    file: KeptFile,
}

impl SchedStat {
    pub fn new(roots: &Roots) -> Self {
        SchedStat { file: KeptFile::new(roots.proc.join("schedstat")) }
    }
}

impl Collector for SchedStat {
    fn name(&self) -> &'static str {
        "schedstat"
    }

    fn collect(&mut self, buffer: &mut Vec<u8>, out: &mut Samples) -> Result<(), CollectError> {
        for line in self.file.read(buffer)?.lines() {
            let Some(rest) = line.strip_prefix("cpu") else {
                continue;
            };
            let mut words = rest.split_ascii_whitespace();
            let Some(cpu) = words.next() else {
                continue;
            };
            // Columns 7 to 9 of versions 14 to 17 of the format.
            let mut columns = words.skip(6).map(float);
            let (Some(Some(running)), Some(Some(waiting)), Some(Some(slices))) =
                (columns.next(), columns.next(), columns.next())
            else {
                continue;
            };
            let labels = [("cpu", cpu)];
            out.counter("node_schedstat_running_seconds_total", &labels, running / NANOSECONDS_PER_SECOND);
            out.counter("node_schedstat_waiting_seconds_total", &labels, waiting / NANOSECONDS_PER_SECOND);
            out.counter("node_schedstat_timeslices_total", &labels, slices);
        }
        Ok(())
    }
}
