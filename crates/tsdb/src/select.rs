//! Reading samples: the head first, then the segments, so that what moves from one to the other meanwhile is seen twice rather than never.

use std::sync::Arc;

use ers_model::{Label, Labels, TimeRange};
use ers_promql::source::{LabelMatcher, SampleWindows, Select, SeriesData, SourceError};
use hashbrown::HashMap;
use xxhash_rust::xxh3::xxh3_64;

use crate::codec::{decode_times, decode_values};
use crate::columns::{Columns, TimesCache};
use crate::db::Inner;
use crate::error::StorageError;
use crate::head::series::range_of;
use crate::matching::resolve;
use crate::segment::data::{Piece, read_pieces};
use crate::segment::file::SegmentFile;
use crate::sync::{lock, read};

/// One series of the answer while it is gathered.
#[derive(Default)]
struct Gathered {
    segments: Columns,
    head: Columns,
}

struct Gathering {
    range: TimeRange,
    windows: Option<SampleWindows>,
    max_samples: usize,
    samples: usize,
    by_labels: HashMap<Arc<Labels>, usize>,
    series: Vec<Gathered>,
}

/// Why a read ended early.
enum Stop {
    Storage(StorageError),
    TooMany,
}

impl From<StorageError> for Stop {
    fn from(error: StorageError) -> Self {
        Stop::Storage(error)
    }
}

impl Gathering {
    fn count(&mut self, samples: usize) -> Result<(), Stop> {
        self.samples += samples;
        if self.samples > self.max_samples { Err(Stop::TooMany) } else { Ok(()) }
    }

    fn place(&mut self, labels: Arc<Labels>) -> usize {
        let next = self.series.len();
        let at = *self.by_labels.entry(labels).or_insert(next);
        if at == next {
            self.series.push(Gathered::default());
        }
        at
    }

    fn finish(self) -> Vec<SeriesData> {
        let mut shared = SharedTimes::default();
        let mut labels: Vec<Option<Arc<Labels>>> = vec![None; self.series.len()];
        for (key, at) in self.by_labels {
            labels[at] = Some(key);
        }
        let gathered = self.series.into_iter().zip(labels);
        gathered
            .filter_map(|(Gathered { mut segments, head }, labels)| {
                let mut columns = if segments.is_empty() {
                    head
                } else {
                    segments.append(&head);
                    segments
                };
                columns.sort();
                let labels = labels.filter(|_| !columns.is_empty())?;
                Some(SeriesData { labels, timestamps: shared.share(&columns.times), values: columns.values })
            })
            .collect()
    }
}

/// Series of one scrape get the very same times.
#[derive(Default)]
struct SharedTimes(HashMap<u64, Arc<[i64]>>);

impl SharedTimes {
    fn share(&mut self, times: &[i64]) -> Arc<[i64]> {
        let mut hash = times.len() as u64;
        // Both ends tell most columns apart; the comparison below decides.
        for time in times.iter().take(4).chain(times.iter().rev().take(4)) {
            hash = xxh3_64(&(hash ^ *time as u64).to_le_bytes());
        }
        let held = self.0.entry(hash).or_insert_with(|| times.into());
        if **held == *times { held.clone() } else { times.into() }
    }
}

/// Pushes the samples of one sorted run that some window uses. Of several runs of a series each gives its own last one: more than needed, never less.
fn thin(windows: &SampleWindows, times: &[i64], values: &[f64], into: &mut Columns) {
    let step = windows.step_ms.max(1);
    for (at, (time, value)) in times.iter().zip(values).enumerate() {
        // The first window that ends here or later; all others that hold the sample begin before it as well.
        let behind = time.saturating_sub(windows.first_end_ms);
        let window = if behind <= 0 { 0 } else { (behind - 1) / step + 1 };
        if usize::try_from(window).is_ok_and(|window| window >= windows.count) {
            return;
        }
        let end = windows.first_end_ms.saturating_add(window.saturating_mul(step));
        let inside = end.saturating_sub(*time) < windows.length_ms;
        let last = times.get(at + 1).is_none_or(|next| *next > end);
        if inside && (last || !windows.last_only) {
            into.push_one(*time, *value);
        }
    }
}

