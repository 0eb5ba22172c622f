//! The series of one target: labels encoded once, and who vanished since the last scrape.

use crate::batch::BatchWriter;
use ers_model::{Labels, STALE_NAN};
use ers_wire::exposition::parse_series;
use ers_wire::series_writer::encode_labels;
use hashbrown::HashTable;
use std::borrow::Cow;
use xxhash_rust::xxh3::xxh3_64;

/// Why a series cannot be taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The target has more series than it may.
    TooManySeries,
    /// One series has more labels than it may.
    TooManyLabels,
    /// The series occurred before in this scrape.
    Duplicate,
}

#[derive(Debug)]
struct Slot {
    /// The series as the target writes it: identity, compared in full.
    key: Box<str>,
    /// Labels with the target's, sorted, in remote write's encoding.
    labels: Box<[u8]>,
    hash: u64,
    generation: u32,
}

/// Cache of one target. Memory is bounded by the target's limit of series.
#[derive(Debug)]
pub struct SeriesCache {
    target_labels: Labels,
    /// Whether the target's own labels win over those of the configuration, as for cAdvisor.
    honor_labels: bool,
    max_series: usize,
    max_labels: usize,
    slots: Vec<Option<Slot>>,
    free: Vec<u32>,
    index: HashTable<u32>,
    /// Slots in the order of the last scrape: targets hardly ever change it, so the next one is found without hashing.
    order: Vec<u32>,
    next_order: Vec<u32>,
    generation: u32,
    added: u32,
}

impl SeriesCache {
    pub fn new(target_labels: Labels, honor_labels: bool, max_series: usize, max_labels: usize) -> Self {
        SeriesCache {
            target_labels,
            honor_labels,
            max_series,
            max_labels,
            slots: Vec::new(),
            free: Vec::new(),
            index: HashTable::new(),
            order: Vec::new(),
            next_order: Vec::new(),
            generation: 0,
            added: 0,
        }
    }

    /// Begins a scrape.
    pub fn begin(&mut self) {
        self.generation = self.generation.wrapping_add(1);
        self.next_order.clear();
        self.added = 0;
    }

    /// The slot of a series, made if it is new; `true` with it when it is.
    pub fn slot(&mut self, series: &str) -> Result<(u32, bool), Refusal> {
        if self.next_order.len() >= self.max_series {
            return Err(Refusal::TooManySeries);
        }
        if let Some(&at) = self.order.get(self.next_order.len())
            && let Some(Some(slot)) = self.slots.get_mut(at as usize)
            && slot.generation != self.generation
            && *slot.key == *series
        {
            slot.generation = self.generation;
            self.next_order.push(at);
            return Ok((at, false));
        }
        let hash = xxh3_64(series.as_bytes());
        let slots = &self.slots;
        let found = self.index.find(hash, |at| slots[*at as usize].as_ref().is_some_and(|slot| *slot.key == *series));
        if let Some(&at) = found {
            if let Some(Some(slot)) = self.slots.get_mut(at as usize) {
                if slot.generation == self.generation {
                    return Err(Refusal::Duplicate);
                }
                slot.generation = self.generation;
            }
            self.next_order.push(at);
            return Ok((at, false));
        }
        let labels = self.encode(series)?;
        let slot = Slot { key: series.into(), labels, hash, generation: self.generation };
        let at = match self.free.pop() {
            Some(at) => {
                self.slots[at as usize] = Some(slot);
                at
            }
            None => {
                self.slots.push(Some(slot));
                // The limit of series is a u32.
                (self.slots.len() - 1) as u32
            }
        };
        let slots = &self.slots;
        self.index.insert_unique(hash, at, |at| slots[*at as usize].as_ref().map_or(0, |slot| slot.hash));
        self.next_order.push(at);
        self.added += 1;
        Ok((at, true))
    }

    /// Labels of a slot as [`BatchWriter::sample`] wants them.
    pub fn labels(&self, slot: u32) -> &[u8] {
        self.slots.get(slot as usize).and_then(Option::as_ref).map_or(&[], |slot| &slot.labels)
    }

    /// Series that are new since the last scrape.
    pub fn added(&self) -> u32 {
        self.added
    }

    /// Ends a scrape that succeeded: writes a stale marker for each series that is gone, and forgets it.
    pub fn end(&mut self, timestamp_ms: i64, out: &mut BatchWriter) {
        std::mem::swap(&mut self.order, &mut self.next_order);
        if self.order.len() == self.slots.len() - self.free.len() {
            return;
        }
        for at in 0..self.slots.len() {
            let Some(slot) = &self.slots[at] else {
                continue;
            };
            if slot.generation == self.generation {
                continue;
            }
            out.sample(&slot.labels, STALE_NAN, timestamp_ms);
            let hash = slot.hash;
            if let Ok(entry) = self.index.find_entry(hash, |other| *other == at as u32) {
                entry.remove();
            }
            self.slots[at] = None;
            self.free.push(at as u32);
        }
    }

