//! Relational state of one server: tenants, users, sessions, tokens, audit events and the specs in force.
//!
//! Samples never come here: they live in `ers-tsdb`.
//!
//! - The [`Store`] trait is what the rest of the server sees; [`SqliteStore`] implements it on one file. Another back end runs the same contract suite (`tests/contract.rs`).
//! - **Every change writes its audit event in the same transaction.** The only way to commit is [`sqlite::work`]'s unit of work, and its `commit` takes the event; a unit that is dropped rolls back.
//!   The one exception is bookkeeping that changes nobody's rights and no answer (when a session or token was last used): its writes are listed in one place.
//! - Every table has a tenant column and every query names the tenant. Ids are UUIDv7; lists page by cursor, newest first.
//! - Secrets arrive here as hashes only.

mod entity;
mod error;
mod migration;
pub mod sqlite;
mod traits;
mod values;

pub use error::StoreError;
pub use sqlite::SqliteStore;
pub use traits::{ActiveSpecs, AgentKeys, ApiTokens, AuditLog, Sessions, Store, Tenants, Users};
pub use values::{
    ActiveSpec, Actor, AgentKey, ApiToken, AuditContext, AuditEvent, AuditPage, NewAgentKey, NewApiToken, NewSession,
    NewUser, Outcome, Role, Scope, SecretHash, Session, Tenant, TenantId, User,
};
