//! CollectorTarget: what agents of a namespace collect, and where they run.

use std::collections::BTreeMap;

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use self::selector::{MatchExpression, PodSelector, SelectorOperator};
pub use self::status::{CollectorCounts, CollectorTargetStatus, FailingTarget, MAX_FAILING, TargetCounts};
pub use self::toleration::{Toleration, TolerationEffect, TolerationOperator};
use crate::management::ManagementState;
use crate::quantity::{CountOrPercent, Port};
use crate::resources::Resources;
use crate::strings::{EntryName, HttpPath, LabelValue, ObjectName};

mod selector;
mod status;
mod toleration;

/// What agents collect, and where they run. Type `Node` runs one agent on each matching node; type `Pod` runs one agent
/// that scrapes pods of this namespace.
#[derive(Clone, Debug, PartialEq, CustomResource, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "reporting.ers.dev",
    version = "v1alpha1",
    kind = "CollectorTarget",
    plural = "collectortargets",
    shortname = "ctgt",
    category = "reporting",
    namespaced,
    status = "CollectorTargetStatus",
    derive = "PartialEq",
    doc = "What agents collect, and where they run. Type `Node` runs one agent on each matching node; type `Pod` runs one agent that scrapes pods of this namespace.",
    validation = Rule::new("self.metadata.name.size() <= 40 && self.metadata.name.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$')")
        .message("the name must start with a letter, hold only a-z, 0-9 and '-', and have at most 40 characters: workloads and labels are named after it [collectortarget-name]")
        .field_path(".metadata.name"),
    printcolumn(name = "Type", type_ = "string", json_path = ".spec.type", description = "Node or Pod."),
    printcolumn(name = "Nodes", type_ = "string", json_path = ".status.collectors.readyOfDesired", description = "Ready agents of those wanted."),
    printcolumn(name = "Up", type_ = "string", json_path = ".status.targets.upOfDiscovered", description = "Targets that answer, of those found."),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].status", description = "Whether this generation was seen to work."),
    printcolumn(name = "Reason", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].reason", description = "Why."),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("(self.type == 'Node') == has(self.node)")
    .message("the block node is required when type is Node, and forbidden otherwise [collectortarget-block-matches-type]")
    .field_path(".node"))]
#[x_kube(validation = Rule::new("(self.type == 'Pod') == has(self.pod)")
    .message("the block pod is required when type is Pod, and forbidden otherwise [collectortarget-block-matches-type]")
    .field_path(".pod"))]
#[x_kube(validation = Rule::new("!has(self.timeoutSeconds) || self.timeoutSeconds <= (has(self.intervalSeconds) ? self.intervalSeconds : 15)")
    .message("the timeout must not be longer than the interval, whose default is 15 [collectortarget-timeout-within-interval]")
    .field_path(".timeoutSeconds"))]
#[x_kube(validation = Rule::new("!has(self.workload) || !has(self.workload.hostAccess) || self.workload.hostAccess == 'ReadOnly' || !has(self.node) || !self.node.sources.exists(s, s.kind == 'HostMetrics')")
    .message("a HostMetrics source needs hostAccess ReadOnly: without it the agent sees its own container, not the host [collectortarget-host-metrics-need-host-access]")
    .field_path(".workload.hostAccess"))]
#[x_kube(validation = Rule::new("!has(self.workload) || !has(self.workload.hostAccess) || self.workload.hostAccess == 'None' || self.type == 'Node'")
    .message("only type Node can have hostAccess [collectortarget-host-access-for-nodes]")
    .field_path(".workload.hostAccess"))]
#[x_kube(validation = Rule::new("!has(self.workload) || !has(self.workload.maxUnavailable) || self.type == 'Node'")
    .message("only type Node can have maxUnavailable: the other types run one agent [collectortarget-max-unavailable-for-nodes]")
    .field_path(".workload.maxUnavailable"))]
pub struct CollectorTargetSpec {
    /// `Managed` (default): build, run and keep up to date. `Suspended`: leave everything as it is.
    /// `DryRun`: only say in the conditions what would be done.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub management_state: Option<ManagementState>,
    /// The ReportPolicy of this namespace whose server takes the samples. May be left out, since a namespace has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub report_policy_ref: Option<ReportPolicyRef>,
    /// `Node`: one agent on each matching node. `Pod`: one agent that scrapes pods of this namespace. Can't be changed.
    #[serde(rename = "type")]
    #[x_kube(validation = Rule::new("self == oldSelf")
        .message("the type can't be changed: make a new CollectorTarget [collectortarget-type-immutable]"))]
    pub type_: TargetType,
    /// Which nodes, and what of them. Exactly when type is `Node`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node: Option<NodeTarget>,
    /// Which pods, and where to scrape them. Exactly when type is `Pod`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pod: Option<PodTarget>,
    /// Seconds between two collections, 5 to 3600; default 15.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 5, max = 3600))]
    pub interval_seconds: Option<u32>,
    /// Seconds until a scrape that gives no answer has failed, 1 to 600 and at most the interval; default 10, or the
    /// interval if that is shorter.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 600))]
    pub timeout_seconds: Option<u32>,
    /// What a scraped target may send. A scrape over a limit fails as a whole, and says so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limits: Option<TargetLimits>,
    /// Where an agent keeps samples on disk until the server has them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub spool: Option<SpoolSpec>,
    /// How the agents run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub workload: Option<WorkloadSpec>,
}

