//! Samples as two columns, gathered from several places.

use std::sync::Arc;

use hashbrown::HashMap;

use crate::head::times::TimeColumn;

/// Times and values of one series. What is pushed first wins when a time comes twice.
#[derive(Clone, Debug, Default)]
pub(crate) struct Columns {
    pub times: Vec<i64>,
    pub values: Vec<f64>,
    unsorted: bool,
}

impl Columns {
    pub fn push_one(&mut self, at_ms: i64, value: f64) {
        self.unsorted |= self.times.last().is_some_and(|last| *last >= at_ms);
        self.times.push(at_ms);
        self.values.push(value);
    }

    /// Sorted times; the caller pushes as many values to what is returned.
    pub fn push_times(&mut self, times: &[i64]) -> &mut Vec<f64> {
        if let (Some(last), Some(first)) = (self.times.last(), times.first()) {
            self.unsorted |= last >= first;
        }
        self.times.extend_from_slice(times);
        &mut self.values
    }

    pub fn push(&mut self, times: &[i64], values: &[f64]) {
        self.push_times(times).extend_from_slice(values);
    }

    pub fn append(&mut self, other: &Columns) {
        self.unsorted |= other.unsorted;
        self.push(&other.times, &other.values);
    }

    pub fn truncate(&mut self, len: usize) {
        self.times.truncate(len);
        self.values.truncate(len);
    }

    pub fn len(&self) -> usize {
        self.times.len()
    }

    pub fn is_empty(&self) -> bool {
        self.times.is_empty()
    }

    pub fn iter(&self) -> impl Iterator<Item = (i64, f64)> + '_ {
        self.times.iter().copied().zip(self.values.iter().copied())
    }

    /// Brings the times into order, each once.
    pub fn sort(&mut self) {
        if !self.unsorted {
            return;
        }
        let mut order: Vec<u32> = (0..self.times.len() as u32).collect();
        // Stable: of equal times the one that was pushed first stays first.
        order.sort_by_key(|at| self.times[*at as usize]);
        order.dedup_by_key(|at| self.times[*at as usize]);
        self.times = order.iter().map(|at| self.times[*at as usize]).collect::<Vec<_>>();
        let values = order.iter().map(|at| self.values[*at as usize]).collect();
        self.values = values;
        self.unsorted = false;
    }
}

/// Decoded time columns of one query: each is decoded once, however many series share it.
#[derive(Default)]
pub(crate) struct TimesCache {
    /// By address; holding the column keeps the address from being used for another.
    decoded: HashMap<usize, (Arc<TimeColumn>, Arc<[i64]>)>,
}

impl TimesCache {
    pub fn times_of(&mut self, column: &Arc<TimeColumn>) -> Arc<[i64]> {
        let key = Arc::as_ptr(column) as usize;
        let (_, times) = self.decoded.entry(key).or_insert_with(|| {
            let times = column.decode().unwrap_or_default();
            (column.clone(), times.into())
        });
        times.clone()
    }
}
