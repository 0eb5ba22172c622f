//! The configuration of a target's agents.

use ers_crds::collector_target::{KubeletTls, Scheme};
use ers_crds::validate::{EffectiveLimits, HostSource, TargetKind, ValidatedCollectorTarget, ValidatedEndpoint};
use ers_model::agent_config::{
    AGENT_CONFIG_VERSION, AgentConfig, Destination, KubeletTls as AgentKubeletTls, PodEndpoint, PodScheme,
    ScrapeLimits, Source, SpoolConfig,
};
use ers_model::names;

/// Where an agent's pod finds its token and the server's authority; see `docs/contracts.md`.
const CREDENTIALS_DIR: &str = "/var/run/secrets/ers";

/// The destination of an agent that runs in a pod of the policy's namespace.
pub fn cluster_destination(namespace: &str, policy: &str) -> Destination {
    Destination {
        url: names::server_url(namespace, policy),
        ca_file: format!("{CREDENTIALS_DIR}/ca.crt"),
        token_file: format!("{CREDENTIALS_DIR}/token"),
    }
}

/// The configuration of a target's agents, with its hash. How the agents run (resources, priority, rollout) is no part of
/// it, so that a change of those does not look like another configuration.
pub fn agent_config(target: &ValidatedCollectorTarget, destination: Destination) -> AgentConfig {
    let ValidatedCollectorTarget {
        identity,
        management_state: _,
        policy: _,
        kind,
        interval_seconds,
        timeout_seconds,
        limits: EffectiveLimits { max_series, max_labels, max_body_bytes },
        spool_max_bytes,
        workload: _,
    } = target;
    let sources = match kind {
        TargetKind::Node { node_selector: _, tolerations: _, sources } => sources.iter().map(host_source).collect(),
        TargetKind::Pod { selector, endpoints } => vec![Source::Pods {
            name: identity.name.clone(),
            selector: selector.clone(),
            endpoints: endpoints.iter().map(pod_endpoint).collect(),
        }],
    };
    let mut config = AgentConfig {
        version: AGENT_CONFIG_VERSION,
        config_hash: String::new(),
        namespace: identity.namespace.clone(),
        target: identity.name.clone(),
        destination,
        interval_seconds: *interval_seconds,
        timeout_seconds: *timeout_seconds,
        limits: ScrapeLimits { max_series: *max_series, max_labels: *max_labels, max_body_bytes: *max_body_bytes },
        spool: SpoolConfig { max_bytes: *spool_max_bytes },
        sources,
    };
    config.config_hash = crate::config_hash(&config);
    config
}

fn host_source(source: &HostSource) -> Source {
    match source {
        HostSource::HostMetrics { name } => Source::HostMetrics { name: name.clone() },
        HostSource::Kubelet { name, tls } => Source::Kubelet {
            name: name.clone(),
            tls: match tls {
                KubeletTls::ClusterCA => AgentKubeletTls::ClusterCA,
                KubeletTls::Insecure => AgentKubeletTls::Insecure,
            },
        },
    }
}

fn pod_endpoint(endpoint: &ValidatedEndpoint) -> PodEndpoint {
    let ValidatedEndpoint { port, path, scheme } = endpoint;
    PodEndpoint {
        port: port.as_str().to_string(),
        path: path.clone(),
        scheme: match scheme {
            Scheme::HTTP => PodScheme::Http,
            Scheme::HTTPS => PodScheme::Https,
        },
    }
}
