//! Which nodes a DaemonSet means, and since when they are Ready.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ers_crds::collector_target::{Toleration, TolerationEffect, TolerationOperator};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Node;

/// A node counts for the proof once it has been Ready for this long.
pub const SETTLED_MS: i64 = 60_000;

/// What is remembered of a node: nothing that a heartbeat moves.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeState {
    pub labels: BTreeMap<String, String>,
    pub taints: Vec<Taint>,
    /// Since when it is Ready, in Unix milliseconds.
    pub ready_since_ms: Option<i64>,
    /// Where its own processes come from, and pods on its network, as ranges.
    pub ranges: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Taint {
    pub key: String,
    pub value: String,
    pub effect: String,
}

/// Taints that Kubernetes itself lets every DaemonSet put up with.
/// <https://kubernetes.io/docs/concepts/workloads/controllers/daemonset/#taints-and-tolerations>
const TOLERATED: [&str; 7] = [
    "node.kubernetes.io/not-ready",
    "node.kubernetes.io/unreachable",
    "node.kubernetes.io/disk-pressure",
    "node.kubernetes.io/memory-pressure",
    "node.kubernetes.io/pid-pressure",
    "node.kubernetes.io/unschedulable",
    "node.kubernetes.io/network-unavailable",
];

impl NodeState {
    pub fn of(node: &Node) -> Self {
        let spec = node.spec.as_ref();
        let status = node.status.as_ref();
        let conditions = status.and_then(|status| status.conditions.as_deref()).unwrap_or_default();
        let ready = conditions.iter().find(|condition| condition.type_ == "Ready" && condition.status == "True");
        let since = |at: &Timestamp| at.as_millisecond();
        NodeState {
            labels: node.metadata.labels.clone().unwrap_or_default(),
            taints: spec
                .and_then(|spec| spec.taints.as_deref())
                .unwrap_or_default()
                .iter()
                .map(|taint| Taint {
                    key: taint.key.clone(),
                    value: taint.value.clone().unwrap_or_default(),
                    effect: taint.effect.clone(),
                })
                .collect(),
            ready_since_ms: ready
                .map(|condition| condition.last_transition_time.as_ref().map_or(0, |time| since(&time.0))),
            ranges: ranges_of(node),
        }
    }

    /// Whether a DaemonSet with this selector and these tolerations runs a pod here.
    pub fn is_matched_by(&self, selector: &BTreeMap<String, String>, tolerations: &[Toleration]) -> bool {
        let labels_match = selector.iter().all(|(key, value)| self.labels.get(key) == Some(value));
        labels_match && self.taints.iter().all(|taint| !repels(taint) || is_tolerated(taint, tolerations))
    }

    /// Whether it has been Ready for long enough to count.
    pub fn is_settled(&self, now_ms: i64) -> bool {
        self.ready_since_ms.is_some_and(|since| now_ms - since >= SETTLED_MS)
    }
}

/// Where Calico writes down the address of a node's end of its tunnels.
const TUNNEL_ADDRESSES: [&str; 5] = [
    "projectcalico.org/IPv4IPIPTunnelAddr",
    "projectcalico.org/IPv4VXLANTunnelAddr",
    "projectcalico.org/IPv6VXLANTunnelAddr",
    "projectcalico.org/IPv4WireguardInterfaceAddr",
    "projectcalico.org/IPv6WireguardInterfaceAddr",
];

/// On a tunnelled network, what leaves one node's own network for a pod on another carries the address of the tunnel's
/// end: with Calico the one in an annotation, with Flannel the first of the node's range for pods, and across its bridge
/// the second. What does not read as an address is left out, since it would make the NetworkPolicy invalid.
fn ranges_of(node: &Node) -> Vec<String> {
    let addresses = node.status.as_ref().and_then(|status| status.addresses.as_deref()).unwrap_or_default();
    let internal = addresses.iter().filter(|address| address.type_ == "InternalIP").map(|address| &address.address);
    let annotations = node.metadata.annotations.as_ref();
    let tunnels = TUNNEL_ADDRESSES.iter().filter_map(|name| annotations?.get(*name));
    let mut ranges: Vec<String> = internal.chain(tunnels).filter_map(|text| single(text)).collect();
    let pods = node.spec.as_ref().and_then(|spec| spec.pod_cidrs.as_deref()).unwrap_or_default();
    ranges.extend(pods.iter().filter_map(|range| first_two(range)));
    ranges.sort();
    ranges.dedup();
    ranges
}

fn single(address: &str) -> Option<String> {
    let address: IpAddr = address.parse().ok()?;
    Some(format!("{address}/{}", if address.is_ipv6() { 128 } else { 32 }))
}

/// The first two addresses of a range; of a range of one address that one.
fn first_two(range: &str) -> Option<String> {
    let (address, length) = range.split_once('/')?;
    let length: u32 = length.parse().ok()?;
    match address.parse().ok()? {
        IpAddr::V4(address) => {
            let mask = u32::MAX.checked_shl(32_u32.checked_sub(length)?).unwrap_or(0);
            Some(format!("{}/{}", Ipv4Addr::from_bits(address.to_bits() & mask), length.max(31)))
        }
        IpAddr::V6(address) => {
            let mask = u128::MAX.checked_shl(128_u32.checked_sub(length)?).unwrap_or(0);
            Some(format!("{}/{}", Ipv6Addr::from_bits(address.to_bits() & mask), length.max(127)))
        }
    }
}

