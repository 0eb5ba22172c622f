//! CollectorTarget with its defaults filled in, and the rules on labels and ports that CEL can't say within its budget.

use std::collections::BTreeMap;

use super::effective::{EffectiveResources, ResourceDefaults};
use super::{Identity, Violation, Violations};
use crate::collector_target::{
    CollectorTarget, CollectorTargetSpec, HostAccess, KubeletTls, NodeSource, NodeSourceKind, NodeTarget, PodEndpoint,
    PodTarget, Scheme, SpoolSpec, TargetLimits, TargetType, Toleration, WorkloadSpec,
};
use crate::management::ManagementState;
use crate::quantity::{CountOrPercent, Port};
use crate::strings::LabelValue;

const DEFAULT_INTERVAL_SECONDS: u32 = 15;
const DEFAULT_TIMEOUT_SECONDS: u32 = 10;
const DEFAULT_MAX_SERIES: u32 = 50_000;
const DEFAULT_MAX_LABELS: u32 = 64;
const DEFAULT_MAX_BODY_BYTES: u32 = 64 << 20;
const DEFAULT_SPOOL_BYTES: u64 = 512 << 20;
const DEFAULT_MAX_UNAVAILABLE: &str = "10%";
const DEFAULT_PATH: &str = "/metrics";
const RESOURCES: ResourceDefaults =
    ResourceDefaults { cpu_request: "10m", memory_request: "32Mi", memory_limit: "256Mi" };

/// A CollectorTarget that keeps every rule, with its defaults filled in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ValidatedCollectorTarget {
    pub identity: Identity,
    pub management_state: ManagementState,
    /// Name of the ReportPolicy; `None`: the one of the namespace.
    pub policy: Option<String>,
    pub kind: TargetKind,
    pub interval_seconds: u32,
    pub timeout_seconds: u32,
    pub limits: EffectiveLimits,
    pub spool_max_bytes: u64,
    pub workload: ValidatedWorkload,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TargetKind {
    Node {
        node_selector: BTreeMap<String, String>,
        tolerations: Vec<Toleration>,
        sources: Vec<HostSource>,
    },
    /// `selector` is in the API's query notation; empty selects every pod of the namespace.
    Pod {
        selector: String,
        endpoints: Vec<ValidatedEndpoint>,
    },
}

