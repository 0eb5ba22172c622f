//! ReportPolicy: a namespace's reporting stack.

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::conditions::Condition;
use crate::management::ManagementState;
use crate::quantity::Quantity;
use crate::resources::Resources;
use crate::strings::{EntryName, ObjectName, SecretKey};

/// A namespace's reporting stack: one server that takes samples, stores them, answers queries and shows the page.
/// A namespace has at most one; the oldest wins, a second is not accepted. The smallest is `spec: {}`.
#[derive(Clone, Debug, Default, PartialEq, CustomResource, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "reporting.ers.dev",
    version = "v1alpha1",
    kind = "ReportPolicy",
    plural = "reportpolicies",
    shortname = "rpol",
    category = "reporting",
    namespaced,
    status = "ReportPolicyStatus",
    derive = "PartialEq",
    doc = "A namespace's reporting stack: one server that takes samples, stores them, answers queries and shows the page. A namespace has at most one; the oldest wins, a second is not accepted. The smallest is `spec: {}`.",
    validation = Rule::new("self.metadata.name.size() <= 40 && self.metadata.name.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$')")
        .message("the name must start with a letter, hold only a-z, 0-9 and '-', and have at most 40 characters: Services and pods are named after it [reportpolicy-name]")
        .field_path(".metadata.name"),
    printcolumn(name = "Server", type_ = "string", json_path = ".status.server.readyOfReplicas", description = "Ready servers of those wanted."),
    printcolumn(name = "Storage", type_ = "string", json_path = ".status.storage.size", description = "Size of the volume with the metrics."),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].status", description = "Whether this generation was seen to work."),
    printcolumn(name = "Reason", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].reason", description = "Why."),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
pub struct ReportPolicySpec {
    /// `Managed` (default): build, run and keep up to date. `Suspended`: leave everything as it is.
    /// `DryRun`: only say in the conditions what would be done.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub management_state: Option<ManagementState>,
    /// Credentials by name, the only place where a Secret can be written; everything else names an entry of this list.
    /// The server reads each entry and says in condition `SecretsReady` which of them it can't find. At most 64.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub secrets: Vec<NamedSecret>,
    /// The server's workload and how it can be reached.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server: Option<ServerSpec>,
    /// Where metrics and state are kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub storage: Option<StorageSpec>,
}

/// One named credential.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct NamedSecret {
    /// Name by which the rest of the configuration refers to it, such as `smtp-password`.
    pub name: EntryName,
    /// A key of a Secret in the policy's namespace. Standalone: the file `<secrets-dir>/<name>/<key>`.
    pub secret_ref: SecretKeyRef,
}

/// A key of a Secret in the same namespace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct SecretKeyRef {
    /// Name of the Secret.
    pub name: ObjectName,
    /// Key in its `data`.
    pub key: SecretKey,
}

/// A Secret in the same namespace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct SecretRef {
    /// Name of the Secret.
    pub name: ObjectName,
}

/// The server's workload and how it can be reached.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct ServerSpec {
    /// Number of servers; 1 (default) is the only number that the embedded storage can serve.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1))]
    pub replicas: Option<u32>,
    /// Certificate of the page and the API. Left out, the server makes its own authority and certificate, rotates them,
    /// and publishes the authority in the ConfigMap `<policy>-ca`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<ServerTls>,
    /// CPU and memory of the server. Defaults: requests 100m and 128Mi, limit 1Gi of memory, no limit of cpu.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resources: Option<Resources>,
    /// How the page and the API are reached from outside the namespace.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service: Option<ServiceSpec>,
    /// `Managed` (default): a NetworkPolicy lets in only pods of this namespace, the operator and the nodes.
    /// `None`: no NetworkPolicy is made.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub network_policy: Option<NetworkPolicyMode>,
}

/// The server's certificate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct ServerTls {
    /// A Secret of type `kubernetes.io/tls` (keys `tls.crt`, `tls.key`, optionally `ca.crt`). The certificate must be
    /// valid for `<policy>-server.<namespace>.svc`, since agents and the operator verify that name.
    /// Standalone: the files `<secrets-dir>/<name>/tls.crt` and `tls.key`.
    pub secret_ref: SecretRef,
}

/// The server's Service.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct ServiceSpec {
    /// `ClusterIP` (default), `NodePort` or `LoadBalancer`.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub type_: Option<ServiceType>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ServiceType {
    #[default]
    ClusterIP,
    NodePort,
    LoadBalancer,
}

