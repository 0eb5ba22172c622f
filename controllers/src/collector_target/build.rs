//! CollectorTarget -> children. Pure.

use std::collections::BTreeMap;

use ers_crds::CollectorTargetSpec;
use ers_crds::validate::{TargetKind, ValidatedCollectorTarget};
use ers_model::agent_config::AgentConfig;
use ers_model::names::{TARGET_LABEL, agent_name};
use ers_plan::{agent_config, cluster_destination};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use serde_json::{Value, json};

use crate::cache::Key;
use crate::child::{Child, ChildKind, Prepared, Resources};
use crate::settings::Settings;
use crate::{last_good, pod};

mod daemon_set;
mod deployment;
mod pod_spec;

/// Program in the pods.
const PROGRAM: &str = "ers-agent";
/// The fixed ClusterRole of the chart, bound in the target's namespace only.
const ROLE: &str = "ers-agent";
const CONFIG_FILE: &str = "agent.json";

/// What a target's children are built from.
pub struct Input<'a> {
    pub target: &'a ValidatedCollectorTarget,
    /// Name of the policy whose server takes the samples.
    pub policy: &'a str,
    /// The specification that `target` came from, and its generation: kept as the last good one.
    pub spec: &'a CollectorTargetSpec,
    pub generation: i64,
    pub owner: &'a OwnerReference,
    pub settings: &'a Settings,
}

impl Input<'_> {
    fn namespace(&self) -> &str {
        &self.target.identity.namespace
    }

    fn name(&self) -> String {
        agent_name(&self.target.identity.name)
    }

    fn labels(&self) -> BTreeMap<String, String> {
        pod::labels(PROGRAM, TARGET_LABEL, &self.target.identity.name)
    }

    fn selector(&self) -> BTreeMap<String, String> {
        pod::selector(PROGRAM, TARGET_LABEL, &self.target.identity.name)
    }

    fn metadata(&self, name: impl Into<String>) -> Value {
        pod::metadata(&Key::new(self.namespace(), name), &self.labels(), self.owner)
    }
}

/// Builds all children.
pub fn build(input: &Input<'_>) -> Resources<Prepared> {
    let config = agent_config(input.target, cluster_destination(input.namespace(), input.policy));
    let mut children = vec![config_map(input, &config), service_account(input)];
    match &input.target.kind {
        TargetKind::Node { node_selector, tolerations, sources: _ } => {
            children.push(daemon_set::build(input, &config, node_selector, tolerations));
        }
        TargetKind::Pod { selector: _, endpoints: _ } => {
            children.push(role_binding(input));
            children.push(deployment::build(input, &config));
        }
    }
    // Last, so that it never tells of a generation whose other children were not applied.
    let active = input.metadata(last_good::name(&input.name()));
    children.push(last_good::child(active, input.generation, input.spec));
    Resources::new(children, config.config_hash)
}

fn config_map_name(input: &Input<'_>, config: &AgentConfig) -> String {
    format!("{}-{}", input.name(), config.config_hash)
}

/// The configuration, named by its hash and never changed.
fn config_map(input: &Input<'_>, config: &AgentConfig) -> Child {
    let text = serde_json::to_string_pretty(config).expect("a configuration always serializes");
    let metadata = input.metadata(config_map_name(input, config));
    Child::new(ChildKind::ConfigMap, json!({"metadata": metadata, "immutable": true, "data": {CONFIG_FILE: text}}))
}

fn service_account(input: &Input<'_>) -> Child {
    Child::new(
        ChildKind::ServiceAccount,
        json!({"metadata": input.metadata(input.name()), "automountServiceAccountToken": false}),
    )
}

fn role_binding(input: &Input<'_>) -> Child {
    Child::new(
        ChildKind::RoleBinding,
        json!({
            "metadata": input.metadata(input.name()),
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": ROLE},
            "subjects": [{"kind": "ServiceAccount", "name": input.name(), "namespace": input.namespace()}],
        }),
    )
}
