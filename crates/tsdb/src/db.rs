//! The database's face.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, RwLock, Weak};
use std::time::Duration;

use ers_journal::disk::replace_file;
use ers_model::{Labels, Sample, TimeRange};
use ers_promql::source::{LabelMatcher, Select, SeriesData, SeriesSource, SourceError};
use ers_wire::remote_write::{DecodeError, Metadata, decompress};

use crate::catalog;
use crate::counters::{Counters, add};
use crate::error::{AppendError, OpenError, StorageError};
use crate::head::Head;
use crate::ingest::{self, Bounds, Preparation, Scratch};
use crate::metadata::MetadataStore;
use crate::options::{CommitMode, DbOptions};
use crate::recover;
use crate::segment::file::SegmentFile;
use crate::select;
use crate::state::Flushed;
use crate::stats::{AppendOutcome, DbStats, MaintenanceReport, MetadataEntry, RecoveryReport};
use crate::sync::{lock, read, write};
use crate::wal::{Wal, WalRecord, enforced_fit};

/// Requests whose memory is kept for later ones.
const MAX_SCRATCH: usize = 8;
/// A request's memory beyond this is given back.
const MAX_SCRATCH_BYTES: usize = 4 << 20;
const ASYNC_SYNC_EVERY: Duration = Duration::from_millis(500);
const TOP_METRICS: usize = 10;

/// One tenant's database. Clones share it; it closes with the last one.
#[derive(Clone)]
pub struct Db(Arc<Inner>);

/// Reads with the principal's matchers bound: nothing outside of them is seen.
#[derive(Clone)]
pub struct DbReader {
    db: Db,
    enforced: Vec<LabelMatcher>,
}

/// Sorted, without duplicates.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listing<T> {
    pub items: Vec<T>,
    /// There was more than the limit.
    pub truncated: bool,
}

/// How far the head was written to segments, as the next cut of the log will note it.
#[derive(Debug, Default)]
pub(crate) struct FlushedState {
    pub wanted: Option<Flushed>,
}

pub(crate) struct Inner {
    pub dir: PathBuf,
    pub segment_dir: PathBuf,
    pub options: DbOptions,
    pub head: Head,
    pub wal: Wal,
    /// Held (shared) by each request from finding its series to appending to them.
    pub gate: RwLock<()>,
    /// The oldest first.
    pub segments: RwLock<Vec<Arc<SegmentFile>>>,
    pub metadata: Mutex<MetadataStore>,
    pub flushed: Mutex<FlushedState>,
    pub last_edge: Mutex<i64>,
    pub last_id: Mutex<Option<uuid::Uuid>>,
    pub counters: Counters,
    /// One round of maintenance at a time.
    maintenance: Mutex<()>,
    scratch: Mutex<Vec<Scratch>>,
    /// Set aside since the last round of maintenance.
    suspects: Mutex<Vec<(PathBuf, String)>>,
    /// Segments whose index is in memory, the last used last.
    indexes: Mutex<Vec<Weak<SegmentFile>>>,
    probes: AtomicU64,
}

impl Bounds {
    pub(crate) fn at(recv_ms: i64, options: &DbOptions) -> Self {
        Bounds {
            oldest_ms: recv_ms.saturating_sub(options.retention_ms.min(options.late_ms)),
            newest_ms: recv_ms.saturating_add(options.future_ms),
        }
    }
}

impl Inner {
    pub(crate) fn new(
        dir: &Path,
        segment_dir: PathBuf,
        options: DbOptions,
        wal: Wal,
        segments: Vec<Arc<SegmentFile>>,
        metadata: MetadataStore,
    ) -> Self {
        let last_id = segments.last().map(|segment| segment.meta.id);
        Inner {
            dir: dir.into(),
            segment_dir,
            options,
            head: Head::new(),
            wal,
            gate: RwLock::default(),
            segments: RwLock::new(segments),
            metadata: Mutex::new(metadata),
            flushed: Mutex::default(),
            last_edge: Mutex::new(i64::MIN),
            last_id: Mutex::new(last_id),
            counters: Counters::default(),
            maintenance: Mutex::default(),
            scratch: Mutex::default(),
            suspects: Mutex::default(),
            indexes: Mutex::default(),
            probes: AtomicU64::new(0),
        }
    }

    /// The part of a range that is within retention now.
    pub(crate) fn visible(&self, range: TimeRange) -> TimeRange {
        let oldest = self.options.clock.now_ms().saturating_sub(self.options.retention_ms);
        TimeRange { start_ms: range.start_ms.max(oldest), end_ms: range.end_ms }
    }

