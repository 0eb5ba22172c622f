//! The proof for a target: its agents run this configuration, and the server has acknowledged a batch of each.
//!
//! An agent's pod is ready exactly when that happened, so the workload's counts say it for the fleet. Only while some
//! agents are missing that may be excused (their nodes are not Ready, or have been for less than a minute) are the pods
//! themselves asked for, node by node.

use std::collections::HashSet;
use std::sync::Arc;

use ers_crds::conditions::reasons;
use ers_crds::validate::{TargetKind, ValidatedCollectorTarget};
use ers_model::names::{CONFIG_HASH_ANNOTATION, TARGET_LABEL};
use k8s_openapi::api::core::v1::Pod;
use kube::api::ListParams;
use kube::{Api, Client};

use crate::cache::Key;
use crate::child::Workload;
use crate::error::message_of;
use crate::node::{NodeState, SETTLED_MS};

/// The nodes that matter to a target, at a time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fleet {
    /// Matching nodes, whatever their state.
    pub matching: usize,
    /// Of these, those that are Ready.
    pub ready: usize,
    /// Names of those that have been Ready for a minute.
    pub settled: Vec<String>,
    /// In how many milliseconds the next one will have been.
    pub next_settles_ms: Option<i64>,
}

impl Fleet {
    /// `None` for targets that do not run on every node.
    pub fn of(target: &ValidatedCollectorTarget, nodes: &[(Key, Arc<NodeState>)], now_ms: i64) -> Option<Fleet> {
        let TargetKind::Node { node_selector, tolerations, sources: _ } = &target.kind else { return None };
        let mut fleet = Fleet::default();
        for (key, node) in nodes {
            if !node.is_matched_by(node_selector, tolerations) {
                continue;
            }
            fleet.matching += 1;
            let Some(since) = node.ready_since_ms else { continue };
            fleet.ready += 1;
            if node.is_settled(now_ms) {
                fleet.settled.push(key.name.clone());
            } else {
                let left = since + SETTLED_MS - now_ms;
                fleet.next_settles_ms = Some(fleet.next_settles_ms.map_or(left, |before| before.min(left)));
            }
        }
        Some(fleet)
    }
}

/// What the counts alone say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ByCounts {
    Proven(&'static str, String),
    Unproven(String),
    /// Only the pods can tell.
    AskPods,
}

/// Pure.
pub fn by_counts(fleet: Option<&Fleet>, workload: Option<&Workload>, config_hash: &str) -> ByCounts {
    if let Some(fleet) = fleet
        && fleet.ready == 0
    {
        let message = "no matching node is Ready".to_owned();
        return ByCounts::Proven(reasons::NO_MATCHING_NODES, message);
    }
    let Some(workload) = workload else {
        return ByCounts::Unproven("the agents' workload is not there yet".to_owned());
    };
    let Workload { desired, updated, ready, observed, config_hash: runs } = workload;
    let missing = usize::try_from((desired - updated.min(ready)).max(0)).unwrap_or(usize::MAX);
    let unproven = || {
        ByCounts::Unproven(format!(
            "{ready} of {desired} agents are ready, {updated} run this configuration; an agent is ready once the server has acknowledged a batch of it"
        ))
    };
    if !observed || runs.as_deref() != Some(config_hash) {
        return ByCounts::Unproven("the rollout of this configuration has not begun yet".to_owned());
    }
    match fleet {
        None if *desired == 0 => unproven(),
        _ if missing == 0 && *desired > 0 => {
            ByCounts::Proven(reasons::PROVEN, format!("the server has acknowledged samples of all {desired} agents"))
        }
        None => unproven(),
        Some(fleet) => {
            let excused = fleet.matching.saturating_sub(fleet.settled.len());
            if fleet.settled.is_empty() || missing > excused { unproven() } else { ByCounts::AskPods }
        }
    }
}

