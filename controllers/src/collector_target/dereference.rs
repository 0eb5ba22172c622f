//! All reads that the next steps need. Nearly everything is known from the watches; only a refused edit asks for more.

use std::sync::Arc;

use ers_crds::CollectorTargetSpec;
use ers_model::names::agent_name;

use crate::cache::Key;
use crate::error::message_of;
use crate::last_good::{self, LastGood};
use crate::node::NodeState;
use crate::world::World;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("failed to read the last good specification: {}", message_of(.0))]
    LastGood(#[source] Box<kube::Error>),
}

/// What was found.
#[derive(Clone, Debug, Default)]
pub struct Found {
    /// The policy that serves the namespace.
    pub served_by: Option<String>,
    /// Whether a cluster administrator permits host access in the namespace.
    pub host_access: bool,
    pub nodes: Vec<(Key, Arc<NodeState>)>,
}

pub fn dereference(world: &World, key: &Key) -> Found {
    let namespace = world.namespaces.get(&Key::new("", key.namespace.clone()));
    Found {
        served_by: world.policy_of(&key.namespace).map(|policy| policy.name),
        host_access: namespace.is_some_and(|namespace| namespace.host_access),
        nodes: world.nodes.all(),
    }
}

/// The last specification that was in force.
pub async fn last_good(world: &World, key: &Key, uid: &str) -> Result<Option<LastGood<CollectorTargetSpec>>, Error> {
    let name = Key::new(key.namespace.clone(), last_good::name(&agent_name(&key.name)));
    last_good::read(&world.client, &name, uid).await.map_err(|error| Error::LastGood(Box::new(error)))
}
