//! What every handler shares.

use std::path::PathBuf;
use std::sync::Arc;

use ers_auth::Authenticator;
use ers_model::Clock;
use ers_plan::ServerConfig;
use ers_store::{Store, TenantId};
use uuid::Uuid;

use crate::metrics::ServerMetrics;
use crate::private_file;
use crate::readiness::Readiness;

pub struct App {
    pub config: ServerConfig,
    pub clock: Arc<dyn Clock>,
    pub store: Arc<dyn Store>,
    pub auth: Authenticator,
    pub metrics: Arc<ServerMetrics>,
    pub readiness: Arc<Readiness>,
    pub api_description: Arc<serde_json::Value>,
    /// The administrator, and the file with the first password.
    pub admin: Uuid,
    pub admin_password_file: PathBuf,
}

impl App {
    pub fn tenant(&self) -> TenantId {
        TenantId(self.config.tenant)
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