/// Why it is not proven.
#[derive(Debug, thiserror::Error)]
pub enum Unproven {
    #[error("{0}")]
    Missing(String),
    /// Nothing that changes will bring us back here: to be asked again.
    #[error("the agents' pods cannot be listed: {}", message_of(.0))]
    NotListed(#[source] Box<kube::Error>),
}

/// Whether each settled node runs a ready pod with this configuration; otherwise says what is missing.
///
/// # Errors
/// The reason why it is not proven.
pub async fn by_pods(client: &Client, key: &Key, fleet: &Fleet, config_hash: &str) -> Result<String, Unproven> {
    let api: Api<Pod> = Api::namespaced(client.clone(), &key.namespace);
    let params =
        ListParams::default().labels(&format!("{TARGET_LABEL}={},{CONFIG_HASH_ANNOTATION}={config_hash}", key.name));
    let pods = api.list(&params).await.map_err(|error| Unproven::NotListed(Box::new(error)))?;
    let served: HashSet<String> =
        pods.items.into_iter().filter(is_ready).filter_map(|pod| pod.spec?.node_name).collect();
    let missing: Vec<&String> = fleet.settled.iter().filter(|node| !served.contains(*node)).collect();
    match missing.first() {
        None => Ok(format!(
            "the server has acknowledged samples of the agents on all {} nodes that have been Ready for a minute; {} more match",
            fleet.settled.len(),
            fleet.matching - fleet.settled.len()
        )),
        Some(first) => {
            let message =
                format!("{} nodes lack a ready agent with this configuration, among them {first}", missing.len());
            Err(Unproven::Missing(message))
        }
    }
}

fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_deref()).unwrap_or_default();
    pod.metadata.deletion_timestamp.is_none()
        && conditions.iter().any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fleet(matching: usize, ready: usize, settled: usize) -> Fleet {
        Fleet {
            matching,
            ready,
            settled: (0..settled).map(|number| format!("n{number}")).collect(),
            next_settles_ms: None,
        }
    }

    fn workload(desired: i32, updated: i32, ready: i32) -> Workload {
        Workload { observed: true, desired, updated, ready, config_hash: Some("h".to_owned()) }
    }

    #[track_caller]
    fn check(fleet: Option<Fleet>, workload: Option<Workload>, expect: &str) {
        let found = match by_counts(fleet.as_ref(), workload.as_ref(), "h") {
            ByCounts::Proven(reason, _) => reason,
            ByCounts::Unproven(_) => "Unproven",
            ByCounts::AskPods => "AskPods",
        };
        assert_eq!(found, expect);
    }

    #[test]
    fn all_agents_new_and_ready_is_the_proof() {
        check(Some(fleet(3, 3, 3)), Some(workload(3, 3, 3)), "Proven");
        check(Some(fleet(3, 3, 0)), Some(workload(3, 3, 3)), "Proven");
        check(None, Some(workload(1, 1, 1)), "Proven");
    }

    #[test]
    fn old_pods_that_are_still_ready_prove_nothing() {
        check(Some(fleet(3, 3, 3)), Some(workload(3, 1, 3)), "Unproven");
        check(
            Some(fleet(1, 1, 1)),
            Some(Workload { config_hash: Some("old".into()), ..workload(1, 1, 1) }),
            "Unproven",
        );
        check(Some(fleet(1, 1, 1)), Some(Workload { observed: false, ..workload(1, 1, 1) }), "Unproven");
        check(None, Some(workload(1, 0, 0)), "Unproven");
        check(None, None, "Unproven");
    }

    #[test]
    fn no_matching_node_that_is_ready_is_a_proof_of_its_own() {
        check(Some(fleet(0, 0, 0)), None, "NoMatchingNodes");
        check(Some(fleet(2, 0, 0)), Some(workload(2, 0, 0)), "NoMatchingNodes");
    }

    #[test]
    fn agents_on_nodes_that_are_not_settled_are_excused_if_the_others_are_ready() {
        check(Some(fleet(3, 2, 2)), Some(workload(3, 3, 2)), "AskPods");
        check(Some(fleet(3, 3, 2)), Some(workload(3, 3, 2)), "AskPods");
        check(Some(fleet(3, 3, 3)), Some(workload(3, 3, 2)), "Unproven");
        check(Some(fleet(3, 3, 0)), Some(workload(3, 3, 2)), "Unproven");
    }

    #[test]
    fn the_next_node_that_will_count_sets_the_timer() {
        let target: ers_crds::CollectorTarget = serde_json::from_value(serde_json::json!({
            "metadata": {"name": "t", "namespace": "n"},
            "spec": {"type": "Node", "node": {"sources": [{"name": "host", "kind": "HostMetrics"}]}},
        }))
        .expect("target");
        let target = ers_crds::validate::collector_target(&target, None).expect("valid");
        let node = |since| Arc::new(NodeState { ready_since_ms: since, ..NodeState::default() });
        let nodes = [
            (Key::new("", "a"), node(Some(0))),
            (Key::new("", "b"), node(Some(50_000))),
            (Key::new("", "c"), node(None)),
        ];
        let fleet = Fleet::of(&target, &nodes, 70_000).expect("a fleet");
        assert_eq!((fleet.matching, fleet.ready, fleet.settled.as_slice()), (3, 2, ["a".to_owned()].as_slice()));
        assert_eq!(fleet.next_settles_ms, Some(40_000));
    }
}
