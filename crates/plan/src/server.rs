//! The boot settings of a server: one file, made here, read by `ers-server run --config FILE` and made in memory by
//! `ers-server standalone`. Run-time settings (secrets by name, targets) come through the watch, never through this file.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use ers_crds::validate::{ServerSettings, StorageSettings, ValidatedReportPolicy};
use ers_model::names;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

/// Version of this format; a server refuses any other.
pub const SERVER_CONFIG_VERSION: u32 = 1;

/// Where the pod finds the Secret of `server.tls.secretRef`: `tls.crt`, `tls.key` and perhaps `ca.crt`.
pub const CERTIFICATE_DIR: &str = "/etc/ers-tls";

/// Everything a server must know before it starts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ServerConfig {
    pub version: u32,
    /// Hash of everything but this field, as in the ConfigMap's name.
    pub config_hash: String,
    pub mode: Mode,
    pub namespace: String,
    /// Name of the ReportPolicy.
    pub policy: String,
    /// [`tenant_id`]: the tenant of every row and every sample, and the mark by which a volume is known again.
    pub tenant: Uuid,
    /// Label `cluster` of every series.
    pub cluster: String,
    /// Label `region` of every series.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    pub listen: ListenConfig,
    pub tls: TlsConfig,
    pub storage: StorageConfig,
    pub limits: ServerLimits,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Mode {
    /// Objects come from the API server's watch, callers show Kubernetes tokens.
    Kubernetes,
    /// Objects come from a folder, agents are supervised children.
    Standalone,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ListenConfig {
    /// HTTPS: page, API, remote write, health.
    pub https: SocketAddr,
    /// HTTPS: own metrics.
    pub metrics: SocketAddr,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TlsConfig {
    /// DNS names and addresses that the server's own certificate is made for.
    pub names: Vec<String>,
    /// Folder with `tls.crt`, `tls.key` and perhaps `ca.crt`; the server makes its own certificate if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub certificate_dir: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct StorageConfig {
    /// Size of the volume in bytes; new samples are refused (503) before it is full.
    pub max_bytes: u64,
    /// Days that samples are kept.
    pub retention_days: u32,
}

/// Limits of one request. They are no settings of the kinds yet, but every server is told the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ServerLimits {
    /// Most bytes of a body of remote write as sent (413 over it).
    pub max_write_bytes: u32,
    /// Most bytes of that body after decompression (413 over it).
    pub max_write_decoded_bytes: u32,
    /// Most labels of one series (400 over it).
    pub max_labels: u32,
    /// Most samples that one query may load (422 over it).
    pub max_query_samples: u64,
    /// Seconds until a query is given up.
    pub query_timeout_seconds: u32,
}

impl Default for ServerLimits {
    fn default() -> Self {
        ServerLimits {
            max_write_bytes: 8 << 20,
            max_write_decoded_bytes: 64 << 20,
            max_labels: 128,
            max_query_samples: 50_000_000,
            query_timeout_seconds: 60,
        }
    }
}

/// What the place where a server runs adds to the policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    pub mode: Mode,
    pub cluster: String,
    pub region: Option<String>,
    pub listen: ListenConfig,
    /// Where `server.tls.secretRef` is found as a folder.
    pub certificate_dir: String,
    /// Names for the self-made certificate besides those of the Service.
    pub further_names: Vec<String>,
}

impl Place {
    /// In a pod made by the operator.
    pub fn kubernetes(cluster: impl Into<String>, region: Option<String>) -> Self {
        let any = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
        Place {
            mode: Mode::Kubernetes,
            cluster: cluster.into(),
            region,
            listen: ListenConfig {
                https: SocketAddr::new(any, names::SERVER_PORT),
                metrics: SocketAddr::new(any, names::SERVER_METRICS_PORT),
            },
            certificate_dir: CERTIFICATE_DIR.to_string(),
            further_names: Vec::new(),
        }
    }
}

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    #[error("ReportPolicy {name:?} has no namespace yet, so it has no tenant")]
    NoNamespace { name: String },
}

/// Identity of a policy's data. Made of the names, not of the object's uid: a policy that is deleted and made anew under the
/// same name in the same cluster finds its volume again, and a volume of any other policy is refused.
///
/// A UUID of version 8: the first 128 bits of the SHA-256 of the three names, each ended by a zero byte.
pub fn tenant_id(cluster: &str, namespace: &str, policy: &str) -> Uuid {
    let mut hash = Sha256::new();
    hash.update(b"ers/tenant/v1\0");
    for name in [cluster, namespace, policy] {
        hash.update(name.as_bytes());
        hash.update([0]);
    }
    let digest = hash.finalize();
    let mut bytes = [0_u8; 16];
    bytes.copy_from_slice(&digest[..16]);
    uuid::Builder::from_custom_bytes(bytes).into_uuid()
}

/// The boot settings of a policy's server, with their hash.
pub fn server_config(policy: &ValidatedReportPolicy, place: &Place) -> Result<ServerConfig, PlanError> {
    let ValidatedReportPolicy { identity, management_state: _, secrets: _, server, storage } = policy;
    // Replicas, resources, Service and NetworkPolicy are the operator's children, not the server's settings.
    let ServerSettings { replicas: _, tls_secret, resources: _, service_type: _, network_policy: _ } = server;
    let StorageSettings { size: _, size_bytes, storage_class_name: _, retention_days, on_delete: _ } = storage;
    let Place { mode, cluster, region, listen, certificate_dir, further_names } = place;
    let (namespace, name) = (identity.namespace.clone(), identity.name.clone());
    if namespace.is_empty() {
        return Err(PlanError::NoNamespace { name });
    }
    let tenant = tenant_id(cluster, &namespace, &name);
    let mut certificate_names = match mode {
        Mode::Kubernetes => service_names(&namespace, &name),
        Mode::Standalone => Vec::new(),
    };
    certificate_names.extend(further_names.iter().cloned());
    let mut config = ServerConfig {
        version: SERVER_CONFIG_VERSION,
        config_hash: String::new(),
        mode: *mode,
        namespace,
        policy: name,
        tenant,
        cluster: cluster.clone(),
        region: region.clone(),
        listen: *listen,
        tls: TlsConfig {
            names: certificate_names,
            certificate_dir: tls_secret.as_ref().map(|_| certificate_dir.clone()),
        },
        storage: StorageConfig { max_bytes: *size_bytes, retention_days: *retention_days },
        limits: ServerLimits::default(),
    };
    config.config_hash = crate::config_hash(&config);
    Ok(config)
}

/// Names by which the server is reached: the Service in every usual spelling, and loopback for `kubectl port-forward`.
fn service_names(namespace: &str, policy: &str) -> Vec<String> {
    let service = names::server_name(policy);
    vec![
        service.clone(),
        format!("{service}.{namespace}"),
        format!("{service}.{namespace}.svc"),
        format!("{service}.{namespace}.svc.cluster.local"),
        "localhost".to_string(),
        "127.0.0.1".to_string(),
        "::1".to_string(),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Volumes carry it: it must never change.
    #[test]
    fn a_tenant_is_known_by_its_names_for_ever() {
        let tenant = tenant_id("local", "demo", "reporting");
        assert_eq!(tenant.to_string(), "ed886700-cb85-8591-af6a-91d0253ce5d7");
        assert_ne!(tenant, tenant_id("local", "demo", "reporting2"));
        assert_ne!(tenant_id("a", "bc", "d"), tenant_id("ab", "c", "d"));
    }
}