    pub(crate) fn segments_in(&self, range: TimeRange) -> Vec<Arc<SegmentFile>> {
        let overlaps = |segment: &&Arc<SegmentFile>| {
            range.overlaps(TimeRange { start_ms: segment.meta.min_ms, end_ms: segment.meta.max_ms })
        };
        read(&self.segments).iter().filter(overlaps).cloned().collect()
    }

    /// Swaps segments in one step.
    pub(crate) fn add_segments(&self, new: Vec<Arc<SegmentFile>>, gone: &[Arc<SegmentFile>]) {
        let mut segments = write(&self.segments);
        segments.retain(|segment| !gone.iter().any(|gone| gone.meta.id == segment.meta.id));
        segments.extend(new);
        segments.sort_by_key(|segment| segment.meta.id);
    }

    /// Sets a damaged segment aside, so that the others are served. A failed read (not damage) leaves it where it is.
    pub(crate) fn suspect(&self, segment: &Arc<SegmentFile>, error: &StorageError) {
        if !matches!(error, StorageError::Damaged { .. }) {
            return;
        }
        self.add_segments(Vec::new(), std::slice::from_ref(segment));
        let aside = recover::corrupt_path(&segment.path);
        let path = if self.options.disk.rename(&segment.path, &aside).is_ok() { aside } else { segment.path.clone() };
        lock(&self.suspects).push((path, error.to_string()));
        self.count_quarantined(1);
    }

    pub(crate) fn count_quarantined(&self, count: usize) {
        add(&self.counters.quarantined, count as u64);
    }

    /// Notes that a query used a segment's index, and gives back the memory of those that were not used for longest.
    pub(crate) fn index_used(&self, segment: &Arc<SegmentFile>) {
        let mut held = lock(&self.indexes);
        held.retain(|other| other.upgrade().is_some_and(|other| !Arc::ptr_eq(&other, segment)));
        held.push(Arc::downgrade(segment));
        let alive: Vec<Arc<SegmentFile>> = held.iter().filter_map(Weak::upgrade).collect();
        let mut bytes: usize = alive.iter().map(|segment| segment.index_bytes()).sum();
        let mut drop_first = 0;
        for oldest in &alive[..alive.len() - 1] {
            if bytes <= self.options.index_cache_bytes {
                break;
            }
            bytes -= oldest.index_bytes();
            oldest.forget_index();
            drop_first += 1;
        }
        held.drain(..drop_first);
    }

    fn append(&self, enforced: &[(&str, &str)], body: &[u8], recv_ms: i64) -> Result<AppendOutcome, AppendError> {
        let limits = &self.options.limits;
        if !enforced_fit(enforced) || body.len() > limits.max_request_bytes {
            return Err(AppendError::TooLarge { bytes: body.len(), max: limits.max_request_bytes });
        }
        let mut scratch = lock(&self.scratch).pop().unwrap_or_default();
        let outcome = self.append_with(&mut scratch, enforced, body, recv_ms);
        if scratch.raw.capacity() <= MAX_SCRATCH_BYTES {
            let mut pool = lock(&self.scratch);
            if pool.len() < MAX_SCRATCH {
                pool.push(scratch);
            }
        }
        let failed = match &outcome {
            Ok(outcome) => {
                self.counters.count(outcome);
                return Ok(outcome.clone());
            }
            Err(AppendError::Storage(error)) => error,
            Err(_) => return outcome,
        };
        let counter = if failed.is_full() { &self.counters.storage_full } else { &self.counters.storage_failed };
        add(counter, 1);
        outcome
    }

    fn append_with(
        &self,
        scratch: &mut Scratch,
        enforced: &[(&str, &str)],
        body: &[u8],
        recv_ms: i64,
    ) -> Result<AppendOutcome, AppendError> {
        let limits = &self.options.limits;
        let Scratch { raw, prepared, codec } = scratch;
        decompress(body, limits.max_request_bytes, raw).map_err(|error| match error {
            DecodeError::TooLarge { bytes, max } => AppendError::TooLarge { bytes, max },
            other => AppendError::Malformed(other),
        })?;
        let _gate = read(&self.gate);
        let bounds = Bounds::at(recv_ms, &self.options);
        Preparation { head: &self.head, limits, enforce_limits: true, enforced, bounds }.run(raw, prepared)?;
        if !prepared.is_empty() {
            let newest_ms = prepared.newest_ms;
            if prepared.outcome.refused_series == 0 {
                self.wal.append(&WalRecord { recv_ms, enforced: enforced.to_vec(), body }, newest_ms)?;
            } else {
                // What was refused must not come back when the log is read again.
                let accepted = prepared.encode_accepted(raw)?;
                self.wal.append(&WalRecord { recv_ms, enforced: Vec::new(), body: &accepted }, newest_ms)?;
            }
        }
        ingest::apply(&self.head, self.options.block_ms, prepared, codec, |_| true);
        if prepared.metadata_count > 0 {
            ingest::apply_metadata(raw, &self.metadata, limits);
        }
        Ok(std::mem::take(&mut prepared.outcome))
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        // In group mode nothing is left to do; in the others a clean end loses nothing.
        let _ = self.wal.journal().sync();
    }
}

