//! One series in memory: an open buffer, sealed chunks, and what came late.

use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, OnceLock};

use ers_model::{Label, Labels, Sample, TimeRange};

use super::times::{TimeColumn, TimeColumns};
use crate::codec::{Scratch, decode_values, encode_values};
use crate::columns::{Columns, TimesCache};

/// Samples in a chunk when it is sealed.
pub(crate) const CHUNK_SAMPLES: usize = 120;
/// Steps in which the open buffer grows; most series of a short-lived pod never leave the first.
const GROWTH: [usize; 3] = [8, 32, CHUNK_SAMPLES];
/// Spellings (byte orders) of one series that are remembered; further ones take the slow path each time.
const MAX_ALIASES: u8 = 4;

pub(crate) struct Series {
    pub id: u32,
    /// Sorted by name.
    pub labels: Box<[(Arc<str>, Arc<str>)]>,
    /// Made when a query first asks for it.
    shared: OnceLock<Arc<Labels>>,
    aliases: AtomicU8,
    pub state: Mutex<SeriesState>,
}

/// Sealed samples. Chunks of one series may overlap in time only when one of them came late.
#[derive(Clone)]
pub(crate) struct Chunk {
    pub times: Arc<TimeColumn>,
    pub values: Box<[u8]>,
}

#[derive(Default)]
pub(crate) struct SeriesState {
    /// Newest in-order sample.
    last_ms: Option<i64>,
    base_ms: i64,
    /// Milliseconds after `base_ms`, then the value's low and high half: 12 bytes a sample.
    open: Vec<[u32; 3]>,
    chunks: Vec<Chunk>,
    late: Option<Box<Late>>,
    /// On its way into a segment.
    flushing: Vec<Chunk>,
}

#[derive(Default)]
struct Late {
    /// Sorted, each time once.
    open: Vec<Sample>,
    chunks: Vec<Chunk>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Appended {
    InOrder,
    OutOfOrder,
    Duplicate,
    Conflict,
}

/// What sealing a chunk needs.
pub(crate) struct Sealer<'a> {
    pub columns: &'a TimeColumns,
    pub scratch: &'a mut Scratch,
    pub block_ms: i64,
}

impl Sealer<'_> {
    fn seal(&mut self, times: &[i64], values: &[f64]) -> Chunk {
        let mut bytes = Vec::with_capacity(128);
        encode_values(values, self.scratch, &mut bytes);
        Chunk { times: self.columns.intern(times, self.scratch), values: bytes.into() }
    }
}

impl Chunk {
    fn overlaps(&self, range: TimeRange) -> bool {
        self.times.min_ms <= range.end_ms && self.times.max_ms >= range.start_ms
    }

    /// The block it lies in; none crosses an edge.
    pub fn block(&self, block_ms: i64) -> i64 {
        self.times.min_ms.div_euclid(block_ms)
    }

    fn decode_values(&self) -> Vec<f64> {
        let mut values = Vec::with_capacity(self.times.count as usize);
        // In memory it is what we encoded.
        let _ = decode_values(&self.values, self.times.count as usize, &mut values);
        values
    }

    pub fn read(&self, range: TimeRange, cache: &mut TimesCache, into: &mut Columns) {
        if !self.overlaps(range) {
            return;
        }
        let times = cache.times_of(&self.times);
        let (from, to) = range_of(&times, range);
        if from == 0 && to == times.len() {
            let before = into.len();
            let decoded = decode_values(&self.values, times.len(), into.push_times(&times));
            if decoded.is_none() {
                // Cannot be in memory; still, a time without a value must not go out.
                into.truncate(before);
            }
        } else if let Some(values) = self.decode_values().get(from..to) {
            into.push(&times[from..to], values);
        }
    }

    fn find(&self, at_ms: i64) -> Option<u64> {
        if at_ms < self.times.min_ms || at_ms > self.times.max_ms {
            return None;
        }
        let at = self.times.decode()?.binary_search(&at_ms).ok()?;
        self.decode_values().get(at).map(|value| value.to_bits())
    }
}

/// The part of sorted times that lies in a range.
pub(crate) fn range_of(times: &[i64], range: TimeRange) -> (usize, usize) {
    let from = times.partition_point(|time| *time < range.start_ms);
    let to = times.partition_point(|time| *time <= range.end_ms);
    (from, to.max(from))
}

impl Series {
    pub fn new(id: u32, labels: Box<[(Arc<str>, Arc<str>)]>) -> Self {
        Series { id, labels, shared: OnceLock::new(), aliases: AtomicU8::new(0), state: Mutex::default() }
    }

    pub fn shared_labels(&self) -> Arc<Labels> {
        let make = || {
            let labels =
                self.labels.iter().map(|(name, value)| Label { name: (**name).into(), value: (**value).into() });
            Arc::new(Labels::from_sorted(labels.collect()))
        };
        self.shared.get_or_init(make).clone()
    }