/// A ReportPolicy in the same namespace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct ReportPolicyRef {
    /// Name of the ReportPolicy.
    pub name: ObjectName,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum TargetType {
    Node,
    Pod,
}

impl TargetType {
    pub fn as_str(self) -> &'static str {
        match self {
            TargetType::Node => "Node",
            TargetType::Pod => "Pod",
        }
    }
}

/// Which nodes, and what of them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct NodeTarget {
    /// Labels that a node must have, such as `kubernetes.io/os: linux`; all nodes if left out. At most 32.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 32))]
    pub node_selector: BTreeMap<String, LabelValue>,
    /// Taints that the agents put up with. `[{operator: Exists}]` runs them on every node, control plane included.
    /// At most 16.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub tolerations: Vec<Toleration>,
    /// What is collected on each node; each kind at most once.
    #[schemars(length(min = 1, max = 8))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    #[x_kube(validation = Rule::new("self.all(s, self.exists_one(t, t.kind == s.kind))")
        .message("each kind of source can be given once: two would send the same series twice [collectortarget-source-kind-once]"))]
    pub sources: Vec<NodeSource>,
}

/// One source on each node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!has(self.kubelet) || self.kind == 'Kubelet'")
    .message("the block kubelet is only for kind Kubelet [collectortarget-kubelet-block-matches-kind]")
    .field_path(".kubelet"))]
pub struct NodeSource {
    /// Name of this source, such as `host`.
    pub name: EntryName,
    /// `HostMetrics`: the host's CPU, memory, disks, file systems, network and more, under the names of node_exporter.
    /// `Kubelet`: the kubelet's own metrics and those of its containers (cAdvisor), pods of other namespaces included.
    /// Both need the label `reporting.ers.dev/host-access=allowed` on the namespace, which a cluster admin sets.
    pub kind: NodeSourceKind,
    /// Settings of kind `Kubelet`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kubelet: Option<KubeletSource>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum NodeSourceKind {
    HostMetrics,
    Kubelet,
}

/// How the kubelet is scraped.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct KubeletSource {
    /// `ClusterCA` (default): verify the kubelet's certificate with the cluster's authority. `Insecure`: do not verify,
    /// for clusters whose kubelets serve self-signed certificates.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<KubeletTls>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum KubeletTls {
    #[default]
    ClusterCA,
    Insecure,
}

/// Which pods, and where to scrape them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct PodTarget {
    /// Which pods of this namespace; `{}` selects all of them.
    pub selector: PodSelector,
    /// Ports of these pods to scrape. A pod that lacks a port is not a target of that entry. At most 16.
    #[schemars(length(min = 1, max = 16))]
    #[x_kube(validation = Rule::new("self.all(e, self.exists_one(f, string(f.port) == string(e.port) && (has(f.path) ? f.path : '/metrics') == (has(e.path) ? e.path : '/metrics')))")
        .message("each pair of port and path can be given once: two would send the same series twice [collectortarget-endpoint-once]"))]
    pub endpoints: Vec<PodEndpoint>,
}

/// A port and a path that serve metrics in a text format of Prometheus or OpenMetrics.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct PodEndpoint {
    /// Name or number of a container port, such as `metrics` or `9100`.
    pub port: Port,
    /// Path with its query; default `/metrics`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<HttpPath>,
    /// `HTTP` (default) or `HTTPS`, whose certificate is not verified, since pods are addressed by IP.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scheme: Option<Scheme>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Scheme {
    #[default]
    HTTP,
    HTTPS,
}

/// What a scraped target may send.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct TargetLimits {
    /// Most series of one scrape, 100 to 1000000; default 50000.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 100, max = 1_000_000))]
    pub max_series: Option<u32>,
    /// Most labels of one series, 8 to 128; default 64.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 8, max = 128))]
    pub max_labels: Option<u32>,
    /// Most bytes of one scrape's body after decompression, 65536 to 268435456; default 67108864 (64 MiB).
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 65_536, max = 268_435_456))]
    pub max_body_bytes: Option<u32>,
}

/// Where an agent keeps samples on disk until the server has them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct SpoolSpec {
    /// Most bytes per agent, 16777216 (16 MiB) to 68719476736 (64 GiB); default 536870912 (512 MiB). Over it the oldest
    /// samples go first, and are counted.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 16_777_216_u64, max = 68_719_476_736_u64))]
    pub max_bytes: Option<u64>,
}

/// How the agents run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct WorkloadSpec {
    /// CPU and memory of each agent. Defaults: requests 10m and 32Mi, limit 256Mi of memory, no limit of cpu.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resources: Option<Resources>,
    /// Priority class of the agents, such as `system-node-critical`; the cluster's default if left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub priority_class_name: Option<ObjectName>,
    /// How many agents of type `Node` may be down at once during a change: a number or a share; default `10%`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_unavailable: Option<CountOrPercent>,
    /// Whether agents of type `Node` see the host's /proc, /sys and file systems, read-only, and its network. Default:
    /// `ReadOnly` if there is a `HostMetrics` source, otherwise `None`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host_access: Option<HostAccess>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum HostAccess {
    #[default]
    None,
    ReadOnly,
}
