//! Who the server is in the cluster, and how many of it may be missing.

use serde_json::json;

use super::Input;
use crate::child::{Child, ChildKind};

/// The fixed ClusterRole of the chart, bound in the policy's namespace only.
const ROLE: &str = "ers-server";

pub(super) fn service_account(input: &Input<'_>) -> Child {
    Child::new(
        ChildKind::ServiceAccount,
        json!({"metadata": input.metadata(input.name()), "automountServiceAccountToken": false}),
    )
}

pub(super) fn role_binding(input: &Input<'_>) -> Child {
    Child::new(
        ChildKind::RoleBinding,
        json!({
            "metadata": input.metadata(input.name()),
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": ROLE},
            "subjects": [{"kind": "ServiceAccount", "name": input.name(), "namespace": input.policy.identity.namespace}],
        }),
    )
}

/// With one server a budget would only block the draining of its node.
pub(super) fn disruption_budget(input: &Input<'_>) -> Option<Child> {
    (input.policy.server.replicas > 1).then(|| {
        Child::new(
            ChildKind::PodDisruptionBudget,
            json!({
                "metadata": input.metadata(input.name()),
                "spec": {"maxUnavailable": 1, "selector": {"matchLabels": input.selector()}},
            }),
        )
    })
}
