//! `Pods`: pods of the target's namespace, found by one list and one watch, each endpoint scraped on its own.
//!
//! Pods are chosen by whoever may make pods, so their addresses are not trusted: no loopback, no link-local address, no
//! redirect elsewhere ([`Reach::Pods`]). No token is sent to them, and the certificate of an HTTPS endpoint is not
//! verified: certificates of pods carry no pod addresses that an authority could vouch for.

mod api;
mod watch_stream;

use super::scrape::{Buffers, HttpTarget, run as run_target};
use crate::http::{Client, Endpoint, Reach};
use crate::sender::{Shared, describe};
use crate::tls::TlsSettings;
pub use api::{ApiError, KubeApi};
use api::{Pod, PodApi};
use ers_model::Labels;
use ers_model::agent_config::{PodEndpoint, PodScheme, ScrapeLimits};
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::time::Duration;
use tokio::sync::watch;
use watch_stream::Change;

/// Most endpoints of one source; beyond, the last ones by name are left out, loudly.
const MOST_ENDPOINTS: usize = 5_000;
const FIRST_BACKOFF: Duration = Duration::from_millis(500);
const LONGEST_BACKOFF: Duration = Duration::from_secs(30);

/// What the source needs to know.
#[derive(Clone, Debug)]
pub struct PodsSource {
    pub api: KubeApi,
    pub namespace: String,
    pub target: String,
    pub selector: String,
    pub endpoints: Vec<PodEndpoint>,
    pub interval: Duration,
    pub timeout: Duration,
    pub limits: ScrapeLimits,
    /// [`Reach::Pods`], but for tests, whose pods are on loopback.
    pub reach: Reach,
}

/// One endpoint of one pod; equal keys are the same target.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    pod: String,
    uid: String,
    address: String,
    port: u16,
    path: String,
    tls: bool,
    container: String,
    node: String,
}

/// Discovers and scrapes. Never returns.
pub async fn run(source: PodsSource, shared: Shared, buffers: Buffers) {
    let mut discovery = Discovery {
        pods: BTreeMap::new(),
        running: BTreeMap::new(),
        was_over: false,
        source: Rc::new(source),
        shared,
        buffers,
    };
    let mut failures = 0_u32;
    loop {
        match discovery.follow(&mut failures).await {
            Ok(()) => {}
            Err(error) => {
                failures = failures.saturating_add(1);
                discovery.shared.queue.borrow().metrics().discovery_errors.inc();
                let wait = FIRST_BACKOFF.saturating_mul(1 << failures.min(6)).min(LONGEST_BACKOFF);
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    detail = describe(&error),
                    failures,
                    retry_in_ms = wait.as_millis() as u64,
                    "pods cannot be listed; known targets are scraped on"
                );
                tokio::time::sleep(wait).await;
            }
        }
    }
}

struct Discovery {
    source: Rc<PodsSource>,
    shared: Shared,
    buffers: Buffers,
    pods: BTreeMap<String, Pod>,
    running: BTreeMap<Key, watch::Sender<bool>>,
    was_over: bool,
}

impl Discovery {
    /// Lists, then watches until the API server ends the watch or something fails.
    async fn follow(&mut self, failures: &mut u32) -> Result<(), ApiError> {
        let source = self.source.clone();
        let mut api = PodApi::new(&source.api, &source.namespace, &source.selector);
        let (pods, mut version) = api.list().await?;
        *failures = 0;
        self.pods = pods.into_iter().map(|pod| (pod.metadata.uid.clone(), pod)).collect();
        self.apply();
        loop {
            let mut stream = api.watch(&version).await?;
            while let Some(change) = stream.next().await? {
                match change {
                    Change::Bookmark(at) => version = at,
                    Change::Applied(pod) => {
                        version.clone_from(&pod.metadata.resource_version);
                        self.pods.insert(pod.metadata.uid.clone(), *pod);
                        self.apply();
                    }
                    Change::Deleted(pod) => {
                        version.clone_from(&pod.metadata.resource_version);
                        self.pods.remove(&pod.metadata.uid);
                        self.apply();
                    }
                    // Our version is too old for the API server: list again, at once.
                    Change::Expired => return Ok(()),
                }
            }
        }
    }

