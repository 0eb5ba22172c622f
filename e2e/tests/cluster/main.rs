//! End to end on a real Kubernetes. One program, run by `e2e/test.sh` with `--test-threads 1`; the modules' names give the order.

mod t1_samples;
mod t2_bad_input;
mod t3_lifecycle;
mod t4_faults;
mod t5_at_rest;

use std::time::Duration;

use anyhow::Result;
use ers_e2e::{Cluster, ServerApi};
use serde_json::{Value, json};

/// The namespace and the objects that `make up` applied.
pub const DEMO: &str = "demo";
pub const POLICY: &str = "reporting";
pub const NODES: &str = "nodes";
pub const MINUTE: Duration = Duration::from_secs(60);

pub async fn demo_server(cluster: &Cluster) -> Result<ServerApi> {
    ServerApi::log_in(cluster, DEMO, POLICY).await
}

/// A small policy for tests that must not disturb the demo.
pub fn policy(name: &str) -> Value {
    json!({
        "apiVersion": "reporting.ers.dev/v1alpha1", "kind": "ReportPolicy", "metadata": {"name": name},
        "spec": {"storage": {"metrics": {"type": "Embedded", "embedded": {"size": "1Gi", "retentionDays": 2}}}}
    })
}

pub fn node_target(name: &str) -> Value {
    json!({
        "apiVersion": "reporting.ers.dev/v1alpha1", "kind": "CollectorTarget", "metadata": {"name": name},
        "spec": {"type": "Node", "intervalSeconds": 5, "timeoutSeconds": 5,
                 "node": {"tolerations": [{"operator": "Exists"}], "sources": [{"name": "host", "kind": "HostMetrics"}]},
                 "workload": {"hostAccess": "ReadOnly"}}
    })
}

/// Labels of a namespace in which agents may see the host.
pub fn host_access_labels() -> Value {
    json!({"reporting.ers.dev/host-access": "allowed", "pod-security.kubernetes.io/enforce": "privileged"})
}
