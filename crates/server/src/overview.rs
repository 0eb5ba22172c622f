//! The picture behind the page: computed at most once per interval, whoever asks.

pub mod nodes;
pub mod targets;

use std::sync::Arc;
use std::time::Duration;

use ers_promql::QueryError;
use serde::Serialize;
use tokio::sync::Mutex;

use crate::app::App;
use crate::objects::summary::{self, ObjectEntry};
use nodes::NodeRow;
use targets::TargetRow;

/// Time between two live messages.
pub const INTERVAL: Duration = Duration::from_secs(5);
/// Most nodes and targets that one picture holds; beyond, the picture says how many are missing.
const MOST_NODES: usize = 500;
const MOST_TARGETS: usize = 1_000;

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Overview {
    generated_at_ms: i64,
    interval_ms: u64,
    /// The longest time between two scrapes of a target: the page calls a node silent only after some of them.
    sample_interval_ms: i64,
    server: ServerEntry,
    nodes: Vec<NodeRow>,
    targets: Vec<TargetRow>,
    objects: Vec<ObjectEntry>,
    storage: StorageEntry,
    /// What was left out.
    truncated: Truncated,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct ServerEntry {
    version: &'static str,
    namespace: String,
    policy: String,
    cluster: String,
    mode: ers_plan::Mode,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct StorageEntry {
    active_series: u64,
    samples_ingested_total: u64,
    bytes: u64,
    wal_bytes: u64,
    segments: u64,
    retention_days: u32,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Truncated {
    nodes: usize,
    targets: usize,
}

/// The picture as JSON, with the time it was made.
#[derive(Clone, Debug)]
pub struct Snapshot {
    pub made_at_ms: i64,
    pub json: Arc<str>,
}

#[derive(Debug, thiserror::Error)]
pub enum OverviewError {
    #[error("a query of the overview failed")]
    Query(#[source] QueryError),
    #[error("the series about targets could not be read")]
    Targets(#[source] ers_promql::SourceError),
    #[error("the overview broke off")]
    Broken,
}

/// The latest picture. One is computed at a time; whoever waits gets the same one.
#[derive(Default)]
pub struct Overviews(Mutex<Option<Snapshot>>);

impl Overviews {
    /// A picture not older than `most_age`.
    pub async fn get(&self, app: &Arc<App>, most_age: Duration) -> Result<Snapshot, OverviewError> {
        let mut latest = self.0.lock().await;
        let now_ms = app.clock.now_ms();
        let oldest_ms = now_ms - i64::try_from(most_age.as_millis()).unwrap_or(i64::MAX);
        if let Some(snapshot) = latest.as_ref().filter(|snapshot| (oldest_ms..=now_ms).contains(&snapshot.made_at_ms)) {
            return Ok(snapshot.clone());
        }
        let for_task = app.clone();
        let computed = tokio::task::spawn_blocking(move || compute(&for_task, now_ms)).await;
        let snapshot = computed.map_err(|_| OverviewError::Broken)??;
        *latest = Some(snapshot.clone());
        Ok(snapshot)
    }
}

fn compute(app: &App, now_ms: i64) -> Result<Snapshot, OverviewError> {
    let reader = app.samples.db().reader(Vec::new());
    let picture = app.objects.picture();
    let sample_interval_ms = picture.longest_interval_ms();
    let mut nodes = nodes::read(&reader, now_ms, sample_interval_ms)?;
    let mut targets = targets::read(&reader, now_ms).map_err(OverviewError::Targets)?;
    // Failing ones first: they must not be the ones that are left out.
    targets.sort_by(|one, other| {
        (one.up, &one.target, &one.job, &one.instance).cmp(&(other.up, &other.target, &other.job, &other.instance))
    });
    let truncated = Truncated {
        nodes: nodes.len().saturating_sub(MOST_NODES),
        targets: targets.len().saturating_sub(MOST_TARGETS),
    };
    nodes.truncate(MOST_NODES);
    targets.truncate(MOST_TARGETS);
    let stats = app.samples.db().stats();
    let config = &app.config;
    let overview = Overview {
        generated_at_ms: now_ms,
        interval_ms: u64::try_from(INTERVAL.as_millis()).unwrap_or(u64::MAX),
        sample_interval_ms,
        server: ServerEntry {
            version: env!("CARGO_PKG_VERSION"),
            namespace: config.namespace.clone(),
            policy: config.policy.clone(),
            cluster: config.cluster.clone(),
            mode: config.mode,
        },
        nodes,
        targets,
        objects: summary::entries(app, &picture),
        storage: StorageEntry {
            active_series: stats.active_series,
            samples_ingested_total: stats.samples_accepted_total,
            bytes: stats.bytes,
            wal_bytes: stats.wal_bytes,
            segments: stats.segments,
            retention_days: config.storage.retention_days,
        },
        truncated,
    };
    let json = serde_json::to_string(&overview).expect("an overview is made of strings, numbers and lists");
    Ok(Snapshot { made_at_ms: now_ms, json: json.into() })
}
