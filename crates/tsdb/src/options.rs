//! How a database is kept.

use std::sync::Arc;

use ers_journal::Tenant;
use ers_journal::disk::{Disk, RealDisk};
use ers_model::Clock;

pub const HOUR_MS: i64 = 3_600_000;

/// What an acknowledgement means.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CommitMode {
    /// Survives power loss: the call returns after an fdatasync that concurrent calls share.
    #[default]
    Group,
    /// Survives the end of the process; power loss costs at most a second.
    Async,
    /// Survives neither.
    None,
}

/// Checked before memory is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Most series with samples in the last hours; a new one beyond it is refused, known ones go on.
    pub max_active_series: usize,
    pub max_labels_per_series: usize,
    pub max_label_name_bytes: usize,
    pub max_label_value_bytes: usize,
    pub max_samples_per_request: usize,
    /// Most bytes of a request after decompression.
    pub max_request_bytes: usize,
    /// Most metric families whose type, help and unit are kept.
    pub max_metadata: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            max_active_series: 1_000_000,
            max_labels_per_series: 64,
            max_label_name_bytes: 512,
            max_label_value_bytes: 4096,
            max_samples_per_request: 100_000,
            max_request_bytes: 32 << 20,
            max_metadata: 20_000,
        }
    }
}

#[derive(Clone)]
pub struct DbOptions {
    pub tenant: Tenant,
    /// Samples older than this are refused, not answered, and their files deleted.
    pub retention_ms: i64,
    pub limits: Limits,
    pub commit: CommitMode,
    pub wal_segment_bytes: u64,
    /// The head is written to segments before the log is larger than this, whatever the samples' age.
    pub max_wal_bytes: u64,
    /// The head is written to a segment before it holds more samples than this, whatever their age.
    pub max_head_samples: u64,
    /// Span of one segment as it leaves the head.
    pub block_ms: i64,
    /// A block leaves memory when its end is this old, so that what comes this late still finds it there.
    pub out_of_order_ms: i64,
    /// Samples older than this when they are received are refused (a spool after a long outage must fit in). Those that find no block in memory
    /// get files of their own, merged later.
    pub late_ms: i64,
    /// Samples further ahead of the receiver's clock than this are refused.
    pub future_ms: i64,
    /// Memory for indexes of segments that queries have read.
    pub index_cache_bytes: usize,
    pub clock: Arc<dyn Clock>,
    pub disk: Arc<dyn Disk>,
}

impl DbOptions {
    /// 15 days, group commit, 64 MiB log files, 2 h blocks, 1 h out of order, 7 days late, 10 minutes ahead, 64 MiB of indexes.
    pub fn new(tenant: Tenant, clock: Arc<dyn Clock>) -> Self {
        DbOptions {
            tenant,
            retention_ms: 15 * 24 * HOUR_MS,
            limits: Limits::default(),
            commit: CommitMode::Group,
            wal_segment_bytes: 64 << 20,
            max_wal_bytes: 4 << 30,
            max_head_samples: 200_000_000,
            block_ms: 2 * HOUR_MS,
            out_of_order_ms: HOUR_MS,
            late_ms: 7 * 24 * HOUR_MS,
            future_ms: 10 * 60_000,
            index_cache_bytes: 64 << 20,
            clock,
            disk: Arc::new(RealDisk),
        }
    }
}
