//! What happened, in numbers.

use std::path::PathBuf;

use crate::error::LimitExceeded;

/// What became of one request. `accepted + duplicates + conflicts + too_old + too_new + refused_samples` is the number of samples sent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AppendOutcome {
    /// Stored, the out-of-order ones included.
    pub accepted: u64,
    /// Stored though older than the newest of their series.
    pub out_of_order: u64,
    /// Already there with the same value: a retry. Not an error.
    pub duplicates: u64,
    /// Already there with another value: the first one stays.
    pub conflicts: u64,
    /// Older than the retention, or than the bound for late samples.
    pub too_old: u64,
    /// Too far ahead of the receiver's clock.
    pub too_new: u64,
    /// Of series that were refused; `limit` names the first.
    pub refused_samples: u64,
    pub refused_series: u64,
    pub limit: Option<LimitExceeded>,
    pub new_series: u64,
    /// Kinds of samples that are not stored yet: counted so that nothing is dropped in silence.
    pub exemplars_dropped: u64,
    pub histograms_dropped: u64,
}

/// What a start found and mended.
#[derive(Clone, Debug, Default)]
pub struct RecoveryReport {
    pub wal: ers_journal::RecoveryReport,
    pub wal_samples: u64,
    /// Records whose frame is whole but whose content is not readable; they were skipped.
    pub wal_unreadable_records: u64,
    pub segments: usize,
    /// Segments that were set aside (`*.corrupt`), with the reason.
    pub quarantined: Vec<(PathBuf, String)>,
    /// Files of interrupted work that were removed.
    pub removed_temporary: usize,
    pub elapsed_ms: u64,
}

impl RecoveryReport {
    /// Whether acknowledged samples may be missing.
    pub fn is_damaged(&self) -> bool {
        self.wal.is_damaged() || self.wal_unreadable_records > 0 || !self.quarantined.is_empty()
    }
}

/// A picture of the database. Totals count since it was opened.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DbStats {
    pub active_series: u64,
    pub max_active_series: u64,
    /// Samples in memory.
    pub head_samples: u64,
    /// Oldest sample in memory or on disk, newest sample; `None` when empty.
    pub min_ms: Option<i64>,
    pub max_ms: Option<i64>,
    pub segments: u64,
    pub segment_bytes: u64,
    pub segment_samples: u64,
    pub wal_bytes: u64,
    /// Log and segments.
    pub bytes: u64,
    pub quarantined_files: u64,
    pub samples_accepted_total: u64,
    pub samples_out_of_order_total: u64,
    pub samples_duplicate_total: u64,
    pub samples_conflict_total: u64,
    pub samples_too_old_total: u64,
    pub samples_too_new_total: u64,
    pub samples_refused_total: u64,
    pub series_refused_total: u64,
    pub requests_storage_full_total: u64,
    pub requests_storage_failed_total: u64,
    pub flushes_total: u64,
    pub compactions_total: u64,
    /// Metrics with the most active series, most first, at most ten.
    pub top_metrics: Vec<(String, u64)>,
}

/// What one round of maintenance did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MaintenanceReport {
    pub flushed_segments: usize,
    pub flushed_samples: u64,
    pub wal_bytes_freed: u64,
    pub compacted_segments: usize,
    pub dropped_segments: usize,
    pub series_ended: usize,
    pub quarantined: Vec<(PathBuf, String)>,
}

/// Type, help and unit of one metric family.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MetadataEntry {
    pub metric: String,
    pub kind: ers_wire::remote_write::MetricType,
    pub help: String,
    pub unit: String,
}
