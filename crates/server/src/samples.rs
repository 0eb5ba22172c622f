//! The sample store as the server uses it: opened with the policy's retention, looked after, guarded against a full volume.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use ers_model::Clock;
use ers_plan::ServerConfig;
use ers_tsdb::{Db, DbOptions, HOUR_MS, OpenError, RecoveryReport, StorageError, Tenant};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::http::ApiError;
use crate::memory::{self, Shares};

const BUDGET_UNIT: u64 = 1_024;
/// Bounds of the share of the volume that the log may take.
const MIN_WAL_BYTES: u64 = 64 << 20;
const MAX_WAL_BYTES: u64 = 4 << 30;
/// So much of the policy's size, and of the volume, stays free for the state store, the log and compaction.
const RESERVE_BYTES: u64 = 64 << 20;
/// Of small volumes this part.
const RESERVE_PART: u64 = 20;
/// A write looks at the volume at most so often.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// A sender that meets a full volume comes back after this long.
const FULL_RETRY: Duration = Duration::from_secs(10);

/// Memory for decoding, handed out by the size that a body says it has.
pub struct WriteBudget {
    free: Arc<Semaphore>,
    units: u64,
}

impl WriteBudget {
    fn new(bytes: u64) -> Self {
        let units = (bytes / BUDGET_UNIT).max(1);
        let permits = usize::try_from(units).unwrap_or(usize::MAX).min(Semaphore::MAX_PERMITS);
        WriteBudget { free: Arc::new(Semaphore::new(permits)), units }
    }

    /// Waits until there is room. None when the server stops.
    pub async fn take(&self, bytes: u64) -> Option<OwnedSemaphorePermit> {
        let units = (bytes / BUDGET_UNIT + 1).min(self.units);
        self.free.clone().acquire_many_owned(u32::try_from(units).unwrap_or(u32::MAX)).await.ok()
    }
}

/// What a look at the volume found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StorageFact {
    Unknown,
    /// Written and read back.
    Works,
    Full(String),
    Failed(String),
}

pub struct Samples {
    db: Db,
    dir: PathBuf,
    max_bytes: u64,
    pub budget: WriteBudget,
    /// Why no sample is taken now.
    full: Mutex<Option<String>>,
    /// When a write looked at the volume last.
    looked: Mutex<Option<Instant>>,
}

impl Samples {
    /// Opens the store, mending what a crash left; blocks.
    pub fn open(dir: &Path, config: &ServerConfig, clock: Arc<dyn Clock>) -> Result<(Self, RecoveryReport), OpenError> {
        let now_ms = clock.now_ms();
        let mut options = DbOptions::new(tenant(config), clock);
        options.retention_ms = i64::from(config.storage.retention_days) * 24 * HOUR_MS;
        let shares = Shares::of(memory::limit_bytes(), 1);
        options.limits.max_active_series = shares.max_active_series;
        options.max_head_samples = shares.max_head_samples;
        options.index_cache_bytes = shares.index_cache_bytes;
        // The log shares the volume with the segments, which need room of their own while they are written.
        options.max_wal_bytes = (config.storage.max_bytes / 8).clamp(MIN_WAL_BYTES, MAX_WAL_BYTES);
        options.limits.max_labels_per_series = usize::try_from(config.limits.max_labels).unwrap_or(usize::MAX);
        options.limits.max_request_bytes = usize::try_from(config.limits.max_write_decoded_bytes).unwrap_or(usize::MAX);
        let (db, report) = Db::open(dir, options, now_ms)?;
        let samples = Samples {
            db,
            dir: dir.to_path_buf(),
            max_bytes: config.storage.max_bytes,
            budget: WriteBudget::new(shares.write_bytes),
            full: Mutex::new(None),
            looked: Mutex::new(None),
        };
        Ok((samples, report))
    }

    pub fn db(&self) -> &Db {
        &self.db
    }

    /// 503 while the volume is full. Looks itself now and then: between two rounds of [`Samples::examine`] a burst could fill what is
    /// kept free for the state store, and then nobody could log in to see why.
    pub fn refuse_when_full(&self) -> Result<(), ApiError> {
        if self.is_due()
            && let Some(reason) = self.no_room()
        {
            self.set_full(Some(reason));
        }
        match &*self.full.lock().unwrap_or_else(|poisoned| poisoned.into_inner()) {
            None => Ok(()),
            Some(reason) => Err(full(reason)),
        }
    }

    fn is_due(&self) -> bool {
        let mut looked = self.looked.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let due = looked.is_none_or(|at| at.elapsed() >= LOOK_EVERY);
        if due {
            *looked = Some(Instant::now());
        }
        due
    }

    /// A write failed: what the sender is told.
    pub fn failed(&self, error: &StorageError) -> ApiError {
        if error.is_full() {
            self.set_full(Some(error.to_string()));
            return full(&error.to_string());
        }
        tracing::error!(error = error as &dyn std::error::Error, "samples could not be made durable");
        ApiError::unavailable("StorageFailed", "the samples could not be made durable")
    }

    fn set_full(&self, reason: Option<String>) {
        let mut full = self.full.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if full.is_some() != reason.is_some() {
            match &reason {
                Some(reason) => tracing::error!(reason, "the volume is full: samples are refused until there is room"),
                None => tracing::info!("there is room again: samples are taken"),
            }
        }
        *full = reason;
    }

    /// Looks at the volume and, if it has room, writes and reads back; blocks.
    pub fn examine(&self) -> StorageFact {
        if let Some(reason) = self.no_room() {
            self.set_full(Some(reason.clone()));
            return StorageFact::Full(reason);
        }
        match self.db.probe() {
            Ok(()) => {
                self.set_full(None);
                StorageFact::Works
            }
            Err(error) if error.is_full() => {
                self.set_full(Some(error.to_string()));
                StorageFact::Full(error.to_string())
            }
            Err(error) => {
                tracing::error!(error = &error as &dyn std::error::Error, "the sample store failed its probe");
                StorageFact::Failed(error.to_string())
            }
        }
    }

    /// Why there is no room for more samples, by the policy's size or by the volume itself. The message names no figure that moves.
    fn no_room(&self) -> Option<String> {
        let used = self.db.stats().bytes;
        if used > self.max_bytes - reserve(self.max_bytes) {
            return Some(format!(
                "the samples fill the storage of {} MiB that the policy grants: raise spec.storage.metrics.embedded.size or lower retentionDays",
                self.max_bytes >> 20
            ));
        }
        let volume = match rustix::fs::statvfs(&self.dir) {
            Ok(volume) => volume,
            Err(error) => {
                tracing::warn!(error = &error as &dyn std::error::Error, "the volume could not be looked at");
                return None;
            }
        };
        let (size, free) = (volume.f_blocks * volume.f_frsize, volume.f_bavail * volume.f_frsize);
        let least = reserve(size);
        (free < least).then(|| format!("less than {} MiB are free on the data volume", (least >> 20).max(1)))
    }
}

fn reserve(size: u64) -> u64 {
    RESERVE_BYTES.min(size / RESERVE_PART)
}

fn full(reason: &str) -> ApiError {
    ApiError { retry_after: Some(FULL_RETRY), ..ApiError::unavailable("StorageFull", reason) }
}

/// The number is for files with several tenants; a server has one.
fn tenant(config: &ServerConfig) -> Tenant {
    Tenant { uuid: config.tenant, number: 1 }
}