pub(crate) fn select(
    db: &Inner,
    matchers: &[&LabelMatcher],
    select: &Select<'_>,
) -> Result<Vec<SeriesData>, SourceError> {
    let Select { range, max_samples, windows, .. } = *select;
    let range = db.visible(range);
    // Windows without gaps between them, all of whose samples count, leave nothing out.
    let windows = windows.filter(|windows| windows.last_only || windows.length_ms < windows.step_ms);
    let (by_labels, series) = (HashMap::new(), Vec::new());
    let mut gathering = Gathering { range, windows, max_samples, samples: 0, by_labels, series };
    let outcome = gather_head(db, matchers, &mut gathering).and_then(|()| {
        for segment in db.segments_in(range) {
            if let Err(stop) = gather_segment(&segment, matchers, &mut gathering) {
                if let Stop::Storage(error) = &stop {
                    db.suspect(&segment, error);
                }
                return Err(stop);
            }
            db.index_used(&segment);
        }
        Ok(())
    });
    match outcome {
        Ok(()) => Ok(gathering.finish()),
        Err(Stop::TooMany) => Err(SourceError::TooManySamples),
        Err(Stop::Storage(error)) => Err(SourceError::Storage(error.to_string())),
    }
}

fn gather_head(db: &Inner, matchers: &[&LabelMatcher], gathering: &mut Gathering) -> Result<(), Stop> {
    let series: Vec<_> = {
        let registry = read(&db.head.registry);
        let ids = resolve(&*registry, matchers.iter().copied());
        ids.iter().filter_map(|id| registry.get(id).cloned()).collect()
    };
    let mut cache = TimesCache::default();
    for series in series {
        let mut columns = Columns::default();
        lock(&series.state).read(gathering.range, &mut cache, &mut columns);
        if let Some(windows) = &gathering.windows {
            columns.sort();
            let mut thinned = Columns::default();
            thin(windows, &columns.times, &columns.values, &mut thinned);
            columns = thinned;
        }
        if columns.is_empty() {
            continue;
        }
        gathering.count(columns.len())?;
        let at = gathering.place(series.shared_labels());
        gathering.series[at].head = columns;
    }
    Ok(())
}

fn gather_segment(segment: &SegmentFile, matchers: &[&LabelMatcher], gathering: &mut Gathering) -> Result<(), Stop> {
    let index = segment.index()?;
    let range = gathering.range;
    let mut chunks: Vec<Piece<(usize, u32)>> = Vec::new();
    let mut wanted_columns: HashMap<u32, Arc<[i64]>> = HashMap::new();
    for id in resolve(&*index, matchers.iter().copied()) {
        let first = chunks.len();
        let whole = index.each_chunk(id, |chunk, column| {
            if column.min_ms <= range.end_ms && column.max_ms >= range.start_ms {
                chunks.push(Piece { offset: chunk.offset, len: chunk.len, what: (0, chunk.column) });
            }
        });
        let labels = index.labels(id);
        let (Some(()), Some(labels)) = (whole, labels) else {
            return Err(segment.damaged("index").into());
        };
        if chunks.len() == first {
            continue;
        }
        let labels = labels.into_iter().map(|(name, value)| Label { name: name.into(), value: value.into() });
        let at = gathering.place(Arc::new(Labels::from_sorted(labels.collect())));
        for chunk in &mut chunks[first..] {
            chunk.what.0 = at;
            wanted_columns.entry(chunk.what.1).or_insert_with(|| Arc::from([]));
        }
    }
    let mut columns = Vec::with_capacity(wanted_columns.len());
    for id in wanted_columns.keys() {
        let column = index.column(*id).ok_or_else(|| segment.damaged("index"))?;
        columns.push(Piece { offset: column.offset, len: column.len, what: (*id, column.count) });
    }
    read_pieces::<_, Stop>(segment, &mut columns, |(id, count), bytes| {
        let mut times = Vec::with_capacity(count as usize);
        decode_times(bytes, count as usize, &mut times).ok_or_else(|| segment.damaged("times"))?;
        wanted_columns.insert(id, times.into());
        Ok(())
    })?;
    let mut values = Vec::new();
    read_pieces::<_, Stop>(segment, &mut chunks, |(at, column), bytes| {
        let Some(times) = wanted_columns.get(&column) else { return Err(segment.damaged("index").into()) };
        values.clear();
        decode_values(bytes, times.len(), &mut values).ok_or_else(|| segment.damaged("values"))?;
        let (from, to) = range_of(times, range);
        let part = values.get(from..to).ok_or_else(|| segment.damaged("values"))?;
        let columns = &mut gathering.series[at].segments;
        let before = columns.len();
        match &gathering.windows {
            Some(windows) => thin(windows, &times[from..to], part, columns),
            None => columns.push(&times[from..to], part),
        }
        let pushed = columns.len() - before;
        gathering.count(pushed)
    })
}