impl Db {
    /// Opens or makes the directory, mends what a crash left, and reads the log into memory.
    pub fn open(dir: &Path, options: DbOptions, now_ms: i64) -> Result<(Db, RecoveryReport), OpenError> {
        let mode = options.commit;
        let (inner, report) = recover::open(dir, options)?;
        // What is past retention goes before it costs anything; if it cannot be deleted now, maintenance tries again.
        let _ = inner.drop_expired(now_ms, &mut MaintenanceReport::default());
        let inner = Arc::new(inner);
        if mode == CommitMode::Async {
            let weak = Arc::downgrade(&inner);
            let thread = std::thread::Builder::new().name("tsdb-sync".into()).spawn(move || sync_for_ever(&weak));
            thread.map_err(|error| StorageError::io("start a thread for", dir, error))?;
        }
        Ok((Db(inner), report))
    }

    /// Stores a remote write 1.0 body (snappy, as received). `enforced` labels override the body's; an empty value removes the label.
    /// When it returns `Ok`, what was accepted is as durable as the commit mode says, and visible.
    pub fn append_remote_write(
        &self,
        enforced: &[(&str, &str)],
        body: &[u8],
        recv_ms: i64,
    ) -> Result<AppendOutcome, AppendError> {
        self.0.append(enforced, body, recv_ms)
    }

    /// Stores samples made inside the server, as one request.
    pub fn append_samples(&self, batch: &[(Labels, Sample)], recv_ms: i64) -> Result<AppendOutcome, AppendError> {
        let body = ingest::encode_batch(batch.iter().map(|(labels, sample)| (labels, *sample)), &[]);
        self.0.append(&[], &body, recv_ms)
    }

