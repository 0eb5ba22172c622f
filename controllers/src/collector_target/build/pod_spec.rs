//! The agent's pod. The one place with host access: read-only mounts, and only where the target asks for it.

use ers_crds::collector_target::HostAccess;
use ers_crds::validate::TargetKind;
use ers_model::agent_config::AgentConfig;
use ers_model::names::{ca_config_map_name, token_audience};
use serde_json::{Value, json};

use super::{CONFIG_FILE, Input, config_map_name};
use crate::pod;

pub(super) const CONTAINER: &str = "agent";
const PROGRAM_PATH: &str = "/bin/ers-agent";
const CONFIG_DIR: &str = "/etc/ers";
const CREDENTIALS_DIR: &str = "/var/run/secrets/ers";
const STATE_DIR: &str = "/var/lib/ers-agent";
const RUN_DIR: &str = "/run/ers";
/// Beyond the samples themselves the spool holds heads and dead letters.
const SPOOL_OVERHEAD_BYTES: u64 = 64 << 20;

pub(super) fn build(input: &Input<'_>, config: &AgentConfig) -> Value {
    let ready_file = format!("{RUN_DIR}/ready");
    let mut volumes = vec![
        json!({"name": "config", "configMap": {"name": config_map_name(input, config)}}),
        json!({"name": "credentials", "projected": {"defaultMode": 0o444, "sources": [
            {"serviceAccountToken": {
                "path": "token", "audience": token_audience(input.namespace(), input.policy), "expirationSeconds": 3600,
            }},
            // Optional, so that agents may start before the server has published its authority.
            {"configMap": {
                "name": ca_config_map_name(input.policy), "items": [{"key": "ca.crt", "path": "ca.crt"}], "optional": true,
            }},
        ]}}),
        json!({"name": "run", "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}}),
    ];
    let mut mounts = vec![
        json!({"name": "config", "mountPath": CONFIG_DIR, "readOnly": true}),
        json!({"name": "credentials", "mountPath": CREDENTIALS_DIR, "readOnly": true}),
        json!({"name": "run", "mountPath": RUN_DIR}),
        json!({"name": "spool", "mountPath": STATE_DIR}),
    ];
    let sees_host = input.target.workload.host_access == HostAccess::ReadOnly;
    let mut init = Vec::new();
    if sees_host {
        let path = format!("{STATE_DIR}/{}/{}", input.namespace(), input.target.identity.name);
        volumes.push(json!({"name": "spool", "hostPath": {"path": path, "type": "DirectoryOrCreate"}}));
        for (name, path) in [("proc", "/proc"), ("sys", "/sys"), ("root", "/")] {
            volumes.push(json!({"name": name, "hostPath": {"path": path, "type": "Directory"}}));
            let mut mount = json!({"name": name, "mountPath": format!("/host/{name}"), "readOnly": true});
            if name == "root" {
                // File systems that are mounted later are seen too.
                mount["mountPropagation"] = json!("HostToContainer");
            }
            mounts.push(mount);
        }
        init.push(own_spool(input));
    } else {
        let limit = input.target.spool_max_bytes + SPOOL_OVERHEAD_BYTES;
        volumes.push(json!({"name": "spool", "emptyDir": {"sizeLimit": limit.to_string()}}));
    }
    let mut spec = json!({
        "serviceAccountName": input.name(),
        "automountServiceAccountToken": needs_api(input),
        "enableServiceLinks": false,
        "terminationGracePeriodSeconds": 30,
        "securityContext": pod::pod_security(!sees_host),
        "initContainers": init,
        "containers": [{
            "name": CONTAINER,
            "image": input.settings.agent_image,
            "imagePullPolicy": input.settings.image_pull_policy,
            "args": [
                "run", "--config", format!("{CONFIG_DIR}/{CONFIG_FILE}"), "--state-dir", STATE_DIR, "--ready-file", ready_file,
            ],
            "env": [
                pod::from_field("NODE_NAME", "spec.nodeName"),
                pod::from_field("POD_NAME", "metadata.name"),
                pod::from_field("POD_NAMESPACE", "metadata.namespace"),
                pod::from_field("HOST_IP", "status.hostIP"),
            ],
            // Ready: this very process, with this configuration, had a batch acknowledged by the server.
            "readinessProbe": {
                "exec": {"command": [PROGRAM_PATH, "health", "--ready-file", ready_file]},
                "periodSeconds": 10,
                "timeoutSeconds": 5,
                "failureThreshold": 3,
            },
            "resources": pod::resources(&input.target.workload.resources),
            "securityContext": pod::container_security(),
            "volumeMounts": mounts,
        }],
        "volumes": volumes,
    });
    if sees_host {
        spec["hostNetwork"] = json!(true);
        spec["dnsPolicy"] = json!("ClusterFirstWithHostNet");
    }
    if let Some(class) = &input.target.workload.priority_class_name {
        spec["priorityClassName"] = json!(class);
    }
    spec
}

/// Whether the agent asks the API server or a kubelet, for which it needs the cluster's own token.
fn needs_api(input: &Input<'_>) -> bool {
    match &input.target.kind {
        TargetKind::Node { .. } => input.target.scrapes_kubelet(),
        TargetKind::Pod { .. } => true,
    }
}

/// Gives the spool's folder on the node, which the kubelet makes for root, to the agent. Root with the right to change
/// owners and nothing else, one folder mounted, ends within milliseconds; see docs/adr/0003.
fn own_spool(input: &Input<'_>) -> Value {
    json!({
        "name": "own-spool",
        "image": input.settings.agent_image,
        "imagePullPolicy": input.settings.image_pull_policy,
        "args": ["prepare-state", "--state-dir", STATE_DIR, "--owner", format!("{0}:{0}", pod::NOBODY)],
        "resources": {"requests": {"cpu": "10m", "memory": "16Mi"}, "limits": {"memory": "64Mi"}},
        "securityContext": {
            "runAsUser": 0,
            "runAsGroup": 0,
            "runAsNonRoot": false,
            "allowPrivilegeEscalation": false,
            "readOnlyRootFilesystem": true,
            "capabilities": {"drop": ["ALL"], "add": ["CHOWN", "FOWNER"]},
        },
        "volumeMounts": [{"name": "spool", "mountPath": STATE_DIR}],
    })
}
