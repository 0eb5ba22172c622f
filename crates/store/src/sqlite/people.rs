//! Users and their sessions.

use async_trait::async_trait;
use sea_orm::{ActiveModelTrait, ActiveValue::Set, ColumnTrait, EntityTrait, QueryFilter};
use uuid::Uuid;

use super::SqliteStore;
use super::work::Event;
use crate::entity::{session, user};
use crate::{
    AuditContext, NewSession, NewUser, Role, SecretHash, Session, Sessions, StoreError, TenantId, User, Users,
};

fn user_value(row: user::Model) -> Result<User, StoreError> {
    Ok(User {
        id: row.id,
        role: Role::parse(&row.role)?,
        name: row.name,
        password_hash: row.password_hash,
        created_at_ms: row.created_at_ms,
        password_changed_at_ms: row.password_changed_at_ms,
    })
}

fn session_value(row: session::Model) -> Result<Session, StoreError> {
    let key = row.key.try_into().map_err(|_| StoreError::Corrupt { what: "session", value: "key".to_owned() })?;
    Ok(Session {
        key: SecretHash(key),
        user: row.user,
        created_at_ms: row.created_at_ms,
        last_seen_at_ms: row.last_seen_at_ms,
        expires_at_ms: row.expires_at_ms,
        source_ip: row.source_ip,
    })
}

#[async_trait]
impl Users for SqliteStore {
    async fn create_user(&self, audit: &AuditContext, new: NewUser) -> Result<User, StoreError> {
        let action = "create the user";
        let unit = self.writer.begin(action).await?;
        let same_name = user::Entity::find()
            .filter(user::Column::Tenant.eq(audit.tenant.0))
            .filter(user::Column::Name.eq(new.name.as_str()))
            .one(unit.rows())
            .await
            .map_err(StoreError::query(action))?;
        if same_name.is_some() {
            return Err(StoreError::Exists { what: "user", name: new.name });
        }
        let row = user::ActiveModel {
            id: Set(Uuid::now_v7()),
            tenant: Set(audit.tenant.0),
            name: Set(new.name),
            password_hash: Set(new.password_hash),
            role: Set(new.role.as_str().to_owned()),
            created_at_ms: Set(audit.at_ms),
            password_changed_at_ms: Set(audit.at_ms),
        };
        let row = row.insert(unit.rows()).await.map_err(StoreError::query(action))?;
        let event =
            Event::success("CreateUser", format!("user/{}", row.name)).with(serde_json::json!({"role": row.role}));
        unit.commit(audit, event).await?;
        user_value(row)
    }

    async fn user(&self, tenant: TenantId, id: Uuid) -> Result<Option<User>, StoreError> {
        let row = user::Entity::find_by_id(id)
            .filter(user::Column::Tenant.eq(tenant.0))
            .one(&self.reader)
            .await
            .map_err(StoreError::query("read the user"))?;
        row.map(user_value).transpose()
    }

    async fn user_by_name(&self, tenant: TenantId, name: &str) -> Result<Option<User>, StoreError> {
        let row = user::Entity::find()
            .filter(user::Column::Tenant.eq(tenant.0))
            .filter(user::Column::Name.eq(name))
            .one(&self.reader)
            .await
            .map_err(StoreError::query("read the user"))?;
        row.map(user_value).transpose()
    }

    async fn set_password(
        &self,
        audit: &AuditContext,
        id: Uuid,
        password_hash: &str,
        keep: Option<SecretHash>,
    ) -> Result<bool, StoreError> {
        let action = "change the password";
        let unit = self.writer.begin(action).await?;
        let changed = user::Entity::update_many()
            .set(user::ActiveModel {
                password_hash: Set(password_hash.to_owned()),
                password_changed_at_ms: Set(audit.at_ms),
                ..Default::default()
            })
            .filter(user::Column::Tenant.eq(audit.tenant.0))
            .filter(user::Column::Id.eq(id))
            .exec(unit.rows())
            .await
            .map_err(StoreError::query(action))?;
        if changed.rows_affected == 0 {
            return Ok(false);
        }
        let mut others = session::Entity::delete_many()
            .filter(session::Column::Tenant.eq(audit.tenant.0))
            .filter(session::Column::User.eq(id));
        if let Some(keep) = keep {
            others = others.filter(session::Column::Key.ne(keep.0.to_vec()));
        }
        let ended = others.exec(unit.rows()).await.map_err(StoreError::query(action))?.rows_affected;
        let event =
            Event::success("ChangePassword", format!("user/{id}")).with(serde_json::json!({"sessionsEnded": ended}));
        unit.commit(audit, event).await?;
        Ok(true)
    }
}

#[async_trait]
impl Sessions for SqliteStore {
    async fn create_session(&self, audit: &AuditContext, new: NewSession) -> Result<Session, StoreError> {
        let action = "open the session";
        let unit = self.writer.begin(action).await?;
        session::Entity::delete_many()
            .filter(session::Column::Tenant.eq(audit.tenant.0))
            .filter(session::Column::ExpiresAtMs.lt(audit.at_ms))
            .exec(unit.rows())
            .await
            .map_err(StoreError::query(action))?;
        let row = session::Model {
            key: new.key.0.to_vec(),
            tenant: audit.tenant.0,
            user: new.user,
            created_at_ms: audit.at_ms,
            last_seen_at_ms: audit.at_ms,
            expires_at_ms: new.expires_at_ms,
            source_ip: audit.source_ip.clone(),
        };
        session::Entity::insert(session::ActiveModel {
            key: Set(row.key.clone()),
            tenant: Set(row.tenant),
            user: Set(row.user),
            created_at_ms: Set(row.created_at_ms),
            last_seen_at_ms: Set(row.last_seen_at_ms),
            expires_at_ms: Set(row.expires_at_ms),
            source_ip: Set(row.source_ip.clone()),
        })
        .exec_without_returning(unit.rows())
        .await
        .map_err(StoreError::query(action))?;
        unit.commit(audit, Event::success("LogIn", format!("user/{}", new.user))).await?;
        session_value(row)
    }

    async fn session(&self, tenant: TenantId, key: SecretHash) -> Result<Option<Session>, StoreError> {
        let row = session::Entity::find_by_id(key.0.to_vec())
            .filter(session::Column::Tenant.eq(tenant.0))
            .one(&self.reader)
            .await
            .map_err(StoreError::query("read the session"))?;
        row.map(session_value).transpose()
    }

    async fn delete_session(&self, audit: &AuditContext, key: SecretHash) -> Result<bool, StoreError> {
        let action = "end the session";
        let unit = self.writer.begin(action).await?;
        let removed = session::Entity::delete_many()
            .filter(session::Column::Tenant.eq(audit.tenant.0))
            .filter(session::Column::Key.eq(key.0.to_vec()))
            .exec(unit.rows())
            .await
            .map_err(StoreError::query(action))?;
        if removed.rows_affected == 0 {
            return Ok(false);
        }
        unit.commit(audit, Event::success("LogOut", format!("user/{}", audit.actor.name))).await?;
        Ok(true)
    }

    async fn touch_session(&self, tenant: TenantId, key: SecretHash, at_ms: i64) -> Result<(), StoreError> {
        self.writer.touch_session(tenant, key, at_ms).await
    }
}
