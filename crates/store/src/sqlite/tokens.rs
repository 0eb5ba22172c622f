//! API tokens and the keys of agents without Kubernetes.

use async_trait::async_trait;
use sea_orm::{ActiveModelTrait, ActiveValue::Set, ColumnTrait, EntityTrait, QueryFilter, QueryOrder, QuerySelect};
use uuid::Uuid;

use super::work::Event;
use super::{MAX_PAGE, SqliteStore};
use crate::entity::{agent_key, api_token};
use crate::{
    AgentKey, AgentKeys, ApiToken, ApiTokens, AuditContext, NewAgentKey, NewApiToken, Scope, SecretHash, StoreError,
    TenantId,
};

fn secret(bytes: Vec<u8>, what: &'static str) -> Result<SecretHash, StoreError> {
    bytes.try_into().map(SecretHash).map_err(|_| StoreError::Corrupt { what, value: "secret".to_owned() })
}

fn token_value(row: api_token::Model) -> Result<ApiToken, StoreError> {
    Ok(ApiToken {
        id: row.id,
        name: row.name,
        secret: secret(row.secret, "token")?,
        scopes: Scope::split(&row.scopes)?,
        created_by: row.created_by,
        created_at_ms: row.created_at_ms,
        expires_at_ms: row.expires_at_ms,
        last_used_at_ms: row.last_used_at_ms,
    })
}

fn key_value(row: agent_key::Model) -> Result<AgentKey, StoreError> {
    Ok(AgentKey {
        id: row.id,
        target: row.target,
        node: row.node,
        secret: secret(row.secret, "agent key")?,
        created_at_ms: row.created_at_ms,
    })
}

#[async_trait]
impl ApiTokens for SqliteStore {
    async fn create_token(&self, audit: &AuditContext, id: Uuid, new: NewApiToken) -> Result<ApiToken, StoreError> {
        let action = "create the token";
        let unit = self.writer.begin(action).await?;
        let row = api_token::ActiveModel {
            id: Set(id),
            tenant: Set(audit.tenant.0),
            name: Set(new.name),
            secret: Set(new.secret.0.to_vec()),
            scopes: Set(Scope::join(&new.scopes)),
            created_by: Set(audit.actor.name.clone()),
            created_at_ms: Set(audit.at_ms),
            expires_at_ms: Set(new.expires_at_ms),
            last_used_at_ms: Set(None),
        };
        let row = row.insert(unit.rows()).await.map_err(StoreError::query(action))?;
        let event = Event::success("CreateToken", format!("apitoken/{id}"))
            .with(serde_json::json!({"name": row.name, "scopes": new.scopes, "expiresAtMs": row.expires_at_ms}));
        unit.commit(audit, event).await?;
        token_value(row)
    }

    async fn token(&self, tenant: TenantId, id: Uuid) -> Result<Option<ApiToken>, StoreError> {
        let row = api_token::Entity::find_by_id(id)
            .filter(api_token::Column::Tenant.eq(tenant.0))
            .one(&self.reader)
            .await
            .map_err(StoreError::query("read the token"))?;
        row.map(token_value).transpose()
    }

    async fn tokens(&self, tenant: TenantId, after: Option<Uuid>, limit: u64) -> Result<Vec<ApiToken>, StoreError> {
        let mut query = api_token::Entity::find().filter(api_token::Column::Tenant.eq(tenant.0));
        if let Some(after) = after {
            query = query.filter(api_token::Column::Id.lt(after));
        }
        let rows = query
            .order_by_desc(api_token::Column::Id)
            .limit(limit.clamp(1, MAX_PAGE))
            .all(&self.reader)
            .await
            .map_err(StoreError::query("list the tokens"))?;
        rows.into_iter().map(token_value).collect()
    }

    async fn delete_token(&self, audit: &AuditContext, id: Uuid) -> Result<bool, StoreError> {
        let action = "revoke the token";
        let unit = self.writer.begin(action).await?;
        let removed = api_token::Entity::delete_many()
            .filter(api_token::Column::Tenant.eq(audit.tenant.0))
            .filter(api_token::Column::Id.eq(id))
            .exec(unit.rows())
            .await
            .map_err(StoreError::query(action))?;
        if removed.rows_affected == 0 {
            return Ok(false);
        }
        unit.commit(audit, Event::success("RevokeToken", format!("apitoken/{id}"))).await?;
        Ok(true)
    }

    async fn touch_token(&self, tenant: TenantId, id: Uuid, at_ms: i64) -> Result<(), StoreError> {
        self.writer.touch_token(tenant, id, at_ms).await
    }
}

#[async_trait]
impl AgentKeys for SqliteStore {
    async fn enroll_agent(&self, audit: &AuditContext, id: Uuid, new: NewAgentKey) -> Result<AgentKey, StoreError> {
        let action = "enroll the agent";
        let unit = self.writer.begin(action).await?;
        agent_key::Entity::delete_many()
            .filter(agent_key::Column::Tenant.eq(audit.tenant.0))
            .filter(agent_key::Column::Target.eq(new.target.as_str()))
            .filter(agent_key::Column::Node.eq(new.node.as_str()))
            .exec(unit.rows())
            .await
            .map_err(StoreError::query(action))?;
        let row = agent_key::ActiveModel {
            id: Set(id),
            tenant: Set(audit.tenant.0),
            target: Set(new.target),
            node: Set(new.node),
            secret: Set(new.secret.0.to_vec()),
            created_at_ms: Set(audit.at_ms),
        };
        let row = row.insert(unit.rows()).await.map_err(StoreError::query(action))?;
        let event = Event::success("EnrollAgent", format!("agentkey/{id}"))
            .with(serde_json::json!({"target": row.target, "node": row.node}));
        unit.commit(audit, event).await?;
        key_value(row)
    }

    async fn agent_key(&self, tenant: TenantId, id: Uuid) -> Result<Option<AgentKey>, StoreError> {
        let row = agent_key::Entity::find_by_id(id)
            .filter(agent_key::Column::Tenant.eq(tenant.0))
            .one(&self.reader)
            .await
            .map_err(StoreError::query("read the agent's key"))?;
        row.map(key_value).transpose()
    }

    async fn revoke_agents(&self, audit: &AuditContext, target: &str) -> Result<u64, StoreError> {
        let action = "revoke the agents";
        let unit = self.writer.begin(action).await?;
        let removed = agent_key::Entity::delete_many()
            .filter(agent_key::Column::Tenant.eq(audit.tenant.0))
            .filter(agent_key::Column::Target.eq(target))
            .exec(unit.rows())
            .await
            .map_err(StoreError::query(action))?
            .rows_affected;
        if removed > 0 {
            unit.commit(audit, Event::success("RevokeAgent", format!("collectortarget/{target}"))).await?;
        }
        Ok(removed)
    }
}
