//! What every handler shares.

use std::path::PathBuf;
use std::sync::Arc;

use ers_auth::Authenticator;
use ers_crds::validate::ValidatedReportPolicy;
use ers_model::Clock;
use ers_plan::{Mode, Place, ServerConfig};
use ers_source::folder::FolderSink;
use ers_store::{AuditContext, Store, TenantId};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::admin;
use crate::ers::live::LiveHub;
use crate::metrics::ServerMetrics;
use crate::objects::Objects;
use crate::overview::Overviews;
use crate::private_file;
use crate::readiness::Readiness;
use crate::samples::Samples;
use crate::standalone::agents::AgentBoard;

pub struct App {
    pub config: ServerConfig,
    pub clock: Arc<dyn Clock>,
    pub store: Arc<dyn Store>,
    pub auth: Authenticator,
    pub metrics: Arc<ServerMetrics>,
    pub readiness: Arc<Readiness>,
    pub api_description: Arc<serde_json::Value>,
    pub samples: Arc<Samples>,
    pub objects: Arc<Objects>,
    pub overviews: Overviews,
    pub live: LiveHub,
    /// Queries that may run at the same time.
    pub queries: Arc<Semaphore>,
    /// Most samples of one query, so that all that run at once fit into memory.
    pub max_query_samples: u64,
    /// Live sockets that may be open at the same time.
    pub sockets: Arc<Semaphore>,
    /// Standalone only: the supervised agents.
    pub agents: AgentBoard,
    /// Standalone only: where statuses are kept.
    pub kept_statuses: Option<Arc<FolderSink>>,
    /// Standalone only: where secrets are folders.
    pub secrets_dir: Option<PathBuf>,
    /// Where this server runs, for planning again.
    pub place: Place,
    /// Standalone only: the policy asks for other boot settings than these.
    pub restart: CancellationToken,
    pub stop: CancellationToken,
    /// The administrator, and the file with the first password.
    pub admin: Uuid,
    pub admin_password_file: PathBuf,
}

impl App {
    pub fn tenant(&self) -> TenantId {
        TenantId(self.config.tenant)
    }

    /// Where changes by the server itself come from.
    pub fn system_audit(&self) -> AuditContext {
        admin::system_audit(self.tenant(), self.clock.as_ref(), &self.config.cluster, self.config.region.as_deref())
    }

    /// Where a policy would be planned for now: as at the start, but with the certificate that it names now.
    pub fn place_of(&self, policy: &ValidatedReportPolicy) -> Place {
        let mut place = self.place.clone();
        if let (Some(secrets_dir), Some(name)) = (&self.secrets_dir, &policy.server.tls_secret) {
            place.certificate_dir = secrets_dir.join(name).display().to_string();
        }
        place
    }

    /// The policy asks for other boot settings. In a cluster the operator rolls them out; here we start again ourselves.
    pub fn restart_wanted(&self) {
        if self.config.mode == Mode::Standalone {
            self.restart.cancel();
        }
    }

    /// A person chose a password: the first one is no longer in force, so its file goes.
    pub fn admin_password_changed(&self, user: Uuid) {
        if user != self.admin {
            return;
        }
        if let Err(error) = private_file::remove(&self.admin_password_file) {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "the file with the first password could not be removed"
            );
        }
    }
}
