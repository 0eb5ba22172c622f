//! The server's figures about itself, `ers_server_*`. Labels come from closed sets: routes of the table, methods, classes of answers.

use ers_telemetry::Metrics;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct RequestLabels {
    route: &'static str,
    method: &'static str,
    /// `2xx` to `5xx`.
    class: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ReasonLabels {
    reason: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct OutcomeLabels {
    outcome: &'static str,
}

pub struct ServerMetrics {
    metrics: Metrics,
    requests: Family<RequestLabels, Counter>,
    request_seconds: Histogram,
    logins: Family<OutcomeLabels, Counter>,
    pub write_samples: Counter,
    pub write_bytes: Counter,
    write_refused: Family<ReasonLabels, Counter>,
    pub write_seconds: Histogram,
    queries: Family<OutcomeLabels, Counter>,
    pub query_seconds: Histogram,
    pub queries_running: Gauge,
    pub live_sockets: Gauge,
    status_writes: Family<OutcomeLabels, Counter>,
    storage_bytes: Gauge,
    storage_wal_bytes: Gauge,
    storage_segments: Gauge,
    storage_active_series: Gauge,
    pub agent_restarts: Counter,
}

const SECONDS: [f64; 12] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0];

impl Default for ServerMetrics {
    fn default() -> Self {
        let mut metrics = Metrics::new("server");
        let requests = Family::<RequestLabels, Counter>::default();
        let request_seconds = Histogram::new(SECONDS);
        let logins = Family::<OutcomeLabels, Counter>::default();
        let write_samples = Counter::default();
        let write_bytes = Counter::default();
        let write_refused = Family::<ReasonLabels, Counter>::default();
        let write_seconds = Histogram::new(SECONDS);
        let queries = Family::<OutcomeLabels, Counter>::default();
        let query_seconds = Histogram::new(SECONDS);
        let queries_running = Gauge::default();
        let live_sockets = Gauge::default();
        let status_writes = Family::<OutcomeLabels, Counter>::default();
        let storage_bytes = Gauge::default();
        let storage_wal_bytes = Gauge::default();
        let storage_segments = Gauge::default();
        let storage_active_series = Gauge::default();
        let agent_restarts = Counter::default();
        let registry = metrics.registry();
        registry.register(
            "http_requests",
            "Requests answered, by route, method and class of the answer",
            requests.clone(),
        );
        registry.register("http_request_duration_seconds", "Time from request to answer", request_seconds.clone());
        registry.register("logins", "Log-ins, by outcome", logins.clone());
        registry.register("write_samples", "Samples that were made durable", write_samples.clone());
        registry.register("write_bytes", "Bytes of remote write accepted, as sent", write_bytes.clone());
        registry.register(
            "write_refused_requests",
            "Requests of remote write that were not taken, by reason",
            write_refused.clone(),
        );
        registry.register(
            "write_duration_seconds",
            "Time until a request of remote write was durable",
            write_seconds.clone(),
        );
        registry.register("queries", "Queries, by outcome", queries.clone());
        registry.register("query_duration_seconds", "Time of a query's evaluation", query_seconds.clone());
        registry.register("queries_running", "Queries being evaluated now", queries_running.clone());
        registry.register("live_sockets", "Pages that are watched live now", live_sockets.clone());
        registry.register("status_writes", "Writes of an object's status, by outcome", status_writes.clone());
        registry.register("storage_bytes", "Bytes of samples on disk", storage_bytes.clone());
        registry.register("storage_wal_bytes", "Bytes of the write-ahead log", storage_wal_bytes.clone());
        registry.register("storage_segments", "Segments on disk", storage_segments.clone());
        registry.register("storage_active_series", "Series with recent samples", storage_active_series.clone());
        registry.register("agent_restarts", "Restarts of supervised agents (standalone)", agent_restarts.clone());
        ServerMetrics {
            metrics,
            requests,
            request_seconds,
            logins,
            write_samples,
            write_bytes,
            write_refused,
            write_seconds,
            queries,
            query_seconds,
            queries_running,
            live_sockets,
            status_writes,
            storage_bytes,
            storage_wal_bytes,
            storage_segments,
            storage_active_series,
            agent_restarts,
        }
    }
}

impl ServerMetrics {
    pub fn request(&self, route: &'static str, method: &'static str, status: u16, seconds: f64) {
        let class = match status {
            100..=199 => "1xx",
            200..=299 => "2xx",
            300..=399 => "3xx",
            400..=499 => "4xx",
            _ => "5xx",
        };
        self.requests.get_or_create(&RequestLabels { route, method, class }).inc();
        self.request_seconds.observe(seconds);
    }

    pub fn login(&self, worked: bool) {
        self.logins.get_or_create(&OutcomeLabels { outcome: if worked { "success" } else { "refused" } }).inc();
    }

    pub fn write_refused(&self, reason: &'static str) {
        self.write_refused.get_or_create(&ReasonLabels { reason }).inc();
    }

    pub fn query(&self, outcome: &'static str) {
        self.queries.get_or_create(&OutcomeLabels { outcome }).inc();
    }

    pub fn status_write(&self, outcome: &'static str) {
        self.status_writes.get_or_create(&OutcomeLabels { outcome }).inc();
    }

    pub fn storage(&self, stats: &ers_tsdb::DbStats) {
        let number = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
        self.storage_bytes.set(number(stats.bytes));
        self.storage_wal_bytes.set(number(stats.wal_bytes));
        self.storage_segments.set(number(stats.segments));
        self.storage_active_series.set(number(stats.active_series));
    }

    pub fn text(&self) -> String {
        self.metrics.encode()
    }
}
