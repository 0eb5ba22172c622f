//! How the server is reached.

use ers_model::names::{SERVER_METRICS_PORT, SERVER_PORT};
use serde_json::json;

use super::Input;
use crate::child::{Child, ChildKind};

pub(super) fn headless_name(input: &Input<'_>) -> String {
    format!("{}-headless", input.name())
}

/// The page, the API and remote write; and the server's own metrics.
pub(super) fn cluster(input: &Input<'_>) -> Child {
    Child::new(
        ChildKind::Service,
        json!({
            "metadata": input.metadata(input.name()),
            "spec": {
                "type": input.policy.server.service_type.as_str(),
                "selector": input.selector(),
                "ports": [
                    {"name": "https", "port": SERVER_PORT, "targetPort": "https", "protocol": "TCP"},
                    {"name": "metrics", "port": SERVER_METRICS_PORT, "targetPort": "metrics", "protocol": "TCP"},
                ],
            },
        }),
    )
}

/// Gives the pods their names.
pub(super) fn headless(input: &Input<'_>) -> Child {
    Child::new(
        ChildKind::Service,
        json!({
            "metadata": input.metadata(headless_name(input)),
            "spec": {
                "clusterIP": "None",
                "publishNotReadyAddresses": true,
                "selector": input.selector(),
                "ports": [{"name": "https", "port": SERVER_PORT, "targetPort": "https", "protocol": "TCP"}],
            },
        }),
    )
}
