//! One agent for the pods of a namespace.

use ers_model::agent_config::AgentConfig;
use serde_json::json;

use super::{Input, pod_spec};
use crate::child::{Child, ChildKind};
use crate::pod;

pub(super) fn build(input: &Input<'_>, config: &AgentConfig) -> Child {
    Child::new(
        ChildKind::Deployment,
        json!({
            "metadata": input.metadata(input.name()),
            "spec": {
                "replicas": 1,
                "revisionHistoryLimit": 2,
                // Never two at once: both would send the same series.
                "strategy": {"type": "Recreate"},
                "selector": {"matchLabels": input.selector()},
                "template": {
                    "metadata": pod::template_metadata(&input.labels(), &config.config_hash, pod_spec::CONTAINER),
                    "spec": pod_spec::build(input, config),
                },
            },
        }),
    )
}
