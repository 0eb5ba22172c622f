//! Whole objects as they are built, compared with golden YAML. `ERS_UPDATE_GOLDEN=1` writes them anew.

use std::path::Path;

use ers_controllers::settings::Settings;
use ers_controllers::{collector_target, report_policy};
use ers_crds::{CollectorTarget, ReportPolicy};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use serde_json::{Value, json};

fn settings() -> Settings {
    Settings {
        namespace: "ers-system".into(),
        server_image: "registry.example.com/ers-server:0.1.0".into(),
        agent_image: "registry.example.com/ers-agent:0.1.0".into(),
        image_pull_policy: "IfNotPresent".into(),
        cluster_name: "local".into(),
        region: Some("north".into()),
        node_cidrs: Vec::new(),
    }
}

fn owner(kind: &str, name: &str) -> OwnerReference {
    OwnerReference {
        api_version: "reporting.ers.dev/v1alpha1".into(),
        kind: kind.into(),
        name: name.into(),
        uid: "11111111-2222-4333-8444-555555555555".into(),
        controller: Some(true),
        block_owner_deletion: None,
    }
}

#[track_caller]
fn compare(name: &str, objects: impl Iterator<Item = Value>) {
    let mut text = String::new();
    for object in objects {
        text.push_str("---\n");
        text.push_str(&serde_yaml_ng::to_string(&object).expect("YAML"));
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(format!("{name}.yaml"));
    if std::env::var_os("ERS_UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, &text).expect("written");
    }
    let golden = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        golden == text,
        "{name}.yaml differs from what is built; look at it with: ERS_UPDATE_GOLDEN=1 cargo test -p ers-controllers --test build && git diff"
    );
}

fn policy(spec: Value) -> ReportPolicy {
    serde_json::from_value(json!({
        "apiVersion": "reporting.ers.dev/v1alpha1",
        "kind": "ReportPolicy",
        "metadata": {"name": "reporting", "namespace": "demo", "uid": "11111111-2222-4333-8444-555555555555", "generation": 1},
        "spec": spec,
    }))
    .expect("policy")
}

#[track_caller]
fn check_policy(name: &str, spec: Value) {
    let object = policy(spec);
    let validated = ers_crds::validate::report_policy(&object, None).expect("valid");
    let built = report_policy::build::build(&report_policy::build::Input {
        policy: &validated,
        spec: &object.spec,
        generation: 1,
        owner: &owner("ReportPolicy", "reporting"),
        settings: &settings(),
        node_ranges: &["10.0.0.5/32".to_owned()],
    })
    .expect("built");
    compare(name, built.children.into_iter().map(|child| child.object));
}

fn target(spec: Value) -> CollectorTarget {
    serde_json::from_value(json!({
        "apiVersion": "reporting.ers.dev/v1alpha1",
        "kind": "CollectorTarget",
        "metadata": {"name": "nodes", "namespace": "demo", "uid": "11111111-2222-4333-8444-555555555555", "generation": 1},
        "spec": spec,
    }))
    .expect("target")
}

#[track_caller]
fn check_target(name: &str, spec: Value) {
    let object = target(spec);
    let validated = ers_crds::validate::collector_target(&object, None).expect("valid");
    let built = collector_target::build::build(&collector_target::build::Input {
        target: &validated,
        policy: "reporting",
        spec: &object.spec,
        generation: 1,
        owner: &owner("CollectorTarget", "nodes"),
        settings: &settings(),
    });
    compare(name, built.children.into_iter().map(|child| child.object));
}

#[test]
fn the_smallest_policy() {
    check_policy("policy-smallest", json!({}));
}

#[test]
fn a_policy_with_everything() {
    check_policy(
        "policy-everything",
        json!({
            "secrets": [{"name": "smtp", "secretRef": {"name": "mail", "key": "password"}}],
            "server": {
                "tls": {"secretRef": {"name": "web-tls"}},
                "service": {"type": "LoadBalancer"},
                "resources": {"requests": {"cpu": "500m", "memory": "1Gi"}, "limits": {"cpu": 2, "memory": "2Gi"}},
            },
            "storage": {
                "metrics": {"type": "Embedded", "embedded": {"size": "50Gi", "storageClassName": "fast", "retentionDays": 30}},
                "onDelete": "Delete",
            },
        }),
    );
}

#[test]
fn a_policy_without_a_network_policy_builds_none() {
    let object = policy(json!({"server": {"networkPolicy": "None"}}));
    let validated = ers_crds::validate::report_policy(&object, None).expect("valid");
    let built = report_policy::build::build(&report_policy::build::Input {
        policy: &validated,
        spec: &object.spec,
        generation: 1,
        owner: &owner("ReportPolicy", "reporting"),
        settings: &settings(),
        node_ranges: &[],
    })
    .expect("built");
    assert!(built.children.iter().all(|child| child.object["kind"] != "NetworkPolicy"));
}

#[test]
fn agents_on_nodes_with_host_access() {
    check_target(
        "target-nodes",
        json!({
            "type": "Node",
            "node": {
                "nodeSelector": {"kubernetes.io/os": "linux"},
                "tolerations": [{"operator": "Exists"}],
                "sources": [
                    {"name": "host", "kind": "HostMetrics"},
                    {"name": "kubelet", "kind": "Kubelet", "kubelet": {"tls": "Insecure"}},
                ],
            },
            "workload": {"priorityClassName": "system-node-critical", "maxUnavailable": 2},
        }),
    );
}

#[test]
fn agents_on_nodes_without_host_access() {
    check_target(
        "target-kubelet-only",
        json!({"type": "Node", "node": {"sources": [{"name": "kubelet", "kind": "Kubelet"}]}}),
    );
}

#[test]
fn one_agent_for_the_pods_of_a_namespace() {
    check_target(
        "target-pods",
        json!({
            "type": "Pod",
            "intervalSeconds": 30,
            "pod": {"selector": {"matchLabels": {"app": "web"}}, "endpoints": [{"port": "metrics", "path": "/metrics", "scheme": "HTTP"}]},
        }),
    );
}

#[test]
fn how_the_agents_run_does_not_change_the_configurations_hash() {
    let hash = |spec: Value| {
        let object = target(spec);
        let validated = ers_crds::validate::collector_target(&object, None).expect("valid");
        collector_target::build::build(&collector_target::build::Input {
            target: &validated,
            policy: "reporting",
            spec: &object.spec,
            generation: 7,
            owner: &owner("CollectorTarget", "nodes"),
            settings: &settings(),
        })
        .config_hash
    };
    let pods = json!({"selector": {}, "endpoints": [{"port": 9100}]});
    let plain = hash(json!({"type": "Pod", "pod": pods}));
    let larger = json!({"type": "Pod", "pod": pods, "workload": {"resources": {"limits": {"memory": "1Gi"}}}});
    assert_eq!(hash(larger), plain);
    assert_ne!(hash(json!({"type": "Pod", "pod": pods, "intervalSeconds": 60})), plain);
}
