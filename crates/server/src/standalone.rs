//! One machine without Kubernetes: the same objects from a folder, the same server, and one supervised agent per CollectorTarget of type Node.

pub mod agents;
pub mod conditions;

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail};
use ers_crds::validate;
use ers_plan::{ListenConfig, Mode, Place, ServerConfig, server_config};
use ers_source::folder::FolderSource;
use ers_source::{Object, ObjectEvent};

use crate::private_file;

/// Where the source keeps generations and what was good last, in the data folder.
pub const OBJECTS_FILE: &str = "objects.json";
/// How often the folder is looked at.
const RESCAN_EVERY: Duration = Duration::from_secs(2);

/// What `ers-server standalone` was told.
#[derive(Clone, Debug)]
pub struct Settings {
    pub manifests: PathBuf,
    pub secrets_dir: PathBuf,
    pub data_dir: PathBuf,
    pub namespace: String,
    pub cluster: String,
    pub region: Option<String>,
    pub listen: SocketAddr,
    pub metrics_listen: SocketAddr,
    /// None: no agents are run here.
    pub agent_binary: Option<PathBuf>,
}

impl Settings {
    pub fn source(&self, state_file: &Path) -> FolderSource {
        FolderSource::new(&self.manifests, &self.namespace, state_file, RESCAN_EVERY)
    }

    /// Reads the folder once and plans the server. A policy that is broken now is planned as it was when it was good last.
    ///
    /// Nothing is written to the data folder: whose data it holds is not known yet.
    pub fn plan(&self) -> anyhow::Result<(ServerConfig, Place)> {
        let scratch = std::env::temp_dir().join(format!("ers-plan-{}.json", uuid::Uuid::now_v7()));
        let known =
            private_file::read_text(&self.data_dir.join(OBJECTS_FILE)).context("cannot read what was good last")?;
        if let Some(known) = known {
            private_file::write(&scratch, known.as_bytes()).context("cannot use the folder for temporary files")?;
        }
        let events = self.source(&scratch).read_once();
        private_file::remove(&scratch).context("cannot use the folder for temporary files")?;
        let events = events.with_context(|| format!("cannot read the manifests in {}", self.manifests.display()))?;
        let mut policies = Vec::new();
        let mut problems = Vec::new();
        for event in events {
            match event {
                ObjectEvent::Applied(Object::ReportPolicy(policy)) => policies.push(policy),
                ObjectEvent::Invalid(invalid) => problems.push(format!("{}: {}", invalid.key, invalid.error)),
                _ => {}
            }
        }
        let policy = match policies.as_slice() {
            [one] => one,
            [] if problems.is_empty() => bail!("there is no ReportPolicy in {}", self.manifests.display()),
            [] => bail!("there is no valid ReportPolicy in {}: {}", self.manifests.display(), problems.join("; ")),
            _ => bail!(
                "there are {} ReportPolicies in {}; one server serves one",
                policies.len(),
                self.manifests.display()
            ),
        };
        let valid = validate::report_policy(policy, None)?;
        let place = self.place(valid.server.tls_secret.as_deref());
        Ok((server_config(&valid, &place)?, place))
    }

    fn place(&self, tls_secret: Option<&str>) -> Place {
        let mut names = vec!["localhost".to_owned(), "127.0.0.1".to_owned(), "::1".to_owned(), host_name()];
        match self.listen.ip() {
            IpAddr::V4(address) if address.is_unspecified() || address.is_loopback() => {}
            IpAddr::V6(address) if address.is_unspecified() || address.is_loopback() => {}
            address => names.push(address.to_string()),
        }
        names.retain(|name| !name.is_empty());
        names.dedup();
        Place {
            mode: Mode::Standalone,
            cluster: self.cluster.clone(),
            region: self.region.clone(),
            listen: ListenConfig { https: self.listen, metrics: self.metrics_listen },
            certificate_dir: self.secrets_dir.join(tls_secret.unwrap_or_default()).display().to_string(),
            further_names: names,
        }
    }
}

/// This machine's name, as agents use it for their node.
pub fn host_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}
