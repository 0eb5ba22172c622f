//! `ers_operator_*`: what the controllers do. Labels come from closed sets; no object's name is one.

use std::sync::Arc;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct KindLabel {
    pub kind: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ErrorLabels {
    pub kind: &'static str,
    /// `Transient`, `WaitForChange` or `Bug`.
    pub class: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ChildLabels {
    pub kind: &'static str,
    /// Kind of the child, or `Status`.
    pub object: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ConditionLabels {
    pub kind: &'static str,
    pub condition: &'static str,
    pub status: &'static str,
}

/// Cheap to clone; all clones count the same.
#[derive(Clone, Debug, Default)]
pub struct Metrics {
    pub reconciles: Family<KindLabel, Counter>,
    pub errors: Family<ErrorLabels, Counter>,
    pub status_writes: Family<KindLabel, Counter>,
    pub writes: Family<ChildLabels, Counter>,
    pub suppressed: Family<ChildLabels, Counter>,
    pub drift: Family<ChildLabels, Counter>,
    pub deletes: Family<ChildLabels, Counter>,
    pub events: Family<KindLabel, Counter>,
    pub queue_depth: Family<KindLabel, Gauge>,
    pub objects: Family<ConditionLabels, Gauge>,
    pub undecodable: Family<KindLabel, Gauge>,
    pub cached: Family<KindLabel, Gauge>,
    durations: Durations,
}

#[derive(Clone, Debug)]
struct Durations {
    reconcile: Family<KindLabel, Histogram, fn() -> Histogram>,
    queued: Family<KindLabel, Histogram, fn() -> Histogram>,
}

fn histogram() -> Histogram {
    // 1 ms to 16 s.
    Histogram::new(exponential_buckets(0.001, 2.0, 15))
}

impl Default for Durations {
    fn default() -> Self {
        Durations {
            reconcile: Family::new_with_constructor(histogram),
            queued: Family::new_with_constructor(histogram),
        }
    }
}

impl Metrics {
    pub fn register(&self, registry: &mut Registry) {
        registry.register("reconciles", "Rounds of reconciliation", self.reconciles.clone());
        registry.register(
            "reconcile_errors",
            "Rounds that ended with an error, by what is done about it",
            self.errors.clone(),
        );
        registry.register("status_writes", "Statuses written", self.status_writes.clone());
        registry.register("child_writes", "Children written by server-side apply", self.writes.clone());
        registry.register(
            "suppressed_writes",
            "Writes that were not needed because nothing differed",
            self.suppressed.clone(),
        );
        registry.register(
            "drift_reverted",
            "Children that somebody else had changed and that were set right",
            self.drift.clone(),
        );
        registry.register(
            "child_deletes",
            "Children removed because nothing asks for them any more",
            self.deletes.clone(),
        );
        registry.register("events", "Events published, one per change of meaning", self.events.clone());
        registry.register("queue_depth", "Objects waiting for their round", self.queue_depth.clone());
        registry.register("objects", "Objects by kind, condition and status", self.objects.clone());
        registry.register(
            "undecodable_objects",
            "Objects that could not be read as their kind",
            self.undecodable.clone(),
        );
        registry.register("cache_objects", "Objects held in memory", self.cached.clone());
        registry.register("reconcile_duration_seconds", "Length of a round", self.durations.reconcile.clone());
        registry.register("queue_duration_seconds", "Wait for a round", self.durations.queued.clone());
    }

    pub fn observe_round(&self, kind: &'static str, waited: std::time::Duration, took: std::time::Duration) {
        let label = KindLabel { kind };
        self.reconciles.get_or_create(&label).inc();
        self.durations.queued.get_or_create(&label).observe(waited.as_secs_f64());
        self.durations.reconcile.get_or_create(&label).observe(took.as_secs_f64());
    }
}

/// Metrics behind one pointer, as the controllers share them.
pub type SharedMetrics = Arc<Metrics>;
