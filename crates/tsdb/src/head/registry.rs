//! Which series are active, and their labels' index.

use std::collections::BTreeMap;
use std::ops::{Bound, ControlFlow};
use std::sync::Arc;

use hashbrown::{HashMap, HashSet};
use roaring::RoaringBitmap;

use super::series::Series;
use crate::matching::Postings;

/// Ids and postings of the active series. Ids are used again when a series has ended.
#[derive(Default)]
pub(crate) struct Registry {
    series: Vec<Option<Arc<Series>>>,
    free: Vec<u32>,
    all: RoaringBitmap,
    by_labels: HashMap<u128, u32>,
    postings: HashMap<Arc<str>, BTreeMap<Arc<str>, RoaringBitmap>>,
    /// Each text is held once.
    texts: HashSet<Arc<str>>,
}

impl Registry {
    pub fn len(&self) -> usize {
        self.by_labels.len()
    }

    /// `key` identifies the labels.
    pub fn find(&self, key: u128) -> Option<&Arc<Series>> {
        let id = *self.by_labels.get(&key)?;
        self.series.get(id as usize)?.as_ref()
    }

    /// Labels are sorted by name and not known yet.
    pub fn insert(&mut self, key: u128, labels: &[(&str, &str)]) -> Arc<Series> {
        let id = self.free.pop().unwrap_or_else(|| {
            self.series.push(None);
            self.series.len() as u32 - 1
        });
        let labels: Box<[_]> = labels.iter().map(|(name, value)| (self.text(name), self.text(value))).collect();
        for (name, value) in &labels {
            self.postings.entry(name.clone()).or_default().entry(value.clone()).or_default().insert(id);
        }
        let series = Arc::new(Series::new(id, labels));
        self.series[id as usize] = Some(series.clone());
        self.all.insert(id);
        self.by_labels.insert(key, id);
        series
    }

    fn text(&mut self, text: &str) -> Arc<str> {
        self.texts.get_or_insert_with(text, |text| text.into()).clone()
    }

    pub fn get(&self, id: u32) -> Option<&Arc<Series>> {
        self.series.get(id as usize)?.as_ref()
    }

    pub fn iter(&self) -> impl Iterator<Item = &Arc<Series>> {
        self.series.iter().flatten()
    }

    /// Forgets series for which `ended` holds; returns how many.
    pub fn remove_ended(&mut self, ended: impl Fn(&Series) -> bool) -> usize {
        let gone: Vec<Arc<Series>> = self.iter().filter(|series| ended(series)).cloned().collect();
        for series in &gone {
            self.all.remove(series.id);
            self.series[series.id as usize] = None;
            self.free.push(series.id);
            for (name, value) in &series.labels {
                let Some(values) = self.postings.get_mut(&**name) else { continue };
                if let Some(ids) = values.get_mut(&**value) {
                    ids.remove(series.id);
                    if ids.is_empty() {
                        values.remove(&**value);
                    }
                }
                if values.is_empty() {
                    self.postings.remove(&**name);
                }
            }
        }
        let series = &self.series;
        self.by_labels.retain(|_, id| series[*id as usize].is_some());
        let count = gone.len();
        drop(gone);
        if count > 0 {
            self.texts.retain(|text| Arc::strong_count(text) > 1);
        }
        count
    }

    /// Values of a label with the number of series that have them.
    pub fn value_counts(&self, name: &str) -> Vec<(Arc<str>, u64)> {
        self.postings
            .get(name)
            .map(|values| values.iter().map(|(value, ids)| (value.clone(), ids.len())).collect())
            .unwrap_or_default()
    }
}

impl Postings for Registry {
    fn all(&self) -> RoaringBitmap {
        self.all.clone()
    }

    fn with_value(&self, name: &str, value: &str) -> RoaringBitmap {
        self.postings.get(name).and_then(|values| values.get(value)).cloned().unwrap_or_default()
    }

    fn each_value(&self, name: &str, prefix: &str, each: &mut dyn FnMut(&str, &RoaringBitmap) -> ControlFlow<()>) {
        let Some(values) = self.postings.get(name) else { return };
        for (value, ids) in values.range::<str, _>((Bound::Included(prefix), Bound::Unbounded)) {
            if !value.starts_with(prefix) || each(value, ids).is_break() {
                return;
            }
        }
    }
}
