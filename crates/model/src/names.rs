//! Names that two programs must agree on. Each is derived here and nowhere else.

/// Group of the four kinds.
pub const GROUP: &str = "reporting.ers.dev";
/// Annotation and label with the hash of the configuration that a pod runs.
pub const CONFIG_HASH_ANNOTATION: &str = "reporting.ers.dev/config-hash";
/// Label that names the ReportPolicy a child belongs to.
pub const POLICY_LABEL: &str = "reporting.ers.dev/policy";
/// Label that names the CollectorTarget a child belongs to.
pub const TARGET_LABEL: &str = "reporting.ers.dev/target";
/// Label that a cluster admin sets on a namespace to permit agents with host access.
pub const HOST_ACCESS_LABEL: &str = "reporting.ers.dev/host-access";
/// Its only value.
pub const HOST_ACCESS_ALLOWED: &str = "allowed";

/// HTTPS port of the server: page, API, remote write, health.
pub const SERVER_PORT: u16 = 8443;
/// HTTPS port of the server's own metrics.
pub const SERVER_METRICS_PORT: u16 = 9443;

/// Headers that an agent sends with a batch.
pub const TARGET_HEADER: &str = "X-ERS-Target";
pub const CONFIG_HASH_HEADER: &str = "X-ERS-Config-Hash";
/// `<epoch>-<sequence>`: names a batch, so that a retry can be recognised.
pub const BATCH_HEADER: &str = "X-ERS-Batch";

/// StatefulSet, Service and ServiceAccount of a policy's server.
pub fn server_name(policy: &str) -> String {
    format!("{policy}-server")
}

/// ConfigMap (key `ca.crt`) with the authority that signed the server's certificate.
pub fn ca_config_map_name(policy: &str) -> String {
    format!("{policy}-ca")
}

/// Secret (keys `username`, `password`) with the first administrator, made by the server.
pub fn admin_secret_name(policy: &str) -> String {
    format!("{policy}-admin")
}

/// DaemonSet or Deployment and ServiceAccount of a target's agents.
pub fn agent_name(target: &str) -> String {
    format!("{target}-agent")
}

/// Audience of the tokens that agents and the operator present to a policy's server.
pub fn token_audience(namespace: &str, policy: &str) -> String {
    format!("ers:{namespace}/{policy}")
}

/// `https://<service>.<namespace>.svc:8443`
pub fn server_url(namespace: &str, policy: &str) -> String {
    format!("https://{}.{namespace}.svc:{SERVER_PORT}", server_name(policy))
}
