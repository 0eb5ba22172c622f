//! Commands that work on a data folder without its server: it may run or not, since the state store takes several processes.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, bail};
use ers_auth::password::Hasher;
use ers_model::Clock;
use ers_store::{Actor, AuditContext, NewUser, Role, Scope, SqliteStore, Store, TenantId};

use crate::admin;
use crate::boot;
use crate::ers::tokens::new_token;

/// The state of a folder, opened by whoever holds the machine.
pub struct Offline {
    store: Arc<dyn Store>,
    audit: AuditContext,
    password_file: std::path::PathBuf,
}

impl Offline {
    /// Fails if the folder was never used by a server.
    pub async fn open(data_dir: &Path, clock: &dyn Clock) -> anyhow::Result<Self> {
        let Some(mark) = boot::read_mark(data_dir)? else {
            bail!("{} holds no server's data: start ers-server with it first", data_dir.display());
        };
        let store: Arc<dyn Store> = Arc::new(SqliteStore::open(&boot::state_file(data_dir)).await?);
        let mut audit = admin::system_audit(TenantId(mark.tenant), clock, &mark.cluster, None);
        audit.actor = Actor::new("System", "command line");
        Ok(Offline { store, audit, password_file: boot::admin_password_file(data_dir) })
    }

    /// Makes an API token and answers its secret.
    pub async fn create_token(
        &self,
        name: &str,
        scopes: &[Scope],
        expires_in_days: Option<u32>,
    ) -> anyhow::Result<String> {
        let made = new_token(name, scopes, expires_in_days, self.audit.at_ms);
        let (presented, new) = made.map_err(|error| anyhow::anyhow!(error.message))?;
        self.store.create_token(&self.audit, presented.id, new).await?;
        Ok(presented.reveal())
    }

    /// Gives a user a new random password, ends the user's sessions, and answers the password.
    pub async fn reset_password(&self, user: &str) -> anyhow::Result<String> {
        let hasher = Hasher::new().await.context("passwords cannot be hashed on this machine")?;
        Ok(admin::reset(&self.store, &hasher, &self.audit, user, &self.password_file).await?)
    }

    /// Makes a user with a random password and answers it.
    pub async fn create_user(&self, name: &str, role: Role) -> anyhow::Result<String> {
        let good = (1..=64).contains(&name.len())
            && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._@-".contains(&byte));
        if !good {
            bail!("a user name has 1 to 64 characters out of a-z, A-Z, 0-9, '.', '_', '@', '-'");
        }
        let hasher = Hasher::new().await.context("passwords cannot be hashed on this machine")?;
        let secret = ers_auth::password::generate();
        let password_hash = hasher.hash(&secret).await.context("the password could not be hashed")?;
        self.store.create_user(&self.audit, NewUser { name: name.to_owned(), password_hash, role }).await?;
        Ok(secret)
    }
}
