//! The specs in force.

use async_trait::async_trait;
use sea_orm::sea_query::OnConflict;
use sea_orm::{ActiveValue::Set, ColumnTrait, EntityTrait, QueryFilter, QueryOrder};

use super::SqliteStore;
use super::work::Event;
use crate::entity::active_spec;
use crate::{ActiveSpec, ActiveSpecs, AuditContext, StoreError, TenantId};

type Key = (uuid::Uuid, String, String, String);

fn key(tenant: TenantId, kind: &str, namespace: &str, name: &str) -> Key {
    (tenant.0, kind.to_owned(), namespace.to_owned(), name.to_owned())
}

fn spec_value(row: active_spec::Model) -> ActiveSpec {
    ActiveSpec {
        uid: row.uid,
        kind: row.kind,
        namespace: row.namespace,
        name: row.name,
        generation: row.generation,
        spec: row.spec,
        hash: row.hash,
    }
}

#[async_trait]
impl ActiveSpecs for SqliteStore {
    async fn activate_spec(&self, audit: &AuditContext, spec: &ActiveSpec) -> Result<bool, StoreError> {
        let action = "put a spec in force";
        let unit = self.writer.begin(action).await?;
        let id = key(audit.tenant, &spec.kind, &spec.namespace, &spec.name);
        let before = active_spec::Entity::find_by_id(id).one(unit.rows()).await.map_err(StoreError::query(action))?;
        if before.is_some_and(|row| spec_value(row) == *spec) {
            return Ok(false);
        }
        let row = active_spec::ActiveModel {
            tenant: Set(audit.tenant.0),
            kind: Set(spec.kind.clone()),
            namespace: Set(spec.namespace.clone()),
            name: Set(spec.name.clone()),
            uid: Set(spec.uid.clone()),
            generation: Set(spec.generation),
            spec: Set(spec.spec.clone()),
            hash: Set(spec.hash.clone()),
            activated_at_ms: Set(audit.at_ms),
        };
        let id_columns = [
            active_spec::Column::Tenant,
            active_spec::Column::Kind,
            active_spec::Column::Namespace,
            active_spec::Column::Name,
        ];
        let value_columns = [
            active_spec::Column::Uid,
            active_spec::Column::Generation,
            active_spec::Column::Spec,
            active_spec::Column::Hash,
            active_spec::Column::ActivatedAtMs,
        ];
        active_spec::Entity::insert(row)
            .on_conflict(OnConflict::columns(id_columns).update_columns(value_columns).to_owned())
            .exec_without_returning(unit.rows())
            .await
            .map_err(StoreError::query(action))?;
        let resource = format!("{}/{}/{}", spec.kind.to_lowercase(), spec.namespace, spec.name);
        let detail = serde_json::json!({"generation": spec.generation, "hash": spec.hash});
        unit.commit(audit, Event::success("ActivateSpec", resource).with(detail)).await?;
        Ok(true)
    }

    async fn active_specs(&self, tenant: TenantId) -> Result<Vec<ActiveSpec>, StoreError> {
        let rows = active_spec::Entity::find()
            .filter(active_spec::Column::Tenant.eq(tenant.0))
            .order_by_asc(active_spec::Column::Kind)
            .order_by_asc(active_spec::Column::Namespace)
            .order_by_asc(active_spec::Column::Name)
            .all(&self.reader)
            .await
            .map_err(StoreError::query("read the specs in force"))?;
        Ok(rows.into_iter().map(spec_value).collect())
    }

    async fn deactivate_spec(
        &self,
        audit: &AuditContext,
        kind: &str,
        namespace: &str,
        name: &str,
    ) -> Result<bool, StoreError> {
        let action = "take a spec out of force";
        let unit = self.writer.begin(action).await?;
        let removed = active_spec::Entity::delete_by_id(key(audit.tenant, kind, namespace, name))
            .exec(unit.rows())
            .await
            .map_err(StoreError::query(action))?
            .rows_affected;
        if removed == 0 {
            return Ok(false);
        }
        let resource = format!("{}/{namespace}/{name}", kind.to_lowercase());
        unit.commit(audit, Event::success("DeactivateSpec", resource)).await?;
        Ok(true)
    }
}
