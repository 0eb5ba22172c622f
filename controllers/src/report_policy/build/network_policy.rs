//! Who may reach the server: ingress only, since egress to arbitrary receivers cannot be said in a NetworkPolicy.

use ers_crds::report_policy::{NetworkPolicyMode, ServiceType};
use serde_json::{Value, json};

use super::Input;
use crate::child::{Child, ChildKind};

pub(super) fn build(input: &Input<'_>) -> Option<Child> {
    if input.policy.server.network_policy == NetworkPolicyMode::None {
        return None;
    }
    let mut from = vec![
        json!({"podSelector": {}}),
        json!({"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": input.settings.namespace}}}),
    ];
    // Agents on the host's network, kubelet's probes, and node ports come from the nodes themselves.
    for range in input.node_ranges {
        from.push(json!({"ipBlock": {"cidr": range}}));
    }
    let mut ingress: Vec<Value> = vec![json!({
        "from": from,
        "ports": [{"port": "https", "protocol": "TCP"}, {"port": "metrics", "protocol": "TCP"}],
    })];
    match input.policy.server.service_type {
        ServiceType::ClusterIP => {}
        // A Service that is made for callers from outside must let them in; the page and the API ask who they are.
        ServiceType::NodePort | ServiceType::LoadBalancer => {
            ingress.push(json!({"ports": [{"port": "https", "protocol": "TCP"}]}));
        }
    }
    Some(Child::new(
        ChildKind::NetworkPolicy,
        json!({
            "metadata": input.metadata(input.name()),
            "spec": {
                "podSelector": {"matchLabels": input.selector()},
                "policyTypes": ["Ingress"],
                "ingress": ingress,
            },
        }),
    ))
}
