//! The agent's own figures, `ers_agent_*`: registered once, shipped with everything else.

use ers_telemetry::Metrics;
use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use std::sync::atomic::AtomicU64;

pub type FloatGauge = Gauge<f64, AtomicU64>;

/// Why samples were given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
#[allow(non_camel_case_types, reason = "these are the label's values")]
pub enum DropReason {
    /// The spool reached its size: the oldest went.
    spool_full,
    /// The disk took nothing and memory was full.
    no_space,
    /// The server refused the batch for good; it lies among the dead letters.
    rejected,
    /// The spool's file was damaged.
    corrupt,
    /// A target wrote a series twice in one scrape.
    duplicate,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Dropped {
    pub reason: DropReason,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct SendResult {
    pub result: &'static str,
}

/// Handles of every metric; clones share them.
///
/// `samples_read + samples_recovered = samples_shipped + samples_spooled + samples_in_flight + samples_dropped`
/// holds whenever the queue is not in the middle of a change.
#[derive(Clone, Debug, Default)]
pub struct AgentMetrics {
    pub samples_read: Counter,
    pub samples_recovered: Counter,
    pub samples_shipped: Counter,
    pub samples_dropped: Family<Dropped, Counter>,
    pub samples_spooled: Gauge,
    pub samples_in_flight: Gauge,
    pub batches_shipped: Counter,
    pub batches_waiting: Gauge,
    pub sends: Family<SendResult, Counter>,
    pub send_blocked: Gauge,
    pub spool_bytes: Gauge,
    pub spool_oldest_age_seconds: FloatGauge,
    pub spool_sync_seconds: FloatGauge,
    pub spool_damaged_bytes: Counter,
    pub spool_errors: Counter,
    pub collections_late: Counter,
    pub cpu_seconds: FloatGauge,
    pub resident_memory_bytes: Gauge,
    pub pods_discovered: Gauge,
    pub discovery_errors: Counter,
}

impl AgentMetrics {
    /// Registers everything under `ers_agent_`.
    pub fn register(&self, metrics: &mut Metrics) {
        let registry = metrics.registry();
        registry.register("samples_read", "Samples read from the host and from targets", self.samples_read.clone());
        registry.register(
            "samples_recovered",
            "Samples found in the spool at the start, read by an earlier process",
            self.samples_recovered.clone(),
        );
        registry.register("samples_shipped", "Samples that the server acknowledged", self.samples_shipped.clone());
        registry.register("samples_dropped", "Samples given up, by reason", self.samples_dropped.clone());
        registry.register("samples_spooled", "Samples that wait to be sent", self.samples_spooled.clone());
        registry.register("samples_in_flight", "Samples that are being sent", self.samples_in_flight.clone());
        registry.register("batches_shipped", "Batches that the server acknowledged", self.batches_shipped.clone());
        registry.register("batches_waiting", "Batches that wait to be sent", self.batches_waiting.clone());
        registry.register("sends", "Attempts to send a batch, by result", self.sends.clone());
        registry.register(
            "send_blocked",
            "1 while the server refuses the agent's token; samples are kept",
            self.send_blocked.clone(),
        );
        registry.register("spool_bytes", "Bytes of the spool on disk", self.spool_bytes.clone());
        registry.register(
            "spool_oldest_age_seconds",
            "Age of the oldest batch that waits",
            self.spool_oldest_age_seconds.clone(),
        );
        registry.register(
            "spool_sync_seconds",
            "Duration of the last write of the spool to disk",
            self.spool_sync_seconds.clone(),
        );
        registry.register(
            "spool_damaged_bytes",
            "Bytes of the spool that were damaged",
            self.spool_damaged_bytes.clone(),
        );
        registry.register("spool_errors", "Writes to the spool that failed", self.spool_errors.clone());
        registry.register(
            "collections_late",
            "Collections left out because the one before was not done",
            self.collections_late.clone(),
        );
        registry.register("cpu_seconds", "CPU time of this process", self.cpu_seconds.clone());
        registry.register("resident_memory_bytes", "Memory of this process", self.resident_memory_bytes.clone());
        registry.register("pods_discovered", "Endpoints of pods that are scraped", self.pods_discovered.clone());
        registry.register("discovery_errors", "Failed requests for the list of pods", self.discovery_errors.clone());
    }

    pub fn dropped(&self, reason: DropReason, samples: u64) {
        if samples > 0 {
            self.samples_dropped.get_or_create(&Dropped { reason }).inc_by(samples);
        }
    }

    /// Samples given up so far, over all reasons.
    pub fn dropped_total(&self) -> u64 {
        [DropReason::spool_full, DropReason::no_space, DropReason::rejected, DropReason::corrupt, DropReason::duplicate]
            .into_iter()
            .map(|reason| self.samples_dropped.get_or_create(&Dropped { reason }).get())
            .sum()
    }
}