    /// Starts what is new and stops what is gone.
    fn apply(&mut self) {
        let mut wanted: BTreeSet<Key> = BTreeSet::new();
        for pod in self.pods.values() {
            for endpoint in &self.source.endpoints {
                wanted.extend(resolve(pod, endpoint));
            }
        }
        let is_over = wanted.len() > MOST_ENDPOINTS;
        if is_over && !self.was_over {
            tracing::error!(
                found = wanted.len(),
                most = MOST_ENDPOINTS,
                "more endpoints than one agent scrapes: use a narrower selector; the rest is left out"
            );
        }
        self.was_over = is_over;
        let wanted: BTreeSet<Key> = wanted.into_iter().take(MOST_ENDPOINTS).collect();
        self.running.retain(|key, stop| {
            let stays = wanted.contains(key);
            if !stays {
                // The task ends the target's series.
                let _ = stop.send(true);
            }
            stays
        });
        for key in wanted {
            if !self.running.contains_key(&key) {
                let stop = self.start(&key);
                self.running.insert(key, stop);
            }
        }
        self.shared.queue.borrow().metrics().pods_discovered.set(self.running.len() as i64);
    }

    fn start(&self, key: &Key) -> watch::Sender<bool> {
        let source = &self.source;
        let endpoint = Endpoint { tls: key.tls, host: key.address.clone(), port: key.port };
        let mut labels = Labels::from_pairs([
            ("job", format!("{}/{}", source.namespace, source.target)),
            ("namespace", source.namespace.clone()),
            ("pod", key.pod.clone()),
            ("instance", endpoint.authority()),
        ]);
        labels.set("container", key.container.as_str());
        labels.set("node", key.node.as_str());
        let tls = key.tls.then(TlsSettings::insecure);
        let target = HttpTarget {
            client: Client::new(endpoint, tls, source.reach, source.timeout),
            path: key.path.clone(),
            labels,
            honor_labels: false,
            token_file: None,
            target: source.target.clone(),
            interval: source.interval,
            timeout: source.timeout,
            limits: source.limits,
        };
        let (stop, stopped) = watch::channel(false);
        tokio::task::spawn_local(run_target(target, self.shared.clone(), self.buffers.clone(), stopped));
        stop
    }
}

/// Endpoints of a pod: a port by number needs no declaration, a port by name may be declared by several containers.
fn resolve(pod: &Pod, endpoint: &PodEndpoint) -> Vec<Key> {
    if matches!(pod.status.phase.as_str(), "Succeeded" | "Failed") || pod.status.pod_ip.is_empty() {
        return Vec::new();
    }
    let number: Option<u16> = endpoint.port.parse().ok();
    let mut found: Vec<(u16, &str)> = Vec::new();
    for container in &pod.spec.containers {
        for port in container.ports.iter().filter(|port| port.protocol.is_empty() || port.protocol == "TCP") {
            if number == Some(port.container_port) || port.name == endpoint.port {
                found.push((port.container_port, &container.name));
            }
        }
    }
    if let (true, Some(number)) = (found.is_empty(), number) {
        found.push((number, ""));
    }
    let key = |(port, container): (u16, &str)| Key {
        pod: pod.metadata.name.clone(),
        uid: pod.metadata.uid.clone(),
        address: pod.status.pod_ip.clone(),
        port,
        path: endpoint.path.clone(),
        tls: endpoint.scheme == PodScheme::Https,
        container: container.to_owned(),
        node: pod.spec.node_name.clone(),
    };
    found.into_iter().map(key).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(json: &str) -> Pod {
        serde_json::from_str(json).expect("a pod")
    }

    fn endpoint(port: &str) -> PodEndpoint {
        PodEndpoint { port: port.to_owned(), path: "/metrics".to_owned(), scheme: PodScheme::Http }
    }

    const RUNNING: &str = r#"{"metadata": {"name": "p", "uid": "u", "resourceVersion": "1", "labels": {"a": "b"}},
        "spec": {"nodeName": "n1", "containers": [
            {"name": "c", "image": "i", "ports": [{"name": "http", "containerPort": 8080, "protocol": "TCP"},
                                                  {"name": "dns", "containerPort": 53, "protocol": "UDP"}]}]},
        "status": {"phase": "Running", "podIP": "10.0.0.1"}}"#;

    #[test]
    fn ports_are_found_by_name_and_by_number() {
        let pod = pod(RUNNING);
        let found = |port: &str| {
            resolve(&pod, &endpoint(port)).into_iter().map(|key| (key.port, key.container)).collect::<Vec<_>>()
        };
        assert_eq!(found("http"), [(8080, "c".to_owned())]);
        assert_eq!(found("8080"), [(8080, "c".to_owned())]);
        assert_eq!(found("9000"), [(9000, String::new())]);
        assert_eq!(found("dns"), []);
        assert_eq!(found("other"), []);
    }

    #[test]
    fn pods_that_ended_or_have_no_address_are_no_targets() {
        let ended = pod(&RUNNING.replace("Running", "Succeeded"));
        assert_eq!(resolve(&ended, &endpoint("http")), []);
        let without = pod(&RUNNING.replace("10.0.0.1", ""));
        assert_eq!(resolve(&without, &endpoint("http")), []);
    }
}
