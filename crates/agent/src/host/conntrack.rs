//! `conntrack`: connection tracking, from `/proc/sys/net/netfilter` and `/proc/net/stat/nf_conntrack`.

use super::file::{KeptFile, float};
use super::{CollectError, Collector, Roots};
use crate::samples::Samples;

/// Metric suffixes and the columns of `/proc/net/stat/nf_conntrack` (hexadecimal, one line per CPU) they sum.
const COLUMNS: [(&str, usize); 8] = [
    ("node_nf_conntrack_stat_found", 2),
    ("node_nf_conntrack_stat_invalid", 4),
    ("node_nf_conntrack_stat_ignore", 5),
    ("node_nf_conntrack_stat_insert", 8),
    ("node_nf_conntrack_stat_insert_failed", 9),
    ("node_nf_conntrack_stat_drop", 10),
    ("node_nf_conntrack_stat_early_drop", 11),
    ("node_nf_conntrack_stat_search_restart", 16),
];

pub struct Conntrack {
    count: KeptFile,
    limit: KeptFile,
    statistics: KeptFile,
}

impl Conntrack {
    pub fn new(roots: &Roots) -> Self {
        let file = |path: &str| KeptFile::new(roots.proc.join(path));
        Conntrack {
            count: file("sys/net/netfilter/nf_conntrack_count"),
            limit: file("sys/net/netfilter/nf_conntrack_max"),
            statistics: file("net/stat/nf_conntrack"),
        }
    }
}

impl Collector for Conntrack {
    fn name(&self) -> &'static str {
        "conntrack"
    }

    fn collect(&mut self, buffer: &mut Vec<u8>, out: &mut Samples) -> Result<(), CollectError> {
        for (name, file) in
            [("node_nf_conntrack_entries", &mut self.count), ("node_nf_conntrack_entries_limit", &mut self.limit)]
        {
            let value = float(file.read(buffer)?.trim());
            out.gauge(name, &[], value.ok_or_else(|| file.malformed("expected one number"))?);
        }
        let text = self.statistics.read(buffer)?;
        let mut sums = [0_u64; COLUMNS.len()];
        for line in text.lines().skip(1) {
            let columns: Vec<&str> = line.split_ascii_whitespace().collect();
            for (sum, (_, column)) in sums.iter_mut().zip(COLUMNS) {
                let word = columns.get(column).copied().unwrap_or("0");
                let value = u64::from_str_radix(word, 16);
                *sum += value.map_err(|_| {
                    CollectError::malformed("/proc/net/stat/nf_conntrack".as_ref(), "expected hexadecimal columns")
                })?;
            }
        }
        for (sum, (name, _)) in sums.into_iter().zip(COLUMNS) {
            out.gauge(name, &[], sum as f64);
        }
        Ok(())
    }
}