    /// Whether one more spelling may be remembered; counts it.
    pub fn take_alias(&self) -> bool {
        self.aliases
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |count| (count < MAX_ALIASES).then_some(count + 1))
            .is_ok()
    }
}

impl SeriesState {
    /// The caller has checked that the time is within the bounds for late and early samples.
    #[inline]
    pub fn append(&mut self, sample: Sample, sealer: &mut Sealer<'_>) -> Appended {
        if self.last_ms.is_some_and(|last| sample.timestamp_ms <= last) {
            return self.append_late(sample, sealer);
        }
        if !self.open.is_empty() {
            let offset = sample.timestamp_ms - self.base_ms;
            let same_block =
                sample.timestamp_ms.div_euclid(sealer.block_ms) == self.base_ms.div_euclid(sealer.block_ms);
            if self.open.len() >= CHUNK_SAMPLES || !same_block || offset > i64::from(u32::MAX) {
                self.seal(sealer);
            }
        }
        if self.open.is_empty() {
            self.base_ms = sample.timestamp_ms;
        }
        if self.open.len() == self.open.capacity() {
            let wanted = GROWTH.into_iter().find(|size| *size > self.open.len()).unwrap_or(CHUNK_SAMPLES);
            self.open.reserve_exact(wanted - self.open.len());
        }
        let bits = sample.value.to_bits();
        self.open.push([(sample.timestamp_ms - self.base_ms) as u32, bits as u32, (bits >> 32) as u32]);
        self.last_ms = Some(sample.timestamp_ms);
        Appended::InOrder
    }

    #[cold]
    fn append_late(&mut self, sample: Sample, sealer: &mut Sealer<'_>) -> Appended {
        if let Some(bits) = self.find(sample.timestamp_ms) {
            return if bits == sample.value.to_bits() { Appended::Duplicate } else { Appended::Conflict };
        }
        let late = self.late.get_or_insert_default();
        let at = late.open.partition_point(|other| other.timestamp_ms < sample.timestamp_ms);
        late.open.insert(at, sample);
        if late.open.len() >= CHUNK_SAMPLES {
            late.seal(sealer);
        }
        Appended::OutOfOrder
    }

    fn find(&self, at_ms: i64) -> Option<u64> {
        if let Some(offset) = u32::try_from(at_ms.wrapping_sub(self.base_ms)).ok()
            && at_ms >= self.base_ms
            && let Ok(at) = self.open.binary_search_by_key(&offset, |entry| entry[0])
        {
            return Some(bits_of(&self.open[at]));
        }
        if let Some(late) = &self.late {
            if let Ok(at) = late.open.binary_search_by_key(&at_ms, |sample| sample.timestamp_ms) {
                return Some(late.open[at].value.to_bits());
            }
            if let Some(bits) = late.chunks.iter().find_map(|chunk| chunk.find(at_ms)) {
                return Some(bits);
            }
        }
        self.chunks.iter().rev().chain(&self.flushing).find_map(|chunk| chunk.find(at_ms))
    }

    fn seal(&mut self, sealer: &mut Sealer<'_>) {
        let times: Vec<i64> = self.open.iter().map(|entry| self.base_ms + i64::from(entry[0])).collect();
        let values: Vec<f64> = self.open.iter().map(|entry| f64::from_bits(bits_of(entry))).collect();
        if times.is_empty() {
            return;
        }
        self.chunks.push(sealer.seal(&times, &values));
        self.open.clear();
    }

    /// Whether any sample lies in the range (a chunk that overlaps it counts).
    pub fn overlaps(&self, range: TimeRange) -> bool {
        let open = match (self.open.first(), self.open.last()) {
            (Some(_), Some(last)) => {
                self.base_ms <= range.end_ms && self.base_ms + i64::from(last[0]) >= range.start_ms
            }
            _ => false,
        };
        open || self.chunks.iter().chain(&self.flushing).any(|chunk| chunk.overlaps(range))
            || self.late.as_ref().is_some_and(|late| {
                late.chunks.iter().any(|chunk| chunk.overlaps(range))
                    || late.open.iter().any(|sample| range.contains(sample.timestamp_ms))
            })
    }

    pub fn read(&self, range: TimeRange, cache: &mut TimesCache, into: &mut Columns) {
        for chunk in self.flushing.iter().chain(&self.chunks) {
            chunk.read(range, cache, into);
        }
        let from = self.open.partition_point(|entry| self.base_ms + i64::from(entry[0]) < range.start_ms);
        for entry in &self.open[from..] {
            let at_ms = self.base_ms + i64::from(entry[0]);
            if at_ms > range.end_ms {
                break;
            }
            into.push_one(at_ms, f64::from_bits(bits_of(entry)));
        }
        let Some(late) = &self.late else { return };
        for chunk in &late.chunks {
            chunk.read(range, cache, into);
        }
        for sample in late.open.iter().filter(|sample| range.contains(sample.timestamp_ms)) {
            into.push_one(sample.timestamp_ms, sample.value);
        }
    }

