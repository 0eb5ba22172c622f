//! The smallest objects are good, and mean what the manual says.

use ers_crds::Kind;
use ers_crds::collector_target::{HostAccess, KubeletTls};
use ers_crds::management::ManagementState;
use ers_crds::report_policy::{NetworkPolicyMode, OnDelete, ServiceType};
use ers_crds::validate::{
    self, HostSource, TargetKind, UnknownFields, Validated, ValidatedCollectorTarget, ValidatedReportPolicy,
};
use serde_json::{Value, json};

#[track_caller]
fn policy(spec: Value) -> ValidatedReportPolicy {
    let object = json!({"apiVersion": "reporting.ers.dev/v1alpha1", "kind": "ReportPolicy",
                        "metadata": {"name": "reporting", "namespace": "demo"}, "spec": spec});
    let verdict = validate::document(Kind::ReportPolicy, &object, None, UnknownFields::Refuse).expect("a good policy");
    let Validated::ReportPolicy(policy) = verdict else { unreachable!("the kind was given") };
    *policy
}

#[track_caller]
fn target(spec: Value) -> ValidatedCollectorTarget {
    let object = json!({"apiVersion": "reporting.ers.dev/v1alpha1", "kind": "CollectorTarget",
                        "metadata": {"name": "nodes", "namespace": "demo"}, "spec": spec});
    let verdict =
        validate::document(Kind::CollectorTarget, &object, None, UnknownFields::Refuse).expect("a good target");
    let Validated::CollectorTarget(target) = verdict else { unreachable!("the kind was given") };
    *target
}

#[test]
fn an_empty_spec_is_a_good_policy() {
    let policy = policy(json!({}));
    assert_eq!(policy.management_state, ManagementState::Managed);
    assert_eq!(policy.server.replicas, 1);
    assert_eq!(policy.server.tls_secret, None);
    assert_eq!(policy.server.service_type, ServiceType::ClusterIP);
    assert_eq!(policy.server.network_policy, NetworkPolicyMode::Managed);
    assert_eq!(policy.storage.size.as_str(), "10Gi");
    assert_eq!(policy.storage.size_bytes, 10 << 30);
    assert_eq!(policy.storage.retention_days, 15);
    assert_eq!(policy.storage.on_delete, OnDelete::Retain);
}

#[test]
fn fields_with_nothing_after_them_count_as_left_out() {
    assert_eq!(policy(json!({"server": null, "storage": {"metrics": null}})), policy(json!({"storage": {}})));
}

#[test]
fn the_smallest_node_target_is_good() {
    let target = target(json!({"type": "Node", "node": {"sources": [{"name": "host", "kind": "HostMetrics"}]}}));
    assert_eq!((target.interval_seconds, target.timeout_seconds), (15, 10));
    assert_eq!(target.limits.max_series, 50_000);
    assert_eq!(target.spool_max_bytes, 512 << 20);
    assert_eq!(target.workload.max_unavailable.as_str(), "10%");
    assert_eq!(target.workload.host_access, HostAccess::ReadOnly);
    assert!(!target.scrapes_kubelet());
}

#[test]
fn a_kubelet_alone_needs_no_host_access() {
    let target = target(json!({"type": "Node", "node": {"sources": [{"name": "k", "kind": "Kubelet"}]}}));
    assert_eq!(target.workload.host_access, HostAccess::None);
    assert!(target.scrapes_kubelet());
    let TargetKind::Node { sources, .. } = target.kind else { unreachable!("the type was given") };
    assert_eq!(sources, [HostSource::Kubelet { name: "k".into(), tls: KubeletTls::ClusterCA }]);
}

#[test]
fn a_short_interval_shortens_the_default_timeout() {
    let target =
        target(json!({"type": "Pod", "intervalSeconds": 5, "pod": {"selector": {}, "endpoints": [{"port": "web"}]}}));
    assert_eq!((target.interval_seconds, target.timeout_seconds), (5, 5));
    let TargetKind::Pod { selector, endpoints } = target.kind else { unreachable!("the type was given") };
    assert_eq!(selector, "");
    assert_eq!(endpoints[0].path, "/metrics");
}

#[test]
fn a_typed_object_gets_the_same_verdict_as_its_text() {
    let text = json!({"apiVersion": "reporting.ers.dev/v1alpha1", "kind": "CollectorTarget",
                      "metadata": {"name": "pods", "namespace": "demo"},
                      "spec": {"type": "Pod", "intervalSeconds": 1, "timeoutSeconds": 9,
                               "pod": {"selector": {}, "endpoints": [{"port": 9100}]}}});
    let typed = serde_json::from_value(text.clone()).expect("reads");
    let of_text = validate::document(Kind::CollectorTarget, &text, None, UnknownFields::Ignore).err();
    assert_eq!(validate::collector_target(&typed, None).err(), of_text);
    assert_eq!(of_text.map(|violations| violations.0.len()), Some(2));
}

#[test]
fn a_rule_about_changes_needs_the_object_before() {
    let of = |spec: Value| json!({"apiVersion": "reporting.ers.dev/v1alpha1", "kind": "CollectorTarget", "metadata": {"name": "t"}, "spec": spec});
    let node = of(json!({"type": "Node", "node": {"sources": [{"name": "k", "kind": "Kubelet"}]}}));
    let pod = of(json!({"type": "Pod", "pod": {"selector": {}, "endpoints": [{"port": 1}]}}));
    let judge = |new: &Value, old: Option<&Value>| {
        validate::document(Kind::CollectorTarget, new, old, UnknownFields::Refuse).is_ok()
    };
    assert!(judge(&pod, None));
    assert!(judge(&pod, Some(&pod)));
    assert!(!judge(&pod, Some(&node)));
}
