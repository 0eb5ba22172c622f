//! Fewer, larger segments: a day's blocks become one file. And the end of what is past retention.

use std::cmp::Ordering as Order;
use std::collections::BTreeMap;
use std::sync::Arc;

use ers_model::TimeRange;
use hashbrown::HashMap;

use crate::codec::{self, decode_times, decode_values, encode_times, encode_values};
use crate::columns::Columns;
use crate::counters::add;
use crate::db::Inner;
use crate::error::StorageError;
use crate::options::HOUR_MS;
use crate::segment::MERGED_CHUNK_SAMPLES;
use crate::segment::data::Window;
use crate::segment::file::SegmentFile;
use crate::segment::index::{Column, Index};
use crate::segment::writer::{TimesRef, Writer};
use crate::stats::MaintenanceReport;
use crate::sync::read;

const DAY_MS: i64 = 24 * HOUR_MS;
/// Small segments of a day that is not over, or already merged once, wait until there are so many ...
const ENOUGH: usize = 4;
/// ... or one is so old.
const PATIENCE_MS: i64 = 6 * HOUR_MS;
/// Decoded time columns that a merge holds at once.
const MAX_HELD_TIMES: usize = 4_000_000;

impl Inner {
    /// Deletes segments whose newest sample is past retention.
    pub(crate) fn drop_expired(&self, now_ms: i64, report: &mut MaintenanceReport) -> Result<(), StorageError> {
        let oldest = now_ms.saturating_sub(self.options.retention_ms);
        let expired: Vec<_> =
            read(&self.segments).iter().filter(|segment| segment.meta.max_ms < oldest).cloned().collect();
        report.dropped_segments += expired.len();
        self.add_segments(Vec::new(), &expired);
        self.delete_files(&expired)
    }

    pub(crate) fn delete_files(&self, segments: &[Arc<SegmentFile>]) -> Result<(), StorageError> {
        for segment in segments {
            match self.options.disk.remove(&segment.path) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(StorageError::io("delete", &segment.path, error));
                }
                _ => {}
            }
        }
        if segments.is_empty() {
            return Ok(());
        }
        let dir = &self.segment_dir;
        self.options.disk.sync_dir(dir).map_err(|error| StorageError::io("sync", dir, error))
    }

    /// Merges the segments of one day, if there is one worth it.
    pub(crate) fn compact(&self, now_ms: i64, report: &mut MaintenanceReport) -> Result<(), StorageError> {
        let Some(sources) = self.merge_candidates(now_ms) else { return Ok(()) };
        let merged = match merge(self, now_ms, &sources) {
            Ok(merged) => merged,
            Err((at, error)) => {
                if let Some(segment) = at {
                    self.suspect(&segment, &error);
                }
                return Err(error);
            }
        };
        self.add_segments(merged.into_iter().collect(), &sources);
        report.compacted_segments += sources.len();
        add(&self.counters.compactions, 1);
        self.delete_files(&sources)
    }

    fn merge_candidates(&self, now_ms: i64) -> Option<Vec<Arc<SegmentFile>>> {
        let day = |at_ms: i64| at_ms.div_euclid(DAY_MS);
        let mut days: BTreeMap<i64, Vec<Arc<SegmentFile>>> = BTreeMap::new();
        for segment in read(&self.segments).iter() {
            let first = day(segment.meta.min_ms);
            if first == day(segment.meta.max_ms) {
                days.entry(first).or_default().push(segment.clone());
            }
        }
        let settled = day(now_ms.saturating_sub(self.options.out_of_order_ms + self.options.block_ms));
        let mut candidates = days.into_iter().filter_map(|(day, segments)| {
            let small: Vec<_> = segments.iter().filter(|segment| segment.meta.level == 0).cloned().collect();
            let waited = small.iter().any(|segment| now_ms.saturating_sub(segment.meta.created_ms) >= PATIENCE_MS);
            if day < settled {
                let first_time = small.len() == segments.len();
                let worth = !small.is_empty() && (first_time || waited || small.len() >= ENOUGH);
                return (segments.len() > 1 && worth).then_some(segments);
            }
            // The day goes on: only what came late in many pieces is put together, block by block.
            let mut blocks: BTreeMap<i64, Vec<Arc<SegmentFile>>> = BTreeMap::new();
            for segment in small {
                blocks.entry(self.block_start(segment.meta.min_ms)).or_default().push(segment);
            }
            blocks.into_values().find(|segments| segments.len() >= ENOUGH)
        });
        candidates.next()
    }
}

/// One segment's series in the order of their labels.
struct Source {
    segment: Arc<SegmentFile>,
    index: Arc<Index>,
    next: u32,
    window: Window,
    times: HashMap<u32, Arc<[i64]>>,
    held_times: usize,
}

type Labels<'a> = Vec<(&'a str, &'a str)>;
type Failure = (Option<Arc<SegmentFile>>, StorageError);

