//! All writes of children.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::api::PropagationPolicy;

use crate::applier;
use crate::child::{Applied, Owner, Prepared, Resources};
use crate::error::Class;
use crate::reconciler::{PruneError, Reconciler};
use crate::world::World;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{0}")]
    Apply(#[source] applier::Error),
    #[error("{0}")]
    Prune(#[source] PruneError),
}

impl Error {
    pub fn class(&self) -> Class {
        match self {
            // An immutable field: the object was removed and is made anew in the next round.
            Error::Apply(error) if error.is_immutable_field() => Class::Transient,
            Error::Apply(error) => error.class(),
            Error::Prune(error) => error.class(),
        }
    }
}

pub async fn apply(
    world: &World,
    reconciler: &Reconciler,
    children_of: &Owner,
    owner: &OwnerReference,
    resources: Resources<Prepared>,
) -> Result<Resources<Applied>, Error> {
    for child in &resources.children {
        let seen = world.children.get(child.kind, &child.key);
        if let Err(error) = reconciler.applier.apply(child, seen.as_deref()).await {
            if let (true, Some(seen)) = (error.is_immutable_field(), &seen) {
                // Agents have their spool on the node, and nothing else that could be lost.
                let removed =
                    reconciler.applier.delete(child.kind, &child.key, &seen.uid, PropagationPolicy::Background).await;
                removed.map_err(Error::Apply)?;
            }
            return Err(Error::Apply(error));
        }
    }
    reconciler.prune(world, children_of, &owner.uid, &resources).await.map_err(Error::Prune)?;
    Ok(resources.applied())
}
