//! `Kubelet`: this node's kubelet, its own metrics and cAdvisor's, under `job="kubelet"` as kube-prometheus has it.

use super::scrape::{Buffers, HttpTarget, run as run_target};
use crate::http::{Client, Endpoint, Reach};
use crate::sender::Shared;
use crate::tls::TlsSettings;
use ers_model::Labels;
use ers_model::agent_config::{KubeletTls, ScrapeLimits};
use std::path::PathBuf;
use std::time::Duration;
use tokio::sync::watch;

const PORT: u16 = 10250;
/// Path, and whether the pod, namespace and container in the body are the series' own.
const PATHS: [&str; 2] = ["/metrics", "/metrics/cadvisor"];

/// What the source needs to know.
#[derive(Clone, Debug)]
pub struct KubeletSource {
    pub address: String,
    pub port: u16,
    pub tls: KubeletTls,
    /// Folder with `token` and `ca.crt` of the pod's service account.
    pub service_account: PathBuf,
    pub node: String,
    pub target: String,
    pub interval: Duration,
    pub timeout: Duration,
    pub limits: ScrapeLimits,
}

impl KubeletSource {
    /// The port that every kubelet listens on.
    pub const PORT: u16 = PORT;
}

/// Scrapes both paths over and over. Never returns.
pub async fn run(source: KubeletSource, shared: Shared, buffers: Buffers) {
    let tls = match source.tls {
        KubeletTls::ClusterCA => TlsSettings::authority(&source.service_account.join("ca.crt")),
        KubeletTls::Insecure => TlsSettings::insecure(),
    };
    // Never used: these targets last as long as the process.
    let (_keep, stop) = watch::channel(false);
    let targets = PATHS.map(|path| {
        let endpoint = Endpoint { tls: true, host: source.address.clone(), port: source.port };
        HttpTarget {
            client: Client::new(endpoint, Some(tls.clone()), Reach::Trusted, source.timeout),
            path: path.to_owned(),
            labels: Labels::from_pairs([
                ("job", "kubelet"),
                ("metrics_path", path),
                ("instance", source.node.as_str()),
                ("node", source.node.as_str()),
            ]),
            honor_labels: true,
            token_file: Some(source.service_account.join("token")),
            target: source.target.clone(),
            interval: source.interval,
            timeout: source.timeout,
            limits: source.limits,
        }
    });
    let [metrics, cadvisor] = targets;
    tokio::join!(
        run_target(metrics, shared.clone(), buffers.clone(), stop.clone()),
        run_target(cadvisor, shared, buffers, stop)
    );
}
