//! One agent on each matching node.

use std::collections::BTreeMap;

use ers_crds::collector_target::Toleration;
use ers_crds::quantity::CountOrPercent;
use ers_model::agent_config::AgentConfig;
use serde_json::{Value, json};

use super::{Input, pod_spec};
use crate::child::{Child, ChildKind};
use crate::pod;

pub(super) fn build(
    input: &Input<'_>,
    config: &AgentConfig,
    node_selector: &BTreeMap<String, String>,
    tolerations: &[Toleration],
) -> Child {
    let mut spec = pod_spec::build(input, config);
    spec["nodeSelector"] = json!(node_selector);
    spec["tolerations"] = json!(tolerations);
    Child::new(
        ChildKind::DaemonSet,
        json!({
            "metadata": input.metadata(input.name()),
            "spec": {
                "revisionHistoryLimit": 2,
                "updateStrategy": {
                    "type": "RollingUpdate",
                    "rollingUpdate": {"maxUnavailable": count_or_percent(&input.target.workload.max_unavailable), "maxSurge": 0},
                },
                "selector": {"matchLabels": input.selector()},
                "template": {
                    "metadata": pod::template_metadata(&input.labels(), &config.config_hash, pod_spec::CONTAINER),
                    "spec": spec,
                },
            },
        }),
    )
}

fn count_or_percent(value: &CountOrPercent) -> Value {
    match value.as_str().parse::<u32>() {
        Ok(count) => json!(count),
        Err(_) => json!(value.as_str()),
    }
}
