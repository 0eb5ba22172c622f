//! What an agent is told: one file, made by `plan` (or by the standalone server), read by `ers-agent run --config FILE`.
//!
//! The file's hash is part of the ConfigMap's name, and the agent sends it with every batch.

use serde::{Deserialize, Serialize};

/// Version of this format; an agent refuses any other.
pub const AGENT_CONFIG_VERSION: u32 = 1;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AgentConfig {
    pub version: u32,
    /// Hash of this configuration (of everything but this field), as in the ConfigMap's name.
    pub config_hash: String,
    pub namespace: String,
    /// Name of the CollectorTarget.
    pub target: String,
    pub destination: Destination,
    pub interval_seconds: u32,
    pub timeout_seconds: u32,
    pub limits: ScrapeLimits,
    pub spool: SpoolConfig,
    pub sources: Vec<Source>,
}

/// The server that takes the samples, by remote write over TLS.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Destination {
    /// Base address, e.g. `https://reporting-server.team.svc:8443`; the agent appends `/api/v1/write`.
    pub url: String,
    /// PEM file with the authority of the server's certificate.
    pub ca_file: String,
    /// File with the bearer token, read anew for each connection attempt (it is rotated under us).
    pub token_file: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ScrapeLimits {
    /// Most series of one target; a scrape over it fails as a whole, with that reason.
    pub max_series: u32,
    /// Most labels of one series.
    pub max_labels: u32,
    /// Most bytes of one scrape's body, after decompression.
    pub max_body_bytes: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SpoolConfig {
    /// Most bytes on disk; over it the oldest batches go first, and are counted.
    pub max_bytes: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all_fields = "camelCase", deny_unknown_fields)]
pub enum Source {
    /// This host's `node_*` metrics, under `job="node-exporter"`.
    HostMetrics { name: String },
    /// This node's kubelet: `/metrics` and `/metrics/cadvisor`, under `job="kubelet"`.
    Kubelet { name: String, tls: KubeletTls },
    /// Pods of the target's namespace, scraped at a port and a path, under `job="<namespace>/<target>"`.
    Pods { name: String, selector: String, endpoints: Vec<PodEndpoint> },
}

impl Source {
    pub fn name(&self) -> &str {
        match self {
            Source::HostMetrics { name } | Source::Kubelet { name, .. } | Source::Pods { name, .. } => name,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum KubeletTls {
    /// Verify with the cluster's authority.
    ClusterCA,
    /// Do not verify: for clusters whose kubelets serve self-signed certificates.
    Insecure,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PodEndpoint {
    /// Name or number of a container port.
    pub port: String,
    pub path: String,
    /// `HTTP` or `HTTPS`.
    pub scheme: PodScheme,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum PodScheme {
    #[serde(rename = "HTTP")]
    Http,
    #[serde(rename = "HTTPS")]
    Https,
}
