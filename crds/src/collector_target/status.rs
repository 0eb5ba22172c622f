//! What was seen of a CollectorTarget.

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use crate::conditions::Condition;

/// Most entries of `status.failing`.
pub const MAX_FAILING: usize = 10;

/// What was seen of a CollectorTarget. Holds nothing that moves while its meaning does not; moving figures are metrics.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct CollectorTargetStatus {
    /// The newest generation of the spec that was judged.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// The generation in force: below `observedGeneration` while a newer one is refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub active_generation: Option<i64>,
    /// Facts. The operator writes `Accepted`, `Programmed`, `Ready`, `Degraded`; the server writes `Collecting`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
    /// Hash of the configuration that the newest agents run.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub config_hash: Option<String>,
    /// The agents (written by the operator).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub collectors: Option<CollectorCounts>,
    /// What the agents scrape (written by the server).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub targets: Option<TargetCounts>,
    /// Targets that fail, at most 10 (written by the server).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 10))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub failing: Vec<FailingTarget>,
    /// Whether more targets fail than `failing` holds (written by the server).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub truncated: Option<bool>,
}

/// The agents.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct CollectorCounts {
    /// Agents wanted: one per matching node, or one.
    pub desired: u32,
    /// Agents that are ready: the server has acknowledged samples of this very process.
    pub ready: u32,
    /// Agents that run the newest configuration.
    pub updated: u32,
    /// Ready and desired as text, such as `3/3`.
    #[schemars(length(max = 24))]
    pub ready_of_desired: String,
}

impl CollectorCounts {
    pub fn new(desired: u32, ready: u32, updated: u32) -> Self {
        CollectorCounts { desired, ready, updated, ready_of_desired: format!("{ready}/{desired}") }
    }
}

/// What the agents scrape.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct TargetCounts {
    /// Targets found.
    pub discovered: u32,
    /// Targets whose last scrape worked.
    pub up: u32,
    /// Targets whose last scrape failed.
    pub down: u32,
    /// Targets that are not scraped because of a limit.
    pub dropped: u32,
    /// Up and discovered as text, such as `5/6`.
    #[schemars(length(max = 24))]
    pub up_of_discovered: String,
}

impl TargetCounts {
    pub fn new(up: u32, down: u32, dropped: u32) -> Self {
        let discovered = up.saturating_add(down).saturating_add(dropped);
        TargetCounts { discovered, up, down, dropped, up_of_discovered: format!("{up}/{discovered}") }
    }
}

/// A target that fails.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct FailingTarget {
    /// Its label `job`.
    #[schemars(length(max = 256))]
    pub job: String,
    /// Its label `instance`.
    #[schemars(length(max = 512))]
    pub instance: String,
    /// Why the last scrape failed.
    #[schemars(length(max = 1024))]
    pub reason: String,
}
