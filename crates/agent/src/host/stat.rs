//! `stat`: interrupts, context switches, forks, boot time and processes, from `/proc/stat`.

use super::file::{KeptFile, float};
use super::{CollectError, Collector, Roots};
use crate::samples::Samples;

/// Vectors of the `softirq` line, behind its total.
const VECTORS: [&str; 10] =
    ["hi", "timer", "net_tx", "net_rx", "block", "block_iopoll", "tasklet", "sched", "hrtimer", "rcu"];

pub struct Stat {
    file: KeptFile,
    softirqs: bool,
}

impl Stat {
    pub fn new(roots: &Roots, softirqs: bool) -> Self {
        Stat { file: KeptFile::new(roots.proc.join("stat")), softirqs }
    }
}

impl Collector for Stat {
    fn name(&self) -> &'static str {
        "stat"
    }

    fn collect(&mut self, buffer: &mut Vec<u8>, out: &mut Samples) -> Result<(), CollectError> {
        for line in self.file.read(buffer)?.lines() {
            // The interrupt line can be tens of kilobytes; only its first number is wanted.
            let mut words = line.split_ascii_whitespace();
            let (Some(key), Some(value)) = (words.next(), words.next().and_then(float)) else {
                continue;
            };
            match key {
                "intr" => out.counter("node_intr_total", &[], value),
                "ctxt" => out.counter("node_context_switches_total", &[], value),
                "btime" => out.gauge("node_boot_time_seconds", &[], value),
                "processes" => out.counter("node_forks_total", &[], value),
                "procs_running" => out.gauge("node_procs_running", &[], value),
                "procs_blocked" => out.gauge("node_procs_blocked", &[], value),
                "softirq" if self.softirqs => {
                    for (vector, count) in VECTORS.iter().zip(words.filter_map(float)) {
                        out.counter("node_softirqs_total", &[("vector", vector)], count);
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }
}
