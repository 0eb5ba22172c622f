//! The schema's history. A migration that was released is never edited; a change is a new one at the end of the list.

use sea_orm_migration::prelude::*;

pub struct Migrator;

impl MigratorTrait for Migrator {
    fn migrations() -> Vec<Box<dyn MigrationTrait>> {
        vec![Box::new(M0001State)]
    }
}

struct M0001State;

impl MigrationName for M0001State {
    fn name(&self) -> &str {
        "m0001_state"
    }
}

fn text(name: &'static str) -> ColumnDef {
    ColumnDef::new(Alias::new(name)).text().not_null().take()
}

fn id(name: &'static str) -> ColumnDef {
    ColumnDef::new(Alias::new(name)).uuid().not_null().take()
}

fn number(name: &'static str) -> ColumnDef {
    ColumnDef::new(Alias::new(name)).big_integer().not_null().take()
}

fn bytes(name: &'static str) -> ColumnDef {
    ColumnDef::new(Alias::new(name)).blob().not_null().take()
}

fn json(name: &'static str) -> ColumnDef {
    ColumnDef::new(Alias::new(name)).json().not_null().take()
}

fn optional_number(name: &'static str) -> ColumnDef {
    ColumnDef::new(Alias::new(name)).big_integer().null().take()
}

fn table(name: &'static str, key: &[&'static str], columns: Vec<ColumnDef>) -> TableCreateStatement {
    let mut create = Table::create();
    create.table(Alias::new(name));
    for mut column in columns {
        create.col(&mut column);
    }
    let mut primary = Index::create();
    for column in key {
        primary.col(Alias::new(*column));
    }
    create.primary_key(&mut primary);
    create
}

fn index(name: &'static str, table: &'static str, unique: bool, columns: &[&'static str]) -> IndexCreateStatement {
    let mut create = Index::create();
    create.name(name).table(Alias::new(table));
    for column in columns {
        create.col(Alias::new(*column));
    }
    if unique {
        create.unique();
    }
    create
}

#[async_trait::async_trait]
impl MigrationTrait for M0001State {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let tables = [
            table(
                "tenants",
                &["id"],
                vec![id("id"), text("cluster"), text("namespace"), text("policy"), number("created_at_ms")],
            ),
            table(
                "users",
                &["id"],
                vec![
                    id("id"),
                    id("tenant"),
                    text("name"),
                    text("password_hash"),
                    text("role"),
                    number("created_at_ms"),
                    number("password_changed_at_ms"),
                ],
            ),
            table(
                "sessions",
                &["key"],
                vec![
                    bytes("key"),
                    id("tenant"),
                    id("user"),
                    number("created_at_ms"),
                    number("last_seen_at_ms"),
                    number("expires_at_ms"),
                    text("source_ip"),
                ],
            ),
            table(
                "api_tokens",
                &["id"],
                vec![
                    id("id"),
                    id("tenant"),
                    text("name"),
                    bytes("secret"),
                    text("scopes"),
                    text("created_by"),
                    number("created_at_ms"),
                    optional_number("expires_at_ms"),
                    optional_number("last_used_at_ms"),
                ],
            ),
            table(
                "agent_keys",
                &["id"],
                vec![id("id"), id("tenant"), text("target"), text("node"), bytes("secret"), number("created_at_ms")],
            ),
            table(
                "audit_events",
                &["id"],
                vec![
                    id("id"),
                    id("tenant"),
                    number("at_ms"),
                    text("actor_kind"),
                    text("actor"),
                    text("action"),
                    text("resource"),
                    text("outcome"),
                    text("request_id"),
                    text("source_ip"),
                    text("cluster"),
                    text("region"),
                    json("detail"),
                ],
            ),
            table(
                "active_specs",
                &["tenant", "kind", "namespace", "name"],
                vec![
                    id("tenant"),
                    text("kind"),
                    text("namespace"),
                    text("name"),
                    text("uid"),
                    number("generation"),
                    json("spec"),
                    text("hash"),
                    number("activated_at_ms"),
                ],
            ),
            table("probes", &["tenant"], vec![id("tenant"), number("at_ms")]),
        ];
        for create in tables {
            manager.create_table(create).await?;
        }
        let indexes = [
            index("users_by_name", "users", true, &["tenant", "name"]),
            index("sessions_by_user", "sessions", false, &["tenant", "user"]),
            index("api_tokens_by_tenant", "api_tokens", false, &["tenant", "id"]),
            index("agent_keys_by_target", "agent_keys", true, &["tenant", "target", "node"]),
            index("audit_events_by_tenant", "audit_events", false, &["tenant", "id"]),
        ];
        for create in indexes {
            manager.create_index(create).await?;
        }
        Ok(())
    }
}
