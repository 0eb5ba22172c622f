//! What happened since the database was opened.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::stats::{AppendOutcome, DbStats};

#[derive(Debug, Default)]
pub(crate) struct Counters {
    accepted: AtomicU64,
    out_of_order: AtomicU64,
    duplicates: AtomicU64,
    conflicts: AtomicU64,
    too_old: AtomicU64,
    too_new: AtomicU64,
    refused_samples: AtomicU64,
    refused_series: AtomicU64,
    pub storage_full: AtomicU64,
    pub storage_failed: AtomicU64,
    pub flushes: AtomicU64,
    pub compactions: AtomicU64,
    pub quarantined: AtomicU64,
}

pub(crate) fn add(counter: &AtomicU64, count: u64) {
    if count > 0 {
        counter.fetch_add(count, Ordering::Relaxed);
    }
}

impl Counters {
    pub fn count(&self, outcome: &AppendOutcome) {
        add(&self.accepted, outcome.accepted);
        add(&self.out_of_order, outcome.out_of_order);
        add(&self.duplicates, outcome.duplicates);
        add(&self.conflicts, outcome.conflicts);
        add(&self.too_old, outcome.too_old);
        add(&self.too_new, outcome.too_new);
        add(&self.refused_samples, outcome.refused_samples);
        add(&self.refused_series, outcome.refused_series);
    }

    pub fn fill(&self, stats: &mut DbStats) {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        stats.samples_accepted_total = get(&self.accepted);
        stats.samples_out_of_order_total = get(&self.out_of_order);
        stats.samples_duplicate_total = get(&self.duplicates);
        stats.samples_conflict_total = get(&self.conflicts);
        stats.samples_too_old_total = get(&self.too_old);
        stats.samples_too_new_total = get(&self.too_new);
        stats.samples_refused_total = get(&self.refused_samples);
        stats.series_refused_total = get(&self.refused_series);
        stats.requests_storage_full_total = get(&self.storage_full);
        stats.requests_storage_failed_total = get(&self.storage_failed);
        stats.flushes_total = get(&self.flushes);
        stats.compactions_total = get(&self.compactions);
        stats.quarantined_files = get(&self.quarantined);
    }
}