impl TargetKind {
    pub fn target_type(&self) -> TargetType {
        match self {
            TargetKind::Node { .. } => TargetType::Node,
            TargetKind::Pod { .. } => TargetType::Pod,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HostSource {
    HostMetrics { name: String },
    Kubelet { name: String, tls: KubeletTls },
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ValidatedEndpoint {
    pub port: Port,
    pub path: String,
    pub scheme: Scheme,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EffectiveLimits {
    pub max_series: u32,
    pub max_labels: u32,
    pub max_body_bytes: u32,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ValidatedWorkload {
    pub resources: EffectiveResources,
    pub priority_class_name: Option<String>,
    /// Matters for type Node only.
    pub max_unavailable: CountOrPercent,
    pub host_access: HostAccess,
}

impl ValidatedCollectorTarget {
    /// Whether a source scrapes the kubelet, which needs a right that is cluster-wide.
    pub fn scrapes_kubelet(&self) -> bool {
        match &self.kind {
            TargetKind::Node { sources, .. } => {
                sources.iter().any(|source| matches!(source, HostSource::Kubelet { .. }))
            }
            TargetKind::Pod { .. } => false,
        }
    }
}

/// Fills in defaults and judges what neither the schema nor CEL can say.
pub(super) fn validate(object: &CollectorTarget) -> Result<ValidatedCollectorTarget, Violations> {
    let CollectorTargetSpec {
        management_state,
        report_policy_ref,
        type_,
        node,
        pod,
        interval_seconds,
        timeout_seconds,
        limits,
        spool,
        workload,
    } = &object.spec;
    let mut broken = Vec::new();
    let kind = match (type_, node, pod) {
        (TargetType::Node, Some(node), None) => node_kind(node, &mut broken),
        (TargetType::Pod, None, Some(pod)) => pod_kind(pod, &mut broken),
        _ => {
            return Err(Violations(vec![Violation::of_rule(
                "spec.type",
                "collectortarget-block-matches-type",
                "exactly the block of the type must be set",
            )]));
        }
    };
    if !broken.is_empty() {
        return Err(Violations(broken));
    }
    let TargetLimits { max_series, max_labels, max_body_bytes } = limits.clone().unwrap_or_default();
    let SpoolSpec { max_bytes } = spool.clone().unwrap_or_default();
    let WorkloadSpec { resources, priority_class_name, max_unavailable, host_access } =
        workload.clone().unwrap_or_default();
    let interval_seconds = interval_seconds.unwrap_or(DEFAULT_INTERVAL_SECONDS);
    let host_metrics = matches!(&kind, TargetKind::Node { sources, .. }
        if sources.iter().any(|source| matches!(source, HostSource::HostMetrics { .. })));
    let default_host_access = if host_metrics { HostAccess::ReadOnly } else { HostAccess::None };
    Ok(ValidatedCollectorTarget {
        identity: Identity::of(&object.metadata),
        management_state: management_state.unwrap_or_default(),
        policy: report_policy_ref.as_ref().map(|reference| reference.name.to_string()),
        kind,
        interval_seconds,
        timeout_seconds: timeout_seconds.unwrap_or(DEFAULT_TIMEOUT_SECONDS.min(interval_seconds)),
        limits: EffectiveLimits {
            max_series: max_series.unwrap_or(DEFAULT_MAX_SERIES),
            max_labels: max_labels.unwrap_or(DEFAULT_MAX_LABELS),
            max_body_bytes: max_body_bytes.unwrap_or(DEFAULT_MAX_BODY_BYTES),
        },
        spool_max_bytes: max_bytes.unwrap_or(DEFAULT_SPOOL_BYTES),
        workload: ValidatedWorkload {
            resources: RESOURCES.fill(resources.as_ref()),
            priority_class_name: priority_class_name.map(|name| name.into_string()),
            max_unavailable: max_unavailable.unwrap_or_else(|| CountOrPercent::new(DEFAULT_MAX_UNAVAILABLE)),
            host_access: host_access.unwrap_or(default_host_access),
        },
    })
}

fn node_kind(node: &NodeTarget, broken: &mut Vec<Violation>) -> TargetKind {
    let NodeTarget { node_selector, tolerations, sources } = node;
    judge_label_keys("spec.node.nodeSelector", node_selector, broken);
    let sources = sources.iter().map(|NodeSource { name, kind, kubelet }| {
        let name = name.to_string();
        match kind {
            NodeSourceKind::HostMetrics => HostSource::HostMetrics { name },
            NodeSourceKind::Kubelet => {
                HostSource::Kubelet { name, tls: kubelet.as_ref().and_then(|kubelet| kubelet.tls).unwrap_or_default() }
            }
        }
    });
    TargetKind::Node {
        node_selector: node_selector.iter().map(|(key, value)| (key.clone(), value.to_string())).collect(),
        tolerations: tolerations.clone(),
        sources: sources.collect(),
    }
}

fn pod_kind(pod: &PodTarget, broken: &mut Vec<Violation>) -> TargetKind {
    let PodTarget { selector, endpoints } = pod;
    judge_label_keys("spec.pod.selector.matchLabels", &selector.match_labels, broken);
    for (at, endpoint) in endpoints.iter().enumerate() {
        if let Some(message) = fault_of_port(&endpoint.port) {
            broken.push(Violation::of_rule(format!("spec.pod.endpoints[{at}].port"), "collectortarget-port", message));
        }
    }
    let endpoints = endpoints.iter().map(|PodEndpoint { port, path, scheme }| ValidatedEndpoint {
        port: port.clone(),
        path: path.as_ref().map_or_else(|| DEFAULT_PATH.to_string(), ToString::to_string),
        scheme: scheme.unwrap_or_default(),
    });
    TargetKind::Pod { selector: selector.to_query(), endpoints: endpoints.collect() }
}

/// Keys of a map have no schema in a definition, and without a longest length CEL's cost has no bound.
fn judge_label_keys(field: &str, labels: &BTreeMap<String, LabelValue>, broken: &mut Vec<Violation>) {
    for key in labels.keys() {
        if !is_label_key(key) {
            broken.push(Violation::of_rule(
                field,
                "label-key",
                format_args!("{key:?} is no key of a label: a name of at most 63 letters, digits, '-', '_', '.', optionally after a DNS prefix and '/'"),
            ));
        }
    }
}

fn is_label_key(key: &str) -> bool {
    let (prefix, name) = match key.split_once('/') {
        Some((prefix, name)) => (Some(prefix), name),
        None => (None, key),
    };
    let alphanumeric_ends = |text: &str| {
        text.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric())
            && text.bytes().last().is_some_and(|b| b.is_ascii_alphanumeric())
    };
    let name_is_good = name.len() <= 63
        && alphanumeric_ends(name)
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'));
    let prefix_is_good = prefix.is_none_or(|prefix| {
        prefix.len() <= 253
            && prefix.split('.').all(|label| {
                alphanumeric_ends(label)
                    && label.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
            })
    });
    name_is_good && prefix_is_good
}

/// A number written as text, or a name as Kubernetes wants it: at least one letter, no two hyphens in a row.
fn fault_of_port(port: &Port) -> Option<String> {
    let text = port.as_str();
    if port.is_number() {
        let in_range = text.parse::<u16>().is_ok_and(|number| number > 0);
        return (!in_range).then(|| format!("port {text} is outside of 1 to 65535"));
    }
    let has_letter = text.bytes().any(|b| b.is_ascii_lowercase());
    (!has_letter || text.contains("--"))
        .then(|| format!("{text:?} is no name of a port: it needs a letter and must not hold two hyphens in a row"))
}
