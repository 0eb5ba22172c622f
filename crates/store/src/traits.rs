//! What the server needs of its state. One trait per subject, so that a caller can ask for no more than it uses.

use async_trait::async_trait;
use uuid::Uuid;

use crate::{
    ActiveSpec, AgentKey, ApiToken, AuditContext, AuditPage, NewAgentKey, NewApiToken, NewSession, NewUser, SecretHash,
    Session, StoreError, Tenant, TenantId, User,
};

#[async_trait]
pub trait Tenants: Send + Sync {
    /// Adds the tenant if it is new; audited as `CreateTenant`.
    async fn ensure_tenant(&self, audit: &AuditContext, tenant: &Tenant) -> Result<(), StoreError>;
    async fn tenants(&self) -> Result<Vec<Tenant>, StoreError>;
}

#[async_trait]
pub trait Users: Send + Sync {
    /// Audited as `CreateUser`. [`StoreError::Exists`] if the name is taken.
    async fn create_user(&self, audit: &AuditContext, user: NewUser) -> Result<User, StoreError>;
    async fn user(&self, tenant: TenantId, id: Uuid) -> Result<Option<User>, StoreError>;
    async fn user_by_name(&self, tenant: TenantId, name: &str) -> Result<Option<User>, StoreError>;
    /// Sets the hash and ends all of the user's sessions but `keep`, in one transaction; audited as `ChangePassword`.
    async fn set_password(
        &self,
        audit: &AuditContext,
        user: Uuid,
        password_hash: &str,
        keep: Option<SecretHash>,
    ) -> Result<bool, StoreError>;
}

#[async_trait]
pub trait Sessions: Send + Sync {
    /// Audited as `LogIn`. Sessions of this tenant that ended before now are removed on the way.
    async fn create_session(&self, audit: &AuditContext, session: NewSession) -> Result<Session, StoreError>;
    async fn session(&self, tenant: TenantId, key: SecretHash) -> Result<Option<Session>, StoreError>;
    /// Audited as `LogOut`. False if there was none.
    async fn delete_session(&self, audit: &AuditContext, key: SecretHash) -> Result<bool, StoreError>;
    /// Bookkeeping, not audited: the session was used.
    async fn touch_session(&self, tenant: TenantId, key: SecretHash, at_ms: i64) -> Result<(), StoreError>;
}

#[async_trait]
pub trait ApiTokens: Send + Sync {
    /// Audited as `CreateToken`; `id` is given by the caller, since the secret's text contains it.
    async fn create_token(&self, audit: &AuditContext, id: Uuid, token: NewApiToken) -> Result<ApiToken, StoreError>;
    async fn token(&self, tenant: TenantId, id: Uuid) -> Result<Option<ApiToken>, StoreError>;
    /// Newest first; `after` is the last id of the page before.
    async fn tokens(&self, tenant: TenantId, after: Option<Uuid>, limit: u64) -> Result<Vec<ApiToken>, StoreError>;
    /// Audited as `RevokeToken`. False if there was none.
    async fn delete_token(&self, audit: &AuditContext, id: Uuid) -> Result<bool, StoreError>;
    /// Bookkeeping, not audited: the token was used.
    async fn touch_token(&self, tenant: TenantId, id: Uuid, at_ms: i64) -> Result<(), StoreError>;
}

#[async_trait]
pub trait AgentKeys: Send + Sync {
    /// Replaces the key of the same target and node; audited as `EnrollAgent`.
    async fn enroll_agent(&self, audit: &AuditContext, id: Uuid, key: NewAgentKey) -> Result<AgentKey, StoreError>;
    async fn agent_key(&self, tenant: TenantId, id: Uuid) -> Result<Option<AgentKey>, StoreError>;
    /// Audited as `RevokeAgent`. Number of keys removed.
    async fn revoke_agents(&self, audit: &AuditContext, target: &str) -> Result<u64, StoreError>;
}

#[async_trait]
pub trait AuditLog: Send + Sync {
    /// An event that goes with no change, e.g. a refused log-in.
    async fn record(
        &self,
        audit: &AuditContext,
        action: &str,
        resource: &str,
        outcome: crate::Outcome,
        detail: serde_json::Value,
    ) -> Result<(), StoreError>;
    /// Newest first, at most `limit` events older than `before`.
    async fn audit_events(&self, tenant: TenantId, before: Option<Uuid>, limit: u64) -> Result<AuditPage, StoreError>;
}

#[async_trait]
pub trait ActiveSpecs: Send + Sync {
    /// Puts a spec in force in place of the one with the same kind, namespace and name; audited as `ActivateSpec`. Does nothing if the very same is in force.
    async fn activate_spec(&self, audit: &AuditContext, spec: &ActiveSpec) -> Result<bool, StoreError>;
    async fn active_specs(&self, tenant: TenantId) -> Result<Vec<ActiveSpec>, StoreError>;
    /// Audited as `DeactivateSpec`. False if there was none.
    async fn deactivate_spec(
        &self,
        audit: &AuditContext,
        kind: &str,
        namespace: &str,
        name: &str,
    ) -> Result<bool, StoreError>;
}

/// All of it.
#[async_trait]
pub trait Store: Tenants + Users + Sessions + ApiTokens + AgentKeys + AuditLog + ActiveSpecs {
    /// Writes, reads back and removes one row: proof that the state can be written now. Bookkeeping, not audited.
    async fn probe(&self, tenant: TenantId, at_ms: i64) -> Result<(), StoreError>;
    /// Ends all work in an orderly way; later calls fail.
    async fn close(&self) -> Result<(), StoreError>;
}
