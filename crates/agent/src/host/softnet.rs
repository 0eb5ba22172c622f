//! `softnet`: the network's softirq work by CPU, from `/proc/net/softnet_stat` (hexadecimal columns).

use super::file::KeptFile;
use super::{CollectError, Collector, Roots};
use crate::samples::Samples;
use ers_wire::exposition::Kind;

/// Metrics and their columns; old kernels have fewer columns.
const COLUMNS: [(&str, Kind, usize); 7] = [
    ("node_softnet_processed_total", Kind::Counter, 0),
    ("node_softnet_dropped_total", Kind::Counter, 1),
    ("node_softnet_times_squeezed_total", Kind::Counter, 2),
    ("node_softnet_cpu_collision_total", Kind::Counter, 8),
    ("node_softnet_received_rps_total", Kind::Counter, 9),
    ("node_softnet_flow_limit_count_total", Kind::Counter, 10),
    ("node_softnet_backlog_len", Kind::Gauge, 11),
];
/// From Linux 5.14 on a column says which CPU a line is of: lines of offline CPUs are missing.
const CPU_COLUMN: usize = 12;

pub struct SoftNet {
    file: KeptFile,
}

impl SoftNet {
    pub fn new(roots: &Roots) -> Self {
        SoftNet { file: KeptFile::new(roots.proc.join("net/softnet_stat")) }
    }
}

impl Collector for SoftNet {
    fn name(&self) -> &'static str {
        "softnet"
    }

    fn collect(&mut self, buffer: &mut Vec<u8>, out: &mut Samples) -> Result<(), CollectError> {
        let path = self.file.path().to_owned();
        for (at, line) in self.file.read(buffer)?.lines().enumerate() {
            let columns: Option<Vec<u32>> =
                line.split_ascii_whitespace().map(|word| u32::from_str_radix(word, 16).ok()).collect();
            let Some(columns) = columns.filter(|columns| columns.len() >= 9) else {
                return Err(CollectError::malformed(&path, "expected nine hexadecimal columns or more"));
            };
            let cpu = columns.get(CPU_COLUMN).map_or(at as u64, |cpu| u64::from(*cpu)).to_string();
            for (name, kind, column) in COLUMNS {
                let value = columns.get(column).copied().unwrap_or(0);
                out.push(kind, &[name], &[("cpu", &cpu)], f64::from(value));
            }
        }
        Ok(())
    }
}
