//! From the head to segments, and the cut of the log that follows.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::codec;
use crate::counters::add;
use crate::db::Inner;
use crate::error::StorageError;
use crate::head::series::{Sealer, Series};
use crate::segment::file::SegmentFile;
use crate::segment::writer::{TimesRef, Writer, new_id};
use crate::state::{self, Flushed};
use crate::stats::MaintenanceReport;
use crate::sync::{lock, read, write};

impl Inner {
    /// The start of the block that holds this time.
    pub(crate) fn block_start(&self, at_ms: i64) -> i64 {
        at_ms.div_euclid(self.options.block_ms).saturating_mul(self.options.block_ms)
    }

    /// Oldest and newest sample in memory.
    pub(crate) fn head_bounds(&self) -> Option<(i64, i64)> {
        let registry = read(&self.head.registry);
        let bounds = registry.iter().filter_map(|series| lock(&series.state).bounds());
        bounds.reduce(|left, right| (left.0.min(right.0), left.1.max(right.1)))
    }

    /// Writes all samples before a block's edge to segments, one per block. On failure they stay in memory and in the log.
    pub(crate) fn flush(
        &self,
        now_ms: i64,
        before_ms: i64,
        report: &mut MaintenanceReport,
    ) -> Result<(), StorageError> {
        let seq = {
            // Behind this gate no request is between the log and the head: all that was logged before `seq` is in memory.
            let _alone = write(&self.gate);
            self.wal.seal()?
        };
        let mut series: Vec<Arc<Series>> = read(&self.head.registry).iter().cloned().collect();
        series.sort_unstable_by(|left, right| left.labels.cmp(&right.labels));
        let block_ms = self.options.block_ms;
        let mut scratch = codec::Scratch::default();
        let mut sealer = Sealer { columns: &self.head.columns, scratch: &mut scratch, block_ms };
        let mut blocks = BTreeSet::new();
        for series in &series {
            let mut state = lock(&series.state);
            state.begin_flush(before_ms, &mut sealer);
            blocks.extend(state.flushing().iter().map(|chunk| chunk.block(block_ms)));
        }
        for block in blocks {
            self.flush_block(now_ms, block, &series, report)?;
        }
        let ended = {
            let _alone = write(&self.gate);
            self.head.remove_ended(|series| lock(&series.state).is_empty())
        };
        report.series_ended += ended;
        add(&self.counters.flushes, 1);
        let flushed = Flushed { seq, before_ms };
        lock(&self.flushed).wanted = Some(flushed);
        self.cut_log(report)
    }

    fn flush_block(
        &self,
        now_ms: i64,
        block: i64,
        series: &[Arc<Series>],
        report: &mut MaintenanceReport,
    ) -> Result<(), StorageError> {
        let block_ms = self.options.block_ms;
        let disk = &*self.options.disk;
        let mut writer =
            Writer::create(disk, &self.segment_dir, self.options.tenant, self.next_id(now_ms), 0, now_ms, Vec::new())?;
        for series in series {
            if let Err(error) = write_series(&mut writer, series, block, block_ms) {
                writer.discard();
                return Err(error);
            }
        }
        let Some((path, meta)) = writer.finish()? else { return Ok(()) };
        let samples = meta.samples;
        let segment = self.open_own(&path, meta.id)?;
        self.add_segments(vec![segment], &[]);
        let mut forgotten = 0;
        for series in series {
            forgotten += lock(&series.state).end_flush(block, block_ms);
        }
        self.head.forget_samples(forgotten);
        report.flushed_segments += 1;
        report.flushed_samples += samples;
        Ok(())
    }

    pub(crate) fn next_id(&self, now_ms: i64) -> uuid::Uuid {
        let mut last = lock(&self.last_id);
        let id = new_id(now_ms, *last);
        *last = Some(id);
        id
    }

    /// Opens a segment that was just written.
    pub(crate) fn open_own(&self, path: &std::path::Path, id: uuid::Uuid) -> Result<Arc<SegmentFile>, StorageError> {
        let damaged = || StorageError::Damaged { path: path.into(), what: "a file just written cannot be read back" };
        SegmentFile::open(path, id, self.options.tenant).map_err(|_| damaged())?.map(Arc::new)
    }

    /// Notes on disk how far the head was written, and deletes log files that nothing needs any more.
    pub(crate) fn cut_log(&self, report: &mut MaintenanceReport) -> Result<(), StorageError> {
        let mut flushed = lock(&self.flushed);
        let Some(wanted) = flushed.wanted else { return Ok(()) };
        {
            let mut metadata = lock(&self.metadata);
            let path = self.dir.join(state::FILE_NAME);
            state::write(&*self.options.disk, &path, self.options.tenant, wanted, &metadata)?;
            metadata.dirty = false;
        }
        report.wal_bytes_freed += self.wal.cut(wanted.seq, wanted.before_ms)?;
        flushed.wanted = None;
        Ok(())
    }

    /// Gives the memory of idle series' buffers back.
    pub(crate) fn seal_idle(&self, before_ms: i64) {
        let series: Vec<Arc<Series>> = read(&self.head.registry).iter().cloned().collect();
        let mut scratch = codec::Scratch::default();
        let mut sealer = Sealer { columns: &self.head.columns, scratch: &mut scratch, block_ms: self.options.block_ms };
        for series in series {
            lock(&series.state).seal_idle(before_ms, &mut sealer);
        }
    }

    /// The edge up to which the head should be written now, if it should.
    pub(crate) fn flush_due(&self, now_ms: i64) -> Option<i64> {
        let (oldest, newest) = self.head_bounds()?;
        let samples = self.head.samples.load(Ordering::Relaxed);
        let log_bytes = self.wal.journal().stats().bytes;
        if samples > self.options.max_head_samples || log_bytes > self.options.max_wal_bytes {
            return Some(self.block_start(newest).saturating_add(self.options.block_ms));
        }
        let edge = self.block_start(now_ms.saturating_sub(self.options.out_of_order_ms));
        let mut last = lock(&self.last_edge);
        if oldest < edge && edge > *last {
            *last = edge;
            return Some(edge);
        }
        None
    }
}

fn write_series(writer: &mut Writer<'_>, series: &Series, block: i64, block_ms: i64) -> Result<(), StorageError> {
    let state = lock(&series.state);
    let mut begun = false;
    for chunk in state.flushing().iter().filter(|chunk| chunk.block(block_ms) == block) {
        if !begun {
            writer.begin_series(series.labels.iter().map(|(name, value)| (&**name, &**value)));
            begun = true;
        }
        let times = &chunk.times;
        let times = TimesRef { bytes: &times.bytes, count: times.count, min_ms: times.min_ms, max_ms: times.max_ms };
        writer.push_chunk(&times, &chunk.values)?;
    }
    Ok(())
}
