//! The only ways to write. The writing connection is private to this module: a change goes through a [`UnitOfWork`], whose `commit` takes the audit event;
//! the writes that need none are the methods of [`Writer`] below, and no others.

use sea_orm::sea_query::OnConflict;
use sea_orm::{
    ActiveValue::Set, ColumnTrait, DatabaseConnection, DatabaseTransaction, EntityTrait, QueryFilter, TransactionTrait,
};
use uuid::Uuid;

use crate::entity::{api_token, audit_event, probe, session};
use crate::{AuditContext, Outcome, SecretHash, StoreError, TenantId};

/// What is written about a change, beside where it came from.
pub struct Event {
    pub action: String,
    pub resource: String,
    pub outcome: Outcome,
    pub detail: serde_json::Value,
}

impl Event {
    pub fn success(action: &str, resource: String) -> Self {
        Event { action: action.to_owned(), resource, outcome: Outcome::Allowed, detail: serde_json::json!({}) }
    }

    pub fn with(mut self, detail: serde_json::Value) -> Self {
        self.detail = detail;
        self
    }
}

/// One transaction. Dropped without `commit`, it changes nothing.
pub struct UnitOfWork {
    transaction: DatabaseTransaction,
    action: &'static str,
}

impl UnitOfWork {
    pub fn rows(&self) -> &DatabaseTransaction {
        &self.transaction
    }

    pub async fn commit(self, audit: &AuditContext, event: Event) -> Result<(), StoreError> {
        let row = audit_event::ActiveModel {
            id: Set(Uuid::now_v7()),
            tenant: Set(audit.tenant.0),
            at_ms: Set(audit.at_ms),
            actor_kind: Set(audit.actor.kind.clone()),
            actor: Set(audit.actor.name.clone()),
            action: Set(event.action),
            resource: Set(event.resource),
            outcome: Set(event.outcome.as_str().to_owned()),
            request_id: Set(audit.request_id.clone()),
            source_ip: Set(audit.source_ip.clone()),
            cluster: Set(audit.cluster.clone()),
            region: Set(audit.region.clone()),
            detail: Set(event.detail),
        };
        audit_event::Entity::insert(row).exec(&self.transaction).await.map_err(StoreError::query(self.action))?;
        self.transaction.commit().await.map_err(StoreError::query(self.action))
    }
}

/// Holder of the one connection that writes.
pub struct Writer(DatabaseConnection);

impl Writer {
    pub fn new(connection: DatabaseConnection) -> Self {
        Writer(connection)
    }

    pub async fn begin(&self, action: &'static str) -> Result<UnitOfWork, StoreError> {
        let transaction = self.0.begin().await.map_err(StoreError::query(action))?;
        Ok(UnitOfWork { transaction, action })
    }

    pub async fn close(&self) -> Result<(), StoreError> {
        self.0.close_by_ref().await.map_err(StoreError::query("close the state store"))
    }

    // Bookkeeping: writes that change nobody's rights.

    pub async fn touch_session(&self, tenant: TenantId, key: SecretHash, at_ms: i64) -> Result<(), StoreError> {
        session::Entity::update_many()
            .set(session::ActiveModel { last_seen_at_ms: Set(at_ms), ..Default::default() })
            .filter(session::Column::Tenant.eq(tenant.0))
            .filter(session::Column::Key.eq(key.0.to_vec()))
            .exec(&self.0)
            .await
            .map_err(StoreError::query("note the use of a session"))?;
        Ok(())
    }

    pub async fn touch_token(&self, tenant: TenantId, id: Uuid, at_ms: i64) -> Result<(), StoreError> {
        api_token::Entity::update_many()
            .set(api_token::ActiveModel { last_used_at_ms: Set(Some(at_ms)), ..Default::default() })
            .filter(api_token::Column::Tenant.eq(tenant.0))
            .filter(api_token::Column::Id.eq(id))
            .exec(&self.0)
            .await
            .map_err(StoreError::query("note the use of a token"))?;
        Ok(())
    }

    pub async fn write_probe(&self, tenant: TenantId, at_ms: i64) -> Result<(), StoreError> {
        let row = probe::ActiveModel { tenant: Set(tenant.0), at_ms: Set(at_ms) };
        probe::Entity::insert(row)
            .on_conflict(OnConflict::column(probe::Column::Tenant).update_column(probe::Column::AtMs).to_owned())
            .exec_without_returning(&self.0)
            .await
            .map_err(StoreError::query("write a probe"))?;
        Ok(())
    }
}