    /// The target failed or is gone: every series it had gets a stale marker, and the cache is empty again.
    pub fn end_all(&mut self, timestamp_ms: i64, out: &mut BatchWriter) {
        for slot in self.slots.iter().flatten() {
            out.sample(&slot.labels, STALE_NAN, timestamp_ms);
        }
        self.forget();
    }

    /// Forgets the series that a failed scrape brought in before it failed, writing markers only for those that were
    /// shipped before.
    pub fn abort(&mut self, timestamp_ms: i64, out: &mut BatchWriter) {
        for at in std::mem::take(&mut self.order) {
            if let Some(Some(slot)) = self.slots.get(at as usize) {
                out.sample(&slot.labels, STALE_NAN, timestamp_ms);
            }
        }
        self.forget();
    }

    fn forget(&mut self) {
        self.slots.clear();
        self.free.clear();
        self.index.clear();
        self.order.clear();
        self.next_order.clear();
    }

    fn encode(&self, series: &str) -> Result<Box<[u8]>, Refusal> {
        let mut labels: Vec<(Cow<'_, str>, Cow<'_, str>)> = Vec::with_capacity(16);
        for (name, value) in parse_series(series) {
            if value.is_empty() {
                // No value means no such label.
                continue;
            }
            if labels.len() > self.max_labels {
                return Err(Refusal::TooManyLabels);
            }
            let clashes = self.target_labels.get(&name).is_some();
            if clashes && !self.honor_labels {
                labels.push((Cow::Owned(format!("exported_{name}")), value));
            } else {
                labels.push((name, value));
            }
        }
        for (name, value) in self.target_labels.iter() {
            if !self.honor_labels || labels.iter().all(|(own, _)| own != name) {
                labels.push((name.into(), value.into()));
            }
        }
        labels.sort();
        let mut encoded = Vec::with_capacity(labels.iter().map(|(name, value)| name.len() + value.len() + 6).sum());
        encode_labels(&mut encoded, labels.iter().map(|(name, value)| (&**name, &**value)));
        Ok(encoded.into_boxed_slice())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cache(honor_labels: bool) -> SeriesCache {
        SeriesCache::new(Labels::from_pairs([("job", "j"), ("pod", "target")]), honor_labels, 3, 2)
    }

    fn encoded(labels: &[(&str, &str)]) -> Vec<u8> {
        let mut out = Vec::new();
        encode_labels(&mut out, labels.iter().copied());
        out
    }

    fn scrape(cache: &mut SeriesCache, series: &[&str]) -> usize {
        cache.begin();
        for one in series {
            cache.slot(one).expect("taken");
        }
        let mut out = BatchWriter::default();
        cache.end(0, &mut out);
        out.samples() as usize
    }

    #[test]
    fn labels_of_the_target_win_unless_its_own_are_honoured() {
        let mut renaming = cache(false);
        renaming.begin();
        let (slot, is_new) = renaming.slot("a{pod=\"own\",z=\"\"}").expect("taken");
        assert!(is_new);
        let expect = encoded(&[("__name__", "a"), ("exported_pod", "own"), ("job", "j"), ("pod", "target")]);
        assert_eq!(renaming.labels(slot), expect);

        let mut honouring = cache(true);
        honouring.begin();
        let (slot, _) = honouring.slot("a{pod=\"own\"}").expect("taken");
        assert_eq!(honouring.labels(slot), encoded(&[("__name__", "a"), ("job", "j"), ("pod", "own")]));
    }

    #[test]
    fn a_series_that_vanishes_gets_one_marker() {
        let mut cache = cache(false);
        assert_eq!(scrape(&mut cache, &["a", "b", "c"]), 0);
        assert_eq!(scrape(&mut cache, &["c", "a"]), 1);
        assert_eq!(scrape(&mut cache, &["a", "c"]), 0);
        assert_eq!(scrape(&mut cache, &["a", "d", "c"]), 0);
        assert_eq!(cache.added(), 1);
        let mut out = BatchWriter::default();
        cache.end_all(0, &mut out);
        assert_eq!(out.samples(), 3);
        assert_eq!(scrape(&mut cache, &["a"]), 0);
    }

    #[test]
    fn a_failed_scrape_ends_what_was_shipped_and_nothing_else() {
        let mut cache = cache(false);
        scrape(&mut cache, &["a", "b"]);
        cache.begin();
        cache.slot("a").expect("taken");
        cache.slot("new").expect("taken");
        let mut out = BatchWriter::default();
        cache.abort(0, &mut out);
        assert_eq!(out.samples(), 2);
    }

    #[test]
    fn limits_are_refusals() {
        let mut cache = cache(false);
        cache.begin();
        assert_eq!(cache.slot("a{b=\"1\",c=\"2\",d=\"3\"}"), Err(Refusal::TooManyLabels));
        for series in ["a", "b", "c"] {
            cache.slot(series).expect("taken");
        }
        assert_eq!(cache.slot("d"), Err(Refusal::TooManySeries));
    }

    #[test]
    fn a_series_that_occurs_twice_is_refused_the_second_time() {
        let mut cache = cache(false);
        cache.begin();
        cache.slot("a").expect("taken");
        assert_eq!(cache.slot("a"), Err(Refusal::Duplicate));
    }
}
