//! The server itself.

use ers_model::names::{SERVER_METRICS_PORT, SERVER_PORT};
use ers_plan::{CERTIFICATE_DIR, ServerConfig};
use serde_json::{Value, json};

use super::{CONFIG_DIR, CONFIG_FILE, DATA_DIR, Input, PROGRAM, config_map, service};
use crate::child::{Child, ChildKind};
use crate::pod;

/// Name of the volume claim template.
pub(super) const CLAIM: &str = "data";
/// Where Kubernetes' own clients look for a token.
const TOKEN_DIR: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

pub(super) fn build(input: &Input<'_>, config: &ServerConfig) -> Child {
    let mut claim = json!({
        "accessModes": ["ReadWriteOnce"],
        "resources": {"requests": {"storage": input.policy.storage.size.as_str()}},
    });
    if let Some(class) = &input.policy.storage.storage_class_name {
        claim["storageClassName"] = json!(class);
    }
    Child::new(
        ChildKind::StatefulSet,
        json!({
            "metadata": input.metadata(input.name()),
            "spec": {
                "serviceName": service::headless_name(input),
                "replicas": input.policy.server.replicas,
                "revisionHistoryLimit": 2,
                // With OrderedReady a pod that never gets ready would block the very change that mends it.
                "podManagementPolicy": "Parallel",
                "updateStrategy": {"type": "RollingUpdate"},
                // A StatefulSet that is deleted, by whomever, never takes the volume with it.
                "persistentVolumeClaimRetentionPolicy": {"whenDeleted": "Retain", "whenScaled": "Retain"},
                "selector": {"matchLabels": input.selector()},
                "template": {
                    "metadata": pod::template_metadata(&input.labels(), &config.config_hash, "server"),
                    "spec": pod_spec(input, config),
                },
                "volumeClaimTemplates": [{"metadata": {"name": CLAIM, "labels": input.labels()}, "spec": claim}],
            },
        }),
    )
}

fn pod_spec(input: &Input<'_>, config: &ServerConfig) -> Value {
    let mut volumes = vec![
        json!({"name": "config", "configMap": {"name": config_map::name(input, config)}}),
        json!({"name": "token", "projected": {"defaultMode": 0o440, "sources": [
            {"serviceAccountToken": {"path": "token", "expirationSeconds": 3600}},
            {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
            {"downwardAPI": {"items": [{"path": "namespace", "fieldRef": {"fieldPath": "metadata.namespace"}}]}},
        ]}}),
        json!({"name": "tmp", "emptyDir": {"sizeLimit": "256Mi"}}),
    ];
    let mut mounts = vec![
        json!({"name": "config", "mountPath": CONFIG_DIR, "readOnly": true}),
        json!({"name": "token", "mountPath": TOKEN_DIR, "readOnly": true}),
        json!({"name": "tmp", "mountPath": "/tmp"}),
        json!({"name": CLAIM, "mountPath": DATA_DIR}),
    ];
    if let Some(secret) = &input.policy.server.tls_secret {
        // Optional: a pod must start without it. The server says in a condition that it is missing, and serves meanwhile.
        volumes.push(json!({"name": "tls", "secret": {"secretName": secret, "defaultMode": 0o440, "optional": true}}));
        mounts.push(json!({"name": "tls", "mountPath": CERTIFICATE_DIR, "readOnly": true}));
    }
    json!({
        "serviceAccountName": input.name(),
        "automountServiceAccountToken": false,
        "enableServiceLinks": false,
        "terminationGracePeriodSeconds": 60,
        "securityContext": pod::pod_security(true),
        "containers": [{
            "name": "server",
            "image": input.settings.server_image,
            "imagePullPolicy": input.settings.image_pull_policy,
            "args": ["run", "--config", format!("{CONFIG_DIR}/{CONFIG_FILE}"), "--data-dir", DATA_DIR],
            "env": [
                pod::from_field("NODE_NAME", "spec.nodeName"),
                pod::from_field("POD_NAME", "metadata.name"),
                pod::from_field("POD_NAMESPACE", "metadata.namespace"),
                // Whose service account may ask for the server's metrics.
                {"name": "ERS_OPERATOR_NAMESPACE", "value": input.settings.namespace},
            ],
            "ports": [
                {"name": "https", "containerPort": SERVER_PORT, "protocol": "TCP"},
                {"name": "metrics", "containerPort": SERVER_METRICS_PORT, "protocol": "TCP"},
            ],
            // Replaying a long log may take a while: up to 15 minutes before the server counts as hung.
            "startupProbe": probe("/livez", 2, 3, 450),
            "livenessProbe": probe("/livez", 10, 5, 6),
            "readinessProbe": probe("/readyz", 5, 5, 3),
            "resources": pod::resources(&input.policy.server.resources),
            "securityContext": pod::container_security(),
            "volumeMounts": mounts,
        }],
        "volumes": volumes,
        "affinity": spread(input),
    })
}

/// Several servers are kept on different nodes where that is possible.
fn spread(input: &Input<'_>) -> Value {
    if input.policy.server.replicas < 2 {
        return json!({});
    }
    json!({"podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [{
        "weight": 100,
        "podAffinityTerm": {
            "topologyKey": "kubernetes.io/hostname",
            "labelSelector": {"matchLabels": pod::selector(PROGRAM, ers_model::names::POLICY_LABEL, &input.policy.identity.name)},
        },
    }]}})
}

fn probe(path: &str, period: u32, timeout: u32, failures: u32) -> Value {
    json!({
        "httpGet": {"path": path, "port": "https", "scheme": "HTTPS"},
        "periodSeconds": period,
        "timeoutSeconds": timeout,
        "failureThreshold": failures,
    })
}