fn merge(db: &Inner, now_ms: i64, segments: &[Arc<SegmentFile>]) -> Result<Option<Arc<SegmentFile>>, Failure> {
    let mut sources = Vec::with_capacity(segments.len());
    for segment in segments {
        let index = segment.index().map_err(|error| (Some(segment.clone()), error))?;
        let segment = segment.clone();
        sources.push(Source {
            segment,
            index,
            next: 0,
            window: Window::default(),
            times: HashMap::new(),
            held_times: 0,
        });
    }
    // A day that was merged before has its blocks merged into it again; only whole days stop being small.
    let level = 1;
    let replaced = segments.iter().map(|segment| segment.meta.id).collect();
    let disk = &*db.options.disk;
    let mut writer =
        Writer::create(disk, &db.segment_dir, db.options.tenant, db.next_id(now_ms), level, now_ms, replaced)
            .map_err(|error| (None, error))?;
    let oldest = now_ms.saturating_sub(db.options.retention_ms);
    if let Err(failure) = merge_into(&mut writer, &mut sources, oldest) {
        writer.discard();
        return Err(failure);
    }
    let Some((path, meta)) = writer.finish().map_err(|error| (None, error))? else { return Ok(None) };
    for segment in segments {
        segment.forget_index();
    }
    db.open_own(&path, meta.id).map(Some).map_err(|error| (None, error))
}

fn merge_into(writer: &mut Writer<'_>, sources: &mut [Source], oldest_ms: i64) -> Result<(), Failure> {
    let indexes: Vec<Arc<Index>> = sources.iter().map(|source| source.index.clone()).collect();
    let mut heads: Vec<Option<Labels<'_>>> = Vec::with_capacity(sources.len());
    for (source, index) in sources.iter().zip(&indexes) {
        heads.push(source.peek(index)?);
    }
    let mut scratch = codec::Scratch::default();
    let (mut times_bytes, mut values_bytes) = (Vec::new(), Vec::new());
    loop {
        let least = heads.iter().flatten().min().cloned();
        let Some(labels) = least else { return Ok(()) };
        let mut columns = Columns::default();
        for (at, source) in sources.iter_mut().enumerate() {
            if heads[at].as_ref().map(|head| head.cmp(&labels)) == Some(Order::Equal) {
                source.read(&mut columns, oldest_ms).map_err(|error| (Some(source.segment.clone()), error))?;
                source.next += 1;
                heads[at] = source.peek(&indexes[at])?;
            }
        }
        columns.sort();
        if columns.is_empty() {
            continue;
        }
        writer.begin_series(labels.iter().copied());
        let chunks = columns.times.chunks(MERGED_CHUNK_SAMPLES).zip(columns.values.chunks(MERGED_CHUNK_SAMPLES));
        for (times, values) in chunks {
            times_bytes.clear();
            values_bytes.clear();
            encode_times(times, &mut scratch, &mut times_bytes);
            encode_values(values, &mut scratch, &mut values_bytes);
            let (Some(min_ms), Some(max_ms)) = (times.first(), times.last()) else { continue };
            let times = TimesRef { bytes: &times_bytes, count: times.len() as u32, min_ms: *min_ms, max_ms: *max_ms };
            writer.push_chunk(&times, &values_bytes).map_err(|error| (None, error))?;
        }
    }
}

impl Source {
    /// Labels of the next series; `None` at the end.
    fn peek<'i>(&self, index: &'i Index) -> Result<Option<Labels<'i>>, Failure> {
        if self.next >= index.series_count() {
            return Ok(None);
        }
        let damaged = || (Some(self.segment.clone()), self.segment.damaged("index"));
        index.labels(self.next).map(Some).ok_or_else(damaged)
    }

    fn read(&mut self, into: &mut Columns, oldest_ms: i64) -> Result<(), StorageError> {
        let mut chunks: Vec<(crate::segment::index::ChunkRef, Column)> = Vec::new();
        let whole = self.index.each_chunk(self.next, |chunk, column| chunks.push((chunk, *column)));
        if whole.is_none() {
            return Err(self.segment.damaged("index"));
        }
        let range = TimeRange { start_ms: oldest_ms, end_ms: i64::MAX };
        let mut values = Vec::new();
        for (chunk, column) in chunks {
            let times = self.times_of(chunk.column, &column)?;
            let end = chunk.offset + u64::from(chunk.len);
            self.load(chunk.offset, end)?;
            values.clear();
            decode_values(self.window.piece(chunk.offset, chunk.len), times.len(), &mut values)
                .ok_or_else(|| self.segment.damaged("values"))?;
            let (from, to) = crate::head::series::range_of(&times, range);
            let part = values.get(from..to).ok_or_else(|| self.segment.damaged("values"))?;
            into.push(&times[from..to], part);
        }
        Ok(())
    }

    fn times_of(&mut self, id: u32, column: &Column) -> Result<Arc<[i64]>, StorageError> {
        if let Some(times) = self.times.get(&id) {
            return Ok(times.clone());
        }
        if self.held_times > MAX_HELD_TIMES {
            self.times.clear();
            self.held_times = 0;
        }
        self.load(column.offset, column.offset + u64::from(column.len))?;
        let mut times = Vec::with_capacity(column.count as usize);
        decode_times(self.window.piece(column.offset, column.len), column.count as usize, &mut times)
            .ok_or_else(|| self.segment.damaged("times"))?;
        let times: Arc<[i64]> = times.into();
        self.held_times += times.len();
        self.times.insert(id, times.clone());
        Ok(times)
    }

    /// Reads ahead: the next series' chunks follow.
    fn load(&mut self, start: u64, end: u64) -> Result<(), StorageError> {
        const AHEAD_BYTES: u64 = 256 * 1024;
        if self.window.holds(start, end) {
            return Ok(());
        }
        let ahead = end.max((start + AHEAD_BYTES).min(self.segment.data().len));
        self.window.load(&self.segment, start, ahead)
    }
}