    /// Sets aside all samples before a block's edge, sealed, for a segment. They stay readable until `end_flush`; what comes after stays out of it.
    pub fn begin_flush(&mut self, before_ms: i64, sealer: &mut Sealer<'_>) {
        // In-order chunks and the open buffer never cross an edge.
        let (before, after) =
            std::mem::take(&mut self.chunks).into_iter().partition(|chunk| chunk.times.max_ms < before_ms);
        self.chunks = after;
        self.flushing.extend::<Vec<Chunk>>(before);
        if !self.open.is_empty() && self.base_ms < before_ms {
            self.seal(sealer);
            self.flushing.extend(self.chunks.pop());
            // The series may have ended.
            self.open = Vec::new();
        }
        let Some(late) = self.late.take() else { return };
        let samples = late.sorted();
        let (before, after) = samples.split_at(samples.partition_point(|sample| sample.timestamp_ms < before_ms));
        seal_by_block(before, sealer, &mut self.flushing);
        if !after.is_empty() {
            let mut kept = Late::default();
            let sealed = after.len() / CHUNK_SAMPLES * CHUNK_SAMPLES;
            seal_by_block(&after[..sealed], sealer, &mut kept.chunks);
            kept.open = after[sealed..].to_vec();
            self.late = Some(Box::new(kept));
        }
    }

    /// What `begin_flush` set aside, now or in an earlier attempt that failed.
    pub fn flushing(&self) -> &[Chunk] {
        &self.flushing
    }

    /// Forgets what was set aside of one block: it is in a segment now. Returns the number of samples.
    pub fn end_flush(&mut self, block: i64, block_ms: i64) -> u64 {
        let mut samples = 0;
        self.flushing.retain(|chunk| {
            let keep = chunk.block(block_ms) != block;
            samples += if keep { 0 } else { u64::from(chunk.times.count) };
            keep
        });
        if self.flushing.is_empty() {
            self.flushing = Vec::new();
        }
        samples
    }

    /// Seals a buffer whose newest sample is older than `before_ms`, so that an idle series gives its memory back.
    pub fn seal_idle(&mut self, before_ms: i64, sealer: &mut Sealer<'_>) {
        if self.open.len() > GROWTH[0] && self.last_ms.is_some_and(|last| last < before_ms) {
            self.seal(sealer);
            self.open = Vec::new();
        }
    }

    pub fn is_empty(&self) -> bool {
        self.open.is_empty() && self.chunks.is_empty() && self.late.is_none() && self.flushing.is_empty()
    }

    /// Oldest and newest time held.
    pub fn bounds(&self) -> Option<(i64, i64)> {
        let chunks = self.chunks.iter().chain(&self.flushing).chain(self.late.iter().flat_map(|late| &late.chunks));
        let sealed = chunks.map(|chunk| (chunk.times.min_ms, chunk.times.max_ms));
        let open = self.open.last().map(|last| (self.base_ms, self.base_ms + i64::from(last[0])));
        let late =
            self.late.as_ref().and_then(|late| Some((late.open.first()?.timestamp_ms, late.open.last()?.timestamp_ms)));
        sealed.chain(open).chain(late).reduce(|left, right| (left.0.min(right.0), left.1.max(right.1)))
    }
}

impl Late {
    fn seal(&mut self, sealer: &mut Sealer<'_>) {
        let samples = std::mem::take(&mut self.open);
        seal_by_block(&samples, sealer, &mut self.chunks);
    }

    fn sorted(&self) -> Vec<Sample> {
        let mut columns = Columns::default();
        let everything = TimeRange { start_ms: i64::MIN, end_ms: i64::MAX };
        let mut cache = TimesCache::default();
        for chunk in &self.chunks {
            chunk.read(everything, &mut cache, &mut columns);
        }
        for sample in &self.open {
            columns.push_one(sample.timestamp_ms, sample.value);
        }
        columns.sort();
        columns.iter().map(|(timestamp_ms, value)| Sample { timestamp_ms, value }).collect()
    }
}

/// Chunks of at most `CHUNK_SAMPLES`, none of which crosses a block's edge.
fn seal_by_block(samples: &[Sample], sealer: &mut Sealer<'_>, into: &mut Vec<Chunk>) {
    let block_ms = sealer.block_ms;
    let block = |sample: &Sample| sample.timestamp_ms.div_euclid(block_ms);
    for block in samples.chunk_by(|left, right| block(left) == block(right)) {
        for part in block.chunks(CHUNK_SAMPLES) {
            let times: Vec<i64> = part.iter().map(|sample| sample.timestamp_ms).collect();
            let values: Vec<f64> = part.iter().map(|sample| sample.value).collect();
            into.push(sealer.seal(&times, &values));
        }
    }
}

fn bits_of(entry: &[u32; 3]) -> u64 {
    u64::from(entry[1]) | u64::from(entry[2]) << 32
}
