//! What each kind of caller may do: one closed table, and the proof that it was asked.

use std::marker::PhantomData;

use ers_store::{Role, Scope};

use crate::identity::Principal;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    Read,
    Write,
    Create,
    Delete,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Resource {
    /// Samples and series.
    Metrics,
    /// Policies and targets with their conditions, and the overview made of them.
    Objects,
    /// The stream behind the page.
    Live,
    /// One's own session.
    Session,
    /// One's own password.
    Password,
    ApiTokens,
    AuditLog,
    /// The server's figures about itself.
    OwnMetrics,
    /// The description of this API.
    ApiDescription,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Permission {
    pub action: Action,
    pub resource: Resource,
}

/// A permission as a type, so that a handler's signature says what it needs.
pub trait Permit: 'static {
    const PERMISSION: Permission;
}

macro_rules! permits {
    ($($name:ident = ($action:ident, $resource:ident);)*) => {
        $(
            pub struct $name;
            impl Permit for $name {
                const PERMISSION: Permission = Permission { action: Action::$action, resource: Resource::$resource };
            }
        )*

        /// Every permission that there is.
        pub const ALL: &[Permission] = &[$($name::PERMISSION),*];
    };
}

permits! {
    ReadMetrics = (Read, Metrics);
    WriteMetrics = (Write, Metrics);
    ReadObjects = (Read, Objects);
    ReadLive = (Read, Live);
    ReadSession = (Read, Session);
    DeleteSession = (Delete, Session);
    WritePassword = (Write, Password);
    ReadApiTokens = (Read, ApiTokens);
    CreateApiTokens = (Create, ApiTokens);
    DeleteApiTokens = (Delete, ApiTokens);
    ReadAuditLog = (Read, AuditLog);
    ReadOwnMetrics = (Read, OwnMetrics);
    ReadApiDescription = (Read, ApiDescription);
}

/// The table. Whatever it does not name is denied.
fn allows(principal: &Principal, permission: Permission) -> bool {
    use Action::{Create, Delete, Read, Write};
    use Resource::{ApiDescription, ApiTokens, AuditLog, Live, Metrics, Objects, OwnMetrics, Password, Session};
    let Permission { action, resource } = permission;
    match principal {
        Principal::User { role, .. } => match (action, resource) {
            (Read, Metrics | Objects | Live | Session | ApiDescription) | (Delete, Session) | (Write, Password) => true,
            (Read | Create | Delete, ApiTokens) | (Read, AuditLog) => *role == Role::Admin,
            _ => false,
        },
        Principal::ApiToken { scopes, .. } => match (action, resource) {
            (Read, Metrics | Objects | OwnMetrics) => scopes.contains(&Scope::Read),
            (Write, Metrics) => scopes.contains(&Scope::Write),
            (Read | Create | Delete, ApiTokens) | (Read, AuditLog) => scopes.contains(&Scope::Admin),
            (Read, ApiDescription) => true,
            _ => false,
        },
        Principal::Agent(_) => matches!((action, resource), (Write, Metrics) | (Read, OwnMetrics)),
        Principal::Operator { .. } => matches!((action, resource), (Read, Metrics | OwnMetrics)),
        Principal::OtherServiceAccount { .. } => false,
    }
}

/// Whether the caller may do it, before there is anything to hand the proof to.
pub fn permitted(principal: &Principal, permission: Permission) -> Result<(), Denied> {
    if allows(principal, permission) {
        return Ok(());
    }
    let Permission { action, resource } = permission;
    Err(Denied { actor: principal.actor().name, action, resource })
}

/// The caller is known and may not do this.
#[derive(Debug, thiserror::Error)]
#[error("{actor} may not {action:?} {resource:?}")]
pub struct Denied {
    pub actor: String,
    pub action: Action,
    pub resource: Resource,
}

/// Proof that the caller may do `A`. Made by [`Authorized::check`] only.
#[derive(Clone, Debug)]
pub struct Authorized<A: Permit> {
    principal: Principal,
    permit: PhantomData<A>,
}

impl<A: Permit> Authorized<A> {
    pub fn check(principal: Principal) -> Result<Self, Denied> {
        permitted(&principal, A::PERMISSION)?;
        Ok(Authorized { principal, permit: PhantomData })
    }

    pub fn principal(&self) -> &Principal {
        &self.principal
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::AgentIdentity;
    use ers_store::SecretHash;
    use uuid::Uuid;

    fn user(role: Role) -> Principal {
        Principal::User { id: Uuid::nil(), name: "x".to_owned(), role, session: SecretHash([0; 32]) }
    }

    fn token(scope: Scope) -> Principal {
        Principal::ApiToken { id: Uuid::nil(), name: "x".to_owned(), scopes: vec![scope] }
    }

    /// The whole table, line by line: a change of rights is a change of this text.
    #[test]
    fn the_matrix_of_rights_is_this_one() {
        let agent = AgentIdentity::EnrolledKey { id: Uuid::nil(), target: "t".to_owned(), node: "n".to_owned() };
        let columns = [
            user(Role::Admin),
            user(Role::Viewer),
            token(Scope::Read),
            token(Scope::Write),
            token(Scope::Admin),
            Principal::Agent(agent),
            Principal::Operator { name: "x".to_owned() },
            Principal::OtherServiceAccount { name: "x".to_owned() },
        ];
        let mut found = String::new();
        for permission in ALL {
            let marks: String = columns.iter().map(|who| if allows(who, *permission) { 'x' } else { '.' }).collect();
            found.push_str(&format!("{marks} {:?} {:?}\n", permission.action, permission.resource));
        }
        // admin, viewer; tokens read, write, admin; agent, operator, other
        let expected = "\
xxx...x. Read Metrics
...x.x.. Write Metrics
xxx..... Read Objects
xx...... Read Live
xx...... Read Session
xx...... Delete Session
xx...... Write Password
x...x... Read ApiTokens
x...x... Create ApiTokens
x...x... Delete ApiTokens
x...x... Read AuditLog
..x..xx. Read OwnMetrics
xxxxx... Read ApiDescription
";
        assert_eq!(found, expected);
    }
}
