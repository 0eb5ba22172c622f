//! What all pods that we make have in common: nobody's uid, a read-only root, no capabilities.

use std::collections::BTreeMap;

use ers_crds::resources::ResourceAmounts;
use ers_crds::validate::EffectiveResources;
use ers_model::names::CONFIG_HASH_ANNOTATION;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use serde_json::{Map, Value, json};

use crate::cache::Key;
use crate::child::{MANAGED_BY, MANAGER};

/// Uid and gid of every program of ours; `nobody`.
pub const NOBODY: i64 = 65_534;

/// Labels of the children of one object.
pub fn labels(program: &str, owner_label: &str, owner: &str) -> BTreeMap<String, String> {
    let mut labels = selector(program, owner_label, owner);
    labels.insert("app.kubernetes.io/instance".to_owned(), owner.to_owned());
    labels.insert("app.kubernetes.io/part-of".to_owned(), "ers".to_owned());
    labels.insert(MANAGED_BY.to_owned(), MANAGER.to_owned());
    labels
}

/// The labels by which its pods are found; they can never change.
pub fn selector(program: &str, owner_label: &str, owner: &str) -> BTreeMap<String, String> {
    BTreeMap::from([
        ("app.kubernetes.io/name".to_owned(), program.to_owned()),
        (owner_label.to_owned(), owner.to_owned()),
    ])
}

/// Metadata of a child.
pub fn metadata(key: &Key, labels: &BTreeMap<String, String>, owner: &OwnerReference) -> Value {
    json!({"namespace": key.namespace, "name": key.name, "labels": labels, "ownerReferences": [owner]})
}

/// Metadata of a pod template: the hash is an annotation for people and programs, and a label so that revisions,
/// ReplicaSets and pods can be asked for it without reading them whole.
pub fn template_metadata(labels: &BTreeMap<String, String>, config_hash: &str, container: &str) -> Value {
    let mut labels = labels.clone();
    labels.insert(CONFIG_HASH_ANNOTATION.to_owned(), config_hash.to_owned());
    json!({
        "labels": labels,
        "annotations": {
            CONFIG_HASH_ANNOTATION: config_hash,
            "kubectl.kubernetes.io/default-container": container,
        },
    })
}

/// Security of a pod; `group` lets volumes be writable for it.
pub fn pod_security(fs_group: bool) -> Value {
    let mut context = json!({
        "runAsNonRoot": true,
        "runAsUser": NOBODY,
        "runAsGroup": NOBODY,
        "seccompProfile": {"type": "RuntimeDefault"},
    });
    if fs_group {
        context["fsGroup"] = json!(NOBODY);
        // Changing the owner of every file of a large volume at each start would take minutes.
        context["fsGroupChangePolicy"] = json!("OnRootMismatch");
    }
    context
}

pub fn container_security() -> Value {
    json!({"allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true, "capabilities": {"drop": ["ALL"]}})
}

/// An environment variable from the pod's own object.
pub fn from_field(name: &str, field: &str) -> Value {
    json!({"name": name, "valueFrom": {"fieldRef": {"fieldPath": field}}})
}

pub fn resources(effective: &EffectiveResources) -> Value {
    let EffectiveResources { requests, limits } = effective;
    json!({"requests": amounts(requests), "limits": amounts(limits)})
}

fn amounts(amounts: &ResourceAmounts) -> Value {
    let ResourceAmounts { cpu, memory } = amounts;
    let mut map = Map::new();
    for (name, amount) in [("cpu", cpu), ("memory", memory)] {
        if let Some(amount) = amount {
            map.insert(name.to_owned(), json!(amount.as_str()));
        }
    }
    Value::Object(map)
}