    pub fn append_metadata(&self, metadata: &[Metadata<'_>], recv_ms: i64) -> Result<AppendOutcome, AppendError> {
        self.0.append(&[], &ingest::encode_batch(std::iter::empty(), metadata), recv_ms)
    }

    pub fn reader(&self, enforced: Vec<LabelMatcher>) -> DbReader {
        DbReader { db: self.clone(), enforced }
    }

    /// Sorted by metric.
    pub fn metadata(&self, metric: Option<&str>, limit: usize) -> Vec<MetadataEntry> {
        lock(&self.0.metadata).list(metric, limit)
    }

    /// Scans the active series: for pages and metrics, not for each request.
    pub fn stats(&self) -> DbStats {
        let inner = &self.0;
        let mut stats = DbStats {
            active_series: inner.head.active_series() as u64,
            max_active_series: inner.options.limits.max_active_series as u64,
            head_samples: inner.head.samples.load(Ordering::Relaxed),
            wal_bytes: inner.wal.journal().stats().bytes,
            ..DbStats::default()
        };
        let mut bounds = inner.head_bounds();
        for segment in read(&inner.segments).iter() {
            stats.segments += 1;
            stats.segment_bytes += segment.bytes;
            stats.segment_samples += segment.meta.samples;
            let (min, max) = bounds.unwrap_or((i64::MAX, i64::MIN));
            bounds = Some((min.min(segment.meta.min_ms), max.max(segment.meta.max_ms)));
        }
        stats.min_ms = bounds.map(|bounds| bounds.0);
        stats.max_ms = bounds.map(|bounds| bounds.1);
        stats.bytes = stats.wal_bytes + stats.segment_bytes;
        inner.counters.fill(&mut stats);
        let mut metrics = read(&inner.head.registry).value_counts(ers_model::METRIC_NAME);
        metrics.sort_by(|left, right| right.1.cmp(&left.1).then_with(|| left.0.cmp(&right.0)));
        stats.top_metrics =
            metrics.into_iter().take(TOP_METRICS).map(|(name, count)| (name.to_string(), count)).collect();
        stats
    }

    /// Writes due blocks, deletes what is past retention, merges small segments. Call it about every 30 s.
    pub fn maintain(&self, now_ms: i64) -> Result<MaintenanceReport, StorageError> {
        let inner = &self.0;
        let _alone = lock(&inner.maintenance);
        let mut report =
            MaintenanceReport { quarantined: std::mem::take(&mut *lock(&inner.suspects)), ..Default::default() };
        inner.wal.journal().restore_reserve();
        // Deleting comes first: on a full volume it makes the space that the rest needs.
        inner.drop_expired(now_ms, &mut report)?;
        inner.cut_log(&mut report)?;
        if let Some(before_ms) = inner.flush_due(now_ms) {
            inner.flush(now_ms, before_ms, &mut report).inspect_err(|_| *lock(&inner.last_edge) = i64::MIN)?;
        }
        inner.seal_idle(now_ms.saturating_sub(inner.options.out_of_order_ms));
        inner.compact(now_ms, &mut report)?;
        Ok(report)
    }

    /// Writes the whole head to segments. Optional at a clean stop: the log keeps everything anyway.
    pub fn flush_all(&self, now_ms: i64) -> Result<MaintenanceReport, StorageError> {
        let inner = &self.0;
        let _alone = lock(&inner.maintenance);
        let mut report = MaintenanceReport::default();
        if let Some((_, newest)) = inner.head_bounds() {
            let edge = inner.block_start(newest).saturating_add(inner.options.block_ms);
            inner.flush(now_ms, edge, &mut report)?;
        }
        Ok(report)
    }

    /// Compares every segment with its hash; sets damaged ones aside. Reads everything: for a slow background task.
    pub fn verify(&self) -> Result<Vec<(PathBuf, String)>, StorageError> {
        let segments = read(&self.0.segments).clone();
        let mut damaged = Vec::new();
        for segment in segments {
            match segment.verify() {
                Err(error @ StorageError::Damaged { .. }) => {
                    self.0.suspect(&segment, &error);
                    damaged.push((segment.path.clone(), error.to_string()));
                }
                other => other?,
            }
        }
        Ok(damaged)
    }

    /// Writes a small file, makes it durable and reads it back.
    pub fn probe(&self) -> Result<(), StorageError> {
        let path = self.0.dir.join("probe");
        let stamp = self.0.probes.fetch_add(1, Ordering::Relaxed).to_le_bytes();
        replace_file(&*self.0.options.disk, &path, &stamp).map_err(|error| StorageError::io("write", &path, error))?;
        let back = std::fs::read(&path).map_err(|error| StorageError::io("read", &path, error))?;
        if back == stamp {
            Ok(())
        } else {
            Err(StorageError::Damaged { path, what: "it does not hold what was written" })
        }
    }

    /// Makes everything durable that was appended so far, whatever the commit mode.
    pub fn sync(&self) -> Result<(), StorageError> {
        Ok(self.0.wal.journal().sync()?)
    }
}

fn sync_for_ever(db: &Weak<Inner>) {
    loop {
        std::thread::park_timeout(ASYNC_SYNC_EVERY);
        let Some(db) = db.upgrade() else { return };
        if db.wal.journal().sync().is_err() {
            add(&db.counters.storage_failed, 1);
        }
    }
}

impl DbReader {
    fn sets<'a>(&'a self, sets: &'a [Vec<LabelMatcher>]) -> Vec<Vec<&'a LabelMatcher>> {
        match sets {
            [] => vec![self.enforced.iter().collect()],
            sets => sets.iter().map(|set| self.enforced.iter().chain(set).collect()).collect(),
        }
    }

    /// Names of labels of series that match any of the sets (all series when there is none) and have samples in the range.
    /// At most `limit`, 0 = all.
    pub fn label_names(
        &self,
        sets: &[Vec<LabelMatcher>],
        range: TimeRange,
        limit: usize,
    ) -> Result<Listing<String>, SourceError> {
        catalog::label_names(&self.db.0, &self.sets(sets), range, limit)
    }

    /// Values of one label, as `label_names`.
    pub fn label_values(
        &self,
        name: &str,
        sets: &[Vec<LabelMatcher>],
        range: TimeRange,
        limit: usize,
    ) -> Result<Listing<String>, SourceError> {
        catalog::label_values(&self.db.0, name, &self.sets(sets), range, limit)
    }

    /// Labels of series, as `label_names`.
    pub fn series(
        &self,
        sets: &[Vec<LabelMatcher>],
        range: TimeRange,
        limit: usize,
    ) -> Result<Listing<Labels>, SourceError> {
        catalog::series(&self.db.0, &self.sets(sets), range, limit)
    }
}

impl SeriesSource for DbReader {
    fn select(&self, select: &Select<'_>) -> Result<Vec<SeriesData>, SourceError> {
        let matchers: Vec<&LabelMatcher> = self.enforced.iter().chain(select.matchers).collect();
        select::select(&self.db.0, &matchers, select)
    }
}