impl ServiceType {
    /// As Kubernetes writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            ServiceType::ClusterIP => "ClusterIP",
            ServiceType::NodePort => "NodePort",
            ServiceType::LoadBalancer => "LoadBalancer",
        }
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum NetworkPolicyMode {
    #[default]
    Managed,
    None,
}

/// Where metrics and state are kept.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct StorageSpec {
    /// Where samples are kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metrics: Option<MetricsStorage>,
    /// Where users, sessions, tokens and the audit trail are kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<StateStorage>,
    /// What happens to the volume when the policy is deleted. `Retain` (default): it stays, and a policy of the same name
    /// adopts it again once the server has checked that it is its own. `Delete`: it is deleted with the policy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub on_delete: Option<OnDelete>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum OnDelete {
    #[default]
    Retain,
    Delete,
}

/// Where samples are kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct MetricsStorage {
    /// `Embedded`: in the server itself, on its volume.
    #[serde(rename = "type")]
    pub type_: MetricsStorageType,
    /// Settings of the embedded store.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub embedded: Option<EmbeddedMetrics>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum MetricsStorageType {
    #[default]
    Embedded,
}

/// The store of samples in the server itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct EmbeddedMetrics {
    /// Size of the server's volume, 1Gi to 64Ti; default 10Gi. It can grow where the storage class allows it, never shrink:
    /// a change that the volume can't follow is not accepted, and the size before stays in force. When the volume is nearly
    /// full the server refuses new samples, and agents keep them in their spools.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new("quantity(string(self)).compareTo(quantity('1Gi')) >= 0 && quantity(string(self)).compareTo(quantity('64Ti')) <= 0")
        .message("the size must be between 1Gi and 64Ti [reportpolicy-size-range]"))]
    pub size: Option<Quantity>,
    /// Storage class of the volume; the cluster's default class if left out. A volume stays in its
    /// class: another one is not accepted once the volume exists.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub storage_class_name: Option<ObjectName>,
    /// Days that samples are kept, 1 to 3650; default 15. Older ones are deleted.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 3650))]
    pub retention_days: Option<u32>,
}

/// Where users, sessions, tokens and the audit trail are kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct StateStorage {
    /// `Embedded`: in a database file on the server's volume.
    #[serde(rename = "type")]
    pub type_: StateStorageType,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum StateStorageType {
    #[default]
    Embedded,
}

/// What was seen of a ReportPolicy. Holds nothing that moves while its meaning does not; moving figures are metrics.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct ReportPolicyStatus {
    /// The newest generation of the spec that was judged.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// The generation in force: below `observedGeneration` while a newer one is refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub active_generation: Option<i64>,
    /// Facts. The operator writes `Accepted`, `Programmed`, `Ready`, `Degraded`; the server writes `Loaded`,
    /// `StorageReady`, `SecretsReady`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
    /// The server's workload.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server: Option<ServerStatus>,
    /// The server's volume.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub storage: Option<StorageStatus>,
    /// Where the server can be reached, and what is needed for that.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub endpoints: Option<Endpoints>,
}

/// The server's workload.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct ServerStatus {
    /// Servers wanted.
    pub replicas: u32,
    /// Servers ready.
    pub ready: u32,
    /// Both as text, such as `1/1`.
    #[schemars(length(max = 24))]
    pub ready_of_replicas: String,
    /// Version of ERS that the ready servers run.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub version: Option<String>,
}

impl ServerStatus {
    pub fn new(ready: u32, replicas: u32, version: Option<String>) -> Self {
        ServerStatus { replicas, ready, ready_of_replicas: format!("{ready}/{replicas}"), version }
    }
}

/// The server's volume.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct StorageStatus {
    /// Name of the PersistentVolumeClaim.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub claim: Option<String>,
    /// Its real capacity, such as `10Gi`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    pub size: Option<String>,
}

/// Where the server can be reached, and what is needed for that.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Endpoints {
    /// Address of the page and the API inside the cluster.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512))]
    pub server: Option<String>,
    /// ConfigMap (key `ca.crt`) with the authority of its certificate.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub ca_config_map: Option<String>,
    /// Secret (keys `username`, `password`) with the first administrator.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub admin_secret: Option<String>,
}
