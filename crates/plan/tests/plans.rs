//! Golden plans: what a manifest means for the programs that run it. A changed hash rolls out every server or agent, so a
//! change of these files must be meant.

use ers_crds::Kind;
use ers_crds::validate::{self, UnknownFields, Validated};
use ers_plan::{Place, PlanError, agent_config, cluster_destination, server_config};
use serde_json::{Value, json};

#[track_caller]
fn judged(kind: Kind, name: &str, spec: Value) -> Validated {
    let object = json!({
        "apiVersion": "reporting.ers.dev/v1alpha1", "kind": kind.name(), "spec": spec,
        "metadata": {"name": name, "namespace": "demo", "uid": "7a3c5f0e-2f63-4f6e-9d0c-6f1f6d1c2b3a", "generation": 4},
    });
    validate::document(kind, &object, None, UnknownFields::Refuse).expect("a good manifest")
}

#[track_caller]
fn agent(spec: Value) -> ers_model::agent_config::AgentConfig {
    let Validated::CollectorTarget(target) = judged(Kind::CollectorTarget, "nodes", spec) else {
        unreachable!("the kind was given")
    };
    agent_config(&target, cluster_destination("demo", "reporting"))
}

#[track_caller]
fn server(spec: Value, place: &Place) -> ers_plan::ServerConfig {
    let Validated::ReportPolicy(policy) = judged(Kind::ReportPolicy, "reporting", spec) else {
        unreachable!("the kind was given")
    };
    server_config(&policy, place).expect("has a namespace")
}

#[track_caller]
fn check(config: &impl serde::Serialize, golden: &str) {
    let found = serde_json::to_string_pretty(config).expect("is JSON");
    assert_eq!(found.trim(), golden.trim());
}

fn node_spec() -> Value {
    json!({"type": "Node", "intervalSeconds": 5, "node": {"sources": [
        {"name": "host", "kind": "HostMetrics"}, {"name": "kubelet", "kind": "Kubelet", "kubelet": {"tls": "Insecure"}}]}})
}

#[test]
fn a_node_target_becomes_this_configuration() {
    check(&agent(node_spec()), include_str!("golden/agent-node.json"));
}

#[test]
fn a_pod_target_becomes_this_configuration() {
    let spec = json!({"type": "Pod", "limits": {"maxSeries": 1000}, "spool": {"maxBytes": 33554432}, "pod": {
        "selector": {"matchLabels": {"app": "web"}, "matchExpressions": [{"key": "tier", "operator": "NotIn", "values": ["b", "a"]}]},
        "endpoints": [{"port": "metrics"}, {"port": 8443, "path": "/stats", "scheme": "HTTPS"}]}});
    check(&agent(spec), include_str!("golden/agent-pod.json"));
}

#[test]
fn the_smallest_policy_becomes_these_boot_settings() {
    let place = Place::kubernetes("local", None);
    check(&server(json!({}), &place), include_str!("golden/server-small.json"));
}

#[test]
fn a_full_policy_becomes_these_boot_settings() {
    let place = Place::kubernetes("prod-1", Some("eu-west-1".to_string()));
    let spec = json!({"server": {"tls": {"secretRef": {"name": "page-tls"}}},
        "storage": {"metrics": {"type": "Embedded", "embedded": {"size": "1.5Ti", "retentionDays": 400}}}});
    check(&server(spec, &place), include_str!("golden/server-full.json"));
}

#[test]
fn how_agents_run_is_no_part_of_what_they_are_told() {
    let mut spec = node_spec();
    let before = agent(spec.clone());
    spec["workload"] = json!({"priorityClassName": "system-node-critical", "maxUnavailable": 1});
    spec["node"]["tolerations"] = json!([{"operator": "Exists"}]);
    spec["managementState"] = json!("Managed");
    assert_eq!(agent(spec), before);
}

#[test]
fn writing_a_default_out_changes_nothing() {
    let mut spec = node_spec();
    let before = agent(spec.clone()).config_hash;
    spec["timeoutSeconds"] = json!(5);
    spec["limits"] = json!({"maxSeries": 50000});
    assert_eq!(agent(spec.clone()).config_hash, before);
    spec["timeoutSeconds"] = json!(4);
    assert_ne!(agent(spec).config_hash, before);
}

#[test]
fn what_only_the_operator_builds_is_no_boot_setting() {
    let place = Place::kubernetes("local", None);
    let spec = json!({"secrets": [{"name": "smtp", "secretRef": {"name": "smtp", "key": "password"}}],
        "server": {"service": {"type": "NodePort"}, "resources": {"limits": {"memory": "2Gi"}}}, "storage": {"onDelete": "Delete"}});
    assert_eq!(server(spec, &place), server(json!({}), &place));
}

#[test]
fn configurations_survive_being_written_and_read() {
    let config = agent(node_spec());
    let text = serde_json::to_string(&config).expect("is JSON");
    assert_eq!(serde_json::from_str::<ers_model::agent_config::AgentConfig>(&text).ok(), Some(config));
    let config = server(json!({}), &Place::kubernetes("local", Some("r".to_string())));
    let text = serde_json::to_string(&config).expect("is JSON");
    assert_eq!(serde_json::from_str::<ers_plan::ServerConfig>(&text).ok(), Some(config));
}

#[test]
fn a_policy_without_a_namespace_has_no_boot_settings() {
    let object = json!({"apiVersion": "reporting.ers.dev/v1alpha1", "kind": "ReportPolicy", "metadata": {"name": "r"}, "spec": {}});
    let judged = validate::document(Kind::ReportPolicy, &object, None, UnknownFields::Refuse).expect("a good manifest");
    let Validated::ReportPolicy(policy) = judged else { unreachable!("the kind was given") };
    let found = server_config(&policy, &Place::kubernetes("local", None));
    assert_eq!(found, Err(PlanError::NoNamespace { name: "r".to_string() }));
}
