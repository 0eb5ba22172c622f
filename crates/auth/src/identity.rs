//! Who is calling.

use ers_store::{Actor, Role, Scope, SecretHash};
use uuid::Uuid;

/// Whoever passed authentication. What each may do is in [`crate::authz`].
#[derive(Clone, Debug)]
pub enum Principal {
    /// A person in a browser.
    User {
        id: Uuid,
        name: String,
        role: Role,
        session: SecretHash,
    },
    ApiToken {
        id: Uuid,
        name: String,
        scopes: Vec<Scope>,
    },
    Agent(AgentIdentity),
    /// The operator: reads to prove that the server works.
    Operator {
        name: String,
    },
    /// A valid service account that is neither; it may do nothing.
    OtherServiceAccount {
        name: String,
    },
}

/// How an agent proved who it is. (A certificate will be the third way.)
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AgentIdentity {
    /// A projected token of the service account `<target>-agent`.
    KubernetesToken {
        namespace: String,
        target: String,
        pod: Option<String>,
        pod_uid: Option<String>,
        node: Option<String>,
    },
    /// A key given to the agent when it was enrolled.
    EnrolledKey { id: Uuid, target: String, node: String },
}

impl AgentIdentity {
    /// The CollectorTarget that the agent works for.
    pub fn target(&self) -> &str {
        match self {
            AgentIdentity::KubernetesToken { target, .. } | AgentIdentity::EnrolledKey { target, .. } => target,
        }
    }

    /// The node it runs on, as its credential says it.
    pub fn node(&self) -> Option<&str> {
        match self {
            AgentIdentity::KubernetesToken { node, .. } => node.as_deref(),
            AgentIdentity::EnrolledKey { node, .. } => Some(node),
        }
    }
}

impl Principal {
    /// As the audit log and the access log name it.
    pub fn actor(&self) -> Actor {
        match self {
            Principal::User { name, .. } => Actor::new("User", name),
            Principal::ApiToken { id, .. } => Actor::new("ApiToken", id.to_string()),
            Principal::Agent(agent) => {
                Actor::new("Agent", format!("{}@{}", agent.target(), agent.node().unwrap_or("unknown node")))
            }
            Principal::Operator { name } | Principal::OtherServiceAccount { name } => {
                Actor::new("ServiceAccount", name)
            }
        }
    }
}
