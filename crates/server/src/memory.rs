//! How much memory this process may have, and how it is shared out, so that a limit is met by a refusal and not by the kernel's killer.

use std::fs;

/// Limits of a container (control group v2, then v1), and the machine's memory.
const LIMIT_FILES: [&str; 2] = ["/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"];
/// Resident memory of one active series with its open buffer, labels and postings, rounded up from what the store's bench measures.
const BYTES_PER_SERIES: u64 = 2048;
const BYTES_PER_QUERY_SAMPLE: u64 = 16;

/// What the parts of the server may take of the memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shares {
    /// A third: series in memory.
    pub max_active_series: usize,
    /// A sixteenth, at two bytes a compressed sample.
    pub max_head_samples: u64,
    /// A sixteenth: indexes of segments.
    pub index_cache_bytes: usize,
    /// An eighth: bodies of remote write that are decoded at the same time. At least the largest one fits.
    pub write_bytes: u64,
    /// A third, for all queries that run at the same time.
    pub max_samples_per_query: u64,
}

impl Shares {
    pub fn of(memory_bytes: u64, queries_at_once: usize) -> Self {
        let at_once = u64::try_from(queries_at_once.max(1)).unwrap_or(u64::MAX);
        let size = |bytes: u64| usize::try_from(bytes).unwrap_or(usize::MAX);
        Shares {
            max_active_series: size((memory_bytes / 3 / BYTES_PER_SERIES).clamp(20_000, 10_000_000)),
            max_head_samples: (memory_bytes / 16 / 2).clamp(1_000_000, 200_000_000),
            index_cache_bytes: size((memory_bytes / 16).clamp(4 << 20, 256 << 20)),
            write_bytes: (memory_bytes / 8).clamp(64 << 20, 256 << 20),
            max_samples_per_query: (memory_bytes / 3 / BYTES_PER_QUERY_SAMPLE / at_once).max(500_000),
        }
    }
}

/// Bytes that this process may use: the container's limit where there is one, else the machine's memory.
pub fn limit_bytes() -> u64 {
    let container =
        LIMIT_FILES.iter().filter_map(|path| fs::read_to_string(path).ok()?.trim().parse::<u64>().ok()).min();
    let machine = fs::read_to_string("/proc/meminfo").ok().and_then(|text| total_of(&text));
    container.into_iter().chain(machine).min().unwrap_or(1 << 30)
}

fn total_of(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    Some(line.split_whitespace().next()?.parse::<u64>().ok()? * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_shares_together_stay_below_the_limit() {
        for memory in [512 << 20, 1 << 30, 8 << 30_u64] {
            let shares = Shares::of(memory, 4);
            let taken = shares.max_active_series as u64 * BYTES_PER_SERIES
                + shares.max_head_samples * 2
                + shares.index_cache_bytes as u64
                + shares.write_bytes
                + shares.max_samples_per_query * BYTES_PER_QUERY_SAMPLE * 4;
            assert!(taken < memory, "{taken} of {memory}");
        }
    }

    #[test]
    fn the_machines_memory_is_read() {
        assert_eq!(total_of("MemTotal:       16384 kB\nMemFree: 1 kB\n"), Some(16 << 20));
        assert!(limit_bytes() > 64 << 20);
    }
}
