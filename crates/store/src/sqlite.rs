//! The state in one SQLite file: write-ahead log, `synchronous = FULL` (a commit survives power loss), one writer, four readers.

mod objects;
mod people;
mod tokens;
pub(crate) mod work;

use std::path::Path;
use std::time::Duration;

use async_trait::async_trait;
use sea_orm::{
    ActiveValue::Set, ColumnTrait, ConnectOptions, Database, DatabaseConnection, EntityTrait, QueryFilter, QueryOrder,
    QuerySelect,
};
use sea_orm_migration::MigratorTrait;
use uuid::Uuid;

use crate::entity::{audit_event, probe, tenant};
use crate::migration::Migrator;
use crate::sqlite::work::{Event, Writer};
use crate::{
    Actor, AuditContext, AuditEvent, AuditLog, AuditPage, Outcome, Store, StoreError, Tenant, TenantId, Tenants,
};

const READERS: u32 = 4;
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// Most rows that one page can hold, whatever is asked for.
const MAX_PAGE: u64 = 1_000;

/// The state of one server. Cheap to share by `Arc`.
pub struct SqliteStore {
    writer: Writer,
    reader: DatabaseConnection,
}

impl SqliteStore {
    /// Opens the file, creating it if it is not there, and brings it to this version's schema.
    pub async fn open(path: &Path) -> Result<Self, StoreError> {
        let shown = path.display().to_string();
        let open = |source| StoreError::Open { path: shown.clone(), source };
        let writer = Database::connect(options(path, 1, false)).await.map_err(open)?;
        Migrator::up(&writer, None).await.map_err(|source| StoreError::Migrate { path: shown.clone(), source })?;
        let reader = Database::connect(options(path, READERS, true)).await.map_err(open)?;
        Ok(SqliteStore { writer: Writer::new(writer), reader })
    }
}

fn options(path: &Path, connections: u32, read_only: bool) -> ConnectOptions {
    let file = path.to_path_buf();
    let mut options = ConnectOptions::new("sqlite://state");
    options.max_connections(connections).min_connections(1).sqlx_logging(false).acquire_timeout(BUSY_TIMEOUT);
    options.map_sqlx_sqlite_opts(move |sqlite| {
        let sqlite = sqlite
            .filename(&file)
            .create_if_missing(!read_only)
            .busy_timeout(BUSY_TIMEOUT)
            .foreign_keys(true)
            .pragma("journal_mode", "WAL")
            .pragma("synchronous", "FULL");
        if read_only { sqlite.pragma("query_only", "ON") } else { sqlite }
    });
    options
}

#[async_trait]
impl Tenants for SqliteStore {
    async fn ensure_tenant(&self, audit: &AuditContext, new: &Tenant) -> Result<(), StoreError> {
        let action = "add the tenant";
        let unit = self.writer.begin(action).await?;
        if tenant::Entity::find_by_id(new.id.0).one(unit.rows()).await.map_err(StoreError::query(action))?.is_some() {
            return Ok(());
        }
        let row = tenant::ActiveModel {
            id: Set(new.id.0),
            cluster: Set(new.cluster.clone()),
            namespace: Set(new.namespace.clone()),
            policy: Set(new.policy.clone()),
            created_at_ms: Set(audit.at_ms),
        };
        tenant::Entity::insert(row).exec(unit.rows()).await.map_err(StoreError::query(action))?;
        unit.commit(audit, Event::success("CreateTenant", format!("tenant/{}", new.id))).await
    }

    async fn tenants(&self) -> Result<Vec<Tenant>, StoreError> {
        let rows = tenant::Entity::find().all(&self.reader).await.map_err(StoreError::query("list the tenants"))?;
        let value = |row: tenant::Model| Tenant {
            id: TenantId(row.id),
            cluster: row.cluster,
            namespace: row.namespace,
            policy: row.policy,
        };
        Ok(rows.into_iter().map(value).collect())
    }
}

#[async_trait]
impl AuditLog for SqliteStore {
    async fn record(
        &self,
        audit: &AuditContext,
        action: &str,
        resource: &str,
        outcome: Outcome,
        detail: serde_json::Value,
    ) -> Result<(), StoreError> {
        let unit = self.writer.begin("write an audit event").await?;
        unit.commit(audit, Event { action: action.to_owned(), resource: resource.to_owned(), outcome, detail }).await
    }

    async fn audit_events(&self, tenant: TenantId, before: Option<Uuid>, limit: u64) -> Result<AuditPage, StoreError> {
        let limit = limit.clamp(1, MAX_PAGE);
        let mut query = audit_event::Entity::find().filter(audit_event::Column::Tenant.eq(tenant.0));
        if let Some(before) = before {
            query = query.filter(audit_event::Column::Id.lt(before));
        }
        let rows = query
            .order_by_desc(audit_event::Column::Id)
            .limit(limit)
            .all(&self.reader)
            .await
            .map_err(StoreError::query("read the audit events"))?;
        let full = u64::try_from(rows.len()).unwrap_or(u64::MAX) == limit;
        let next = if full { rows.last().map(|row| row.id) } else { None };
        let value = |row: audit_event::Model| AuditEvent {
            id: row.id,
            at_ms: row.at_ms,
            actor: Actor { kind: row.actor_kind, name: row.actor },
            action: row.action,
            resource: row.resource,
            outcome: row.outcome,
            request_id: row.request_id,
            source_ip: row.source_ip,
            cluster: row.cluster,
            region: row.region,
            detail: row.detail,
        };
        Ok(AuditPage { events: rows.into_iter().map(value).collect(), next })
    }
}

#[async_trait]
impl Store for SqliteStore {
    async fn probe(&self, tenant: TenantId, at_ms: i64) -> Result<(), StoreError> {
        let action = "write and read back a row";
        self.writer.write_probe(tenant, at_ms).await?;
        let found = probe::Entity::find_by_id(tenant.0).one(&self.reader).await.map_err(StoreError::query(action))?;
        match found {
            Some(row) if row.at_ms == at_ms => Ok(()),
            other => Err(StoreError::Corrupt {
                what: "probe",
                value: format!("{:?}, written {at_ms}", other.map(|row| row.at_ms)),
            }),
        }
    }

    async fn close(&self) -> Result<(), StoreError> {
        self.reader.close_by_ref().await.map_err(StoreError::query("close the state store"))?;
        self.writer.close().await
    }
}