fn repels(taint: &Taint) -> bool {
    taint.effect != "PreferNoSchedule" && !TOLERATED.contains(&taint.key.as_str())
}

fn is_tolerated(taint: &Taint, tolerations: &[Toleration]) -> bool {
    tolerations.iter().any(|toleration| {
        let Toleration { key, operator, value, effect, toleration_seconds: _ } = toleration;
        let key_fits = key.as_ref().is_none_or(|key| key.as_str() == taint.key);
        let effect_fits = effect.is_none_or(|effect: TolerationEffect| effect.as_str() == taint.effect);
        let value_fits = match operator.unwrap_or(TolerationOperator::Equal) {
            TolerationOperator::Exists => true,
            TolerationOperator::Equal => value.as_ref().map_or("", |value| value.as_str()) == taint.value,
        };
        key_fits && effect_fits && value_fits
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn node(taint: Option<(&str, &str)>) -> NodeState {
        NodeState {
            labels: BTreeMap::from([("kubernetes.io/os".to_owned(), "linux".to_owned())]),
            taints: taint
                .map(|(key, effect)| Taint { key: key.to_owned(), value: String::new(), effect: effect.to_owned() })
                .into_iter()
                .collect(),
            ready_since_ms: Some(1_000),
            ranges: Vec::new(),
        }
    }

    #[track_caller]
    fn check(node: &NodeState, tolerations: &[Toleration], expect: bool) {
        assert_eq!(node.is_matched_by(&BTreeMap::new(), tolerations), expect);
    }

    #[test]
    fn taints_repel_unless_they_are_tolerated() {
        let everything = [Toleration { operator: Some(TolerationOperator::Exists), ..Toleration::default() }];
        let master = node(Some(("node-role.kubernetes.io/control-plane", "NoSchedule")));
        check(&node(None), &[], true);
        check(&master, &[], false);
        check(&master, &everything, true);
        check(&node(Some(("x", "PreferNoSchedule"))), &[], true);
        check(&node(Some(("node.kubernetes.io/unschedulable", "NoSchedule"))), &[], true);
        let exact = [Toleration {
            key: Some("node-role.kubernetes.io/control-plane".into()),
            effect: Some(TolerationEffect::NoExecute),
            operator: Some(TolerationOperator::Exists),
            ..Toleration::default()
        }];
        check(&master, &exact, false);
    }

    #[test]
    fn the_selector_must_match_in_full() {
        let linux = BTreeMap::from([("kubernetes.io/os".to_owned(), "linux".to_owned())]);
        let windows = BTreeMap::from([("kubernetes.io/os".to_owned(), "windows".to_owned())]);
        assert!(node(None).is_matched_by(&linux, &[]));
        assert!(!node(None).is_matched_by(&windows, &[]));
    }

    #[track_caller]
    fn comes_from(node: serde_json::Value, expect: &[&str]) {
        let node: Node = serde_json::from_value(node).expect("node");
        assert_eq!(NodeState::of(&node).ranges, expect);
    }

    #[test]
    fn processes_of_a_node_come_from_its_address_and_from_the_ends_of_its_tunnels() {
        let status = json!({"addresses": [
            {"type": "InternalIP", "address": "192.168.0.7"}, {"type": "InternalIP", "address": "fd00::7"},
            {"type": "ExternalIP", "address": "203.0.113.7"}, {"type": "Hostname", "address": "n1"},
        ]});
        comes_from(json!({"metadata": {}, "status": status}), &["192.168.0.7/32", "fd00::7/128"]);
        let annotations = json!({
            "projectcalico.org/IPv4IPIPTunnelAddr": "10.42.3.1", "projectcalico.org/IPv4VXLANTunnelAddr": "10.42.3.9",
            "projectcalico.org/IPv6VXLANTunnelAddr": "no address",
        });
        comes_from(json!({"metadata": {"annotations": annotations}}), &["10.42.3.1/32", "10.42.3.9/32"]);
        let spec = json!({"podCIDRs": ["10.244.3.0/24", "fd00:1::/64"]});
        comes_from(json!({"metadata": {}, "spec": spec}), &["10.244.3.0/31", "fd00:1::/127"]);
        let odd = json!({"podCIDRs": ["10.244.3.77/24", "10.0.0.1/32", "10.0.0.0/33", "x"]});
        comes_from(json!({"metadata": {}, "spec": odd}), &["10.0.0.1/32", "10.244.3.0/31"]);
    }

    #[test]
    fn a_node_counts_after_a_minute() {
        assert!(!node(None).is_settled(60_999));
        assert!(node(None).is_settled(61_000));
        assert!(!NodeState::default().is_settled(i64::MAX));
    }
}
