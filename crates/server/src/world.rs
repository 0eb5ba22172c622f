//! Where a server gets its objects and secrets from and who vouches for its callers: a cluster, or this machine.

use std::path::PathBuf;
use std::sync::Arc;

use ers_auth::kubernetes::{ApiServerReviewer, KubernetesAuthenticator, Trust};
use ers_model::{Clock, names};
use ers_plan::ServerConfig;
use ers_secrets::{FolderSecrets, KubeSecrets, SecretSource};
use ers_source::folder::FolderSink;
use ers_source::kubernetes::{KubeSink, KubeSource};
use ers_source::{ObjectSource, StatusSink};

use crate::boot::DataFolder;
use crate::standalone::{OBJECTS_FILE, Settings};

/// Service account of the operator, which reads to prove that the server works; see `docs/contracts.md`.
const OPERATOR_ACCOUNT: &str = "ers-operator";

pub enum World {
    Kubernetes { client: kube::Client, operator_namespace: String },
    Standalone(Settings),
}

/// What the world gives.
pub struct Surroundings {
    pub source: Arc<dyn ObjectSource>,
    pub sink: Arc<dyn StatusSink>,
    pub secrets: Arc<dyn SecretSource>,
    pub kubernetes: Option<KubernetesAuthenticator>,
    pub client: Option<kube::Client>,
    pub kept_statuses: Option<Arc<FolderSink>>,
    pub secrets_dir: Option<PathBuf>,
    /// None: no agents are run here. Some without a binary: they would be, if there were one.
    pub agent_binary: Option<Option<PathBuf>>,
}

impl World {
    pub fn surroundings(
        &self,
        config: &ServerConfig,
        data: &DataFolder,
        clock: &Arc<dyn Clock>,
    ) -> anyhow::Result<Surroundings> {
        match self {
            World::Kubernetes { client, operator_namespace } => {
                let trust = Trust {
                    audience: names::token_audience(&config.namespace, &config.policy),
                    namespace: config.namespace.clone(),
                    operator: (operator_namespace.clone(), OPERATOR_ACCOUNT.to_owned()),
                };
                let reviewer = Arc::new(ApiServerReviewer::new(client.clone()));
                Ok(Surroundings {
                    source: Arc::new(KubeSource::new(client.clone(), &config.namespace)),
                    sink: Arc::new(KubeSink::new(client.clone(), clock.clone())),
                    secrets: Arc::new(KubeSecrets::new(client.clone(), &config.namespace)),
                    kubernetes: Some(KubernetesAuthenticator::new(reviewer, trust, clock.clone())),
                    client: Some(client.clone()),
                    kept_statuses: None,
                    secrets_dir: None,
                    agent_binary: None,
                })
            }
            World::Standalone(settings) => {
                let sink = Arc::new(FolderSink::open(data.objects_file("status.json"), clock.clone())?);
                Ok(Surroundings {
                    source: Arc::new(settings.source(&data.objects_file(OBJECTS_FILE))),
                    sink: sink.clone(),
                    secrets: Arc::new(FolderSecrets::new(&settings.secrets_dir)),
                    kubernetes: None,
                    client: None,
                    kept_statuses: Some(sink),
                    secrets_dir: Some(settings.secrets_dir.clone()),
                    agent_binary: Some(settings.agent_binary.clone()),
                })
            }
        }
    }
}
