//! The rows as the rest of the server sees them.

use std::fmt;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::StoreError;

/// Identity of a tenant. A tenant is a ReportPolicy, known by cluster, namespace and name, so that a policy which is deleted and made anew finds its data again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TenantId(pub Uuid);

impl fmt::Display for TenantId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tenant {
    pub id: TenantId,
    pub cluster: String,
    pub namespace: String,
    pub policy: String,
}

/// SHA-256 of a secret with 256 bits of randomness: such a secret needs no slow hash.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct SecretHash(pub [u8; 32]);

impl fmt::Debug for SecretHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretHash(..)")
    }
}

/// What a person may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Role {
    Admin,
    Viewer,
}

impl Role {
    pub fn as_str(self) -> &'static str {
        match self {
            Role::Admin => "Admin",
            Role::Viewer => "Viewer",
        }
    }

    pub(crate) fn parse(value: &str) -> Result<Self, StoreError> {
        match value {
            "Admin" => Ok(Role::Admin),
            "Viewer" => Ok(Role::Viewer),
            _ => Err(StoreError::Corrupt { what: "role", value: value.to_owned() }),
        }
    }
}

/// What an API token may do; a token can carry several.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// Queries, objects, own metrics.
    Read,
    /// Remote write.
    Write,
    /// Tokens and the audit log; does not imply the others.
    Admin,
}

impl Scope {
    pub fn as_str(self) -> &'static str {
        match self {
            Scope::Read => "read",
            Scope::Write => "write",
            Scope::Admin => "admin",
        }
    }

    pub(crate) fn join(scopes: &[Scope]) -> String {
        scopes.iter().map(|scope| scope.as_str()).collect::<Vec<_>>().join(",")
    }

    pub(crate) fn split(value: &str) -> Result<Vec<Scope>, StoreError> {
        let one = |part: &str| match part {
            "read" => Ok(Scope::Read),
            "write" => Ok(Scope::Write),
            "admin" => Ok(Scope::Admin),
            _ => Err(StoreError::Corrupt { what: "scope", value: part.to_owned() }),
        };
        value.split(',').filter(|part| !part.is_empty()).map(one).collect()
    }
}

/// Has no `Debug`: it holds the password's hash.
#[derive(Clone, PartialEq, Eq)]
pub struct User {
    pub id: Uuid,
    pub name: String,
    /// PHC string (`$argon2id$...`).
    pub password_hash: String,
    pub role: Role,
    pub created_at_ms: i64,
    pub password_changed_at_ms: i64,
}

#[derive(Clone)]
pub struct NewUser {
    pub name: String,
    pub password_hash: String,
    pub role: Role,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    pub key: SecretHash,
    pub user: Uuid,
    pub created_at_ms: i64,
    pub last_seen_at_ms: i64,
    /// The absolute end; the idle end follows from `last_seen_at_ms`.
    pub expires_at_ms: i64,
    pub source_ip: String,
}

#[derive(Clone, Debug)]
pub struct NewSession {
    pub key: SecretHash,
    pub user: Uuid,
    pub expires_at_ms: i64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiToken {
    pub id: Uuid,
    pub name: String,
    pub secret: SecretHash,
    pub scopes: Vec<Scope>,
    /// Name of who made it.
    pub created_by: String,
    pub created_at_ms: i64,
    pub expires_at_ms: Option<i64>,
    pub last_used_at_ms: Option<i64>,
}

#[derive(Clone, Debug)]
pub struct NewApiToken {
    pub name: String,
    pub secret: SecretHash,
    pub scopes: Vec<Scope>,
    pub expires_at_ms: Option<i64>,
}

/// The key of an agent without Kubernetes, bound to its target and node when it was enrolled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AgentKey {
    pub id: Uuid,
    pub target: String,
    pub node: String,
    pub secret: SecretHash,
    pub created_at_ms: i64,
}

#[derive(Clone, Debug)]
pub struct NewAgentKey {
    pub target: String,
    pub node: String,
    pub secret: SecretHash,
}

/// Who did it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Actor {
    /// `User`, `ApiToken`, `ServiceAccount`, `Agent`, `System` or `Anonymous`.
    pub kind: String,
    pub name: String,
}

impl Actor {
    pub fn new(kind: &str, name: impl Into<String>) -> Self {
        Actor { kind: kind.to_owned(), name: name.into() }
    }

    /// The server itself.
    pub fn system() -> Self {
        Actor::new("System", "ers-server")
    }
}

/// Where a change comes from; handed to every method that changes something.
#[derive(Clone, Debug)]
pub struct AuditContext {
    pub tenant: TenantId,
    pub at_ms: i64,
    pub actor: Actor,
    /// Empty for changes that no request asked for.
    pub request_id: String,
    /// Empty for changes that no request asked for.
    pub source_ip: String,
    pub cluster: String,
    pub region: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// It was permitted and done.
    Allowed,
    /// It was refused: wrong credentials, or not permitted.
    Denied,
    /// It was permitted and did not work.
    Failed,
}

impl Outcome {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Outcome::Allowed => "Allowed",
            Outcome::Denied => "Denied",
            Outcome::Failed => "Failed",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AuditEvent {
    pub id: Uuid,
    pub at_ms: i64,
    pub actor: Actor,
    /// A verb, e.g. `CreateToken`.
    pub action: String,
    /// What it was done to, e.g. `apitoken/0192...`.
    pub resource: String,
    pub outcome: String,
    pub request_id: String,
    pub source_ip: String,
    pub cluster: String,
    pub region: String,
    pub detail: serde_json::Value,
}

/// Newest first.
#[derive(Clone, Debug)]
pub struct AuditPage {
    pub events: Vec<AuditEvent>,
    /// Hand it in to get the next, older page.
    pub next: Option<Uuid>,
}

/// The last known good spec of an object: the one in force.
#[derive(Clone, Debug, PartialEq)]
pub struct ActiveSpec {
    pub uid: String,
    pub kind: String,
    pub namespace: String,
    pub name: String,
    pub generation: i64,
    pub spec: serde_json::Value,
    /// SHA-256 of the spec's canonical JSON, in hex.
    pub hash: String,
}
