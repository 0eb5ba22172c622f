//! The first administrator: made once with a random password, which is kept in a file only while it is in force.
//!
//! In a cluster the file is mirrored into Secret `<policy>-admin`, so that the password can be shown; when somebody changes the password, file and mirror stop being written.

use std::path::Path;
use std::sync::Arc;

use ers_auth::password::{self, Hasher, PasswordError};
use ers_model::Clock;
use ers_store::{Actor, AuditContext, NewUser, Role, Store, StoreError, TenantId, User};

use crate::private_file;

pub const ADMIN_NAME: &str = "admin";

#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    #[error("cannot keep the administrator's password in {path}")]
    Keep {
        path: String,
        #[source]
        source: std::io::Error,
    },
    #[error("cannot hash the administrator's password")]
    Hash(#[source] PasswordError),
    #[error("cannot keep the administrator")]
    Store(#[source] StoreError),
    #[error("there is no user {0:?}")]
    NoSuchUser(String),
}

/// Where changes by the server itself come from.
pub fn system_audit(tenant: TenantId, clock: &dyn Clock, cluster: &str, region: Option<&str>) -> AuditContext {
    AuditContext {
        tenant,
        at_ms: clock.now_ms(),
        actor: Actor::system(),
        request_id: String::new(),
        source_ip: String::new(),
        cluster: cluster.to_owned(),
        region: region.unwrap_or_default().to_owned(),
    }
}

/// Makes the administrator if there is none.
pub async fn ensure(
    store: &Arc<dyn Store>,
    hasher: &Hasher,
    audit: &AuditContext,
    file: &Path,
) -> Result<User, AdminError> {
    if let Some(user) = store.user_by_name(audit.tenant, ADMIN_NAME).await.map_err(AdminError::Store)? {
        return Ok(user);
    }
    let secret = password::generate();
    let password_hash = hasher.hash(&secret).await.map_err(AdminError::Hash)?;
    // The file first: a user whose password nobody knows would be worse than a file without a user, which is overwritten at the next start.
    keep(file, &secret)?;
    let new = NewUser { name: ADMIN_NAME.to_owned(), password_hash, role: Role::Admin };
    store.create_user(audit, new).await.map_err(AdminError::Store)
}

/// Gives a user a new random password, ends the user's sessions, and answers the password.
pub async fn reset(
    store: &Arc<dyn Store>,
    hasher: &Hasher,
    audit: &AuditContext,
    user_name: &str,
    file: &Path,
) -> Result<String, AdminError> {
    let found = store.user_by_name(audit.tenant, user_name).await.map_err(AdminError::Store)?;
    let user = found.ok_or_else(|| AdminError::NoSuchUser(user_name.to_owned()))?;
    let secret = password::generate();
    let hash = hasher.hash(&secret).await.map_err(AdminError::Hash)?;
    if user_name == ADMIN_NAME {
        keep(file, &secret)?;
    }
    store.set_password(audit, user.id, &hash, None).await.map_err(AdminError::Store)?;
    Ok(secret)
}

fn keep(file: &Path, secret: &str) -> Result<(), AdminError> {
    private_file::write(file, secret.as_bytes())
        .map_err(|source| AdminError::Keep { path: file.display().to_string(), source })
}
