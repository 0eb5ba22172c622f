//! All writes of children.

use std::cmp::Ordering;

use ers_crds::report_policy::OnDelete;
use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::Api;
use kube::api::{Patch, PatchParams, PropagationPolicy};
use serde_json::{Map, Value, json};

use super::InForce;
use super::dereference::{Claim, Found};
use crate::applier;
use crate::cache::Key;
use crate::child::{Applied, ChildKind, Owner, Prepared, Resources};
use crate::error::{self, Class};
use crate::reconciler::{PruneError, Reconciler};
use crate::semantic::compare_quantities;
use crate::world::World;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{0}")]
    Apply(#[source] applier::Error),
    #[error("{0}")]
    Prune(#[source] PruneError),
    #[error("failed to change volume claim `{name}`: {}", error::message_of(.source))]
    Claim {
        name: String,
        #[source]
        source: Box<kube::Error>,
    },
    #[error(
        "StatefulSet `{key}` is made anew around its pods and its volume, since Kubernetes can't change it in place"
    )]
    BeingMadeAnew { key: Key },
}

impl Error {
    pub fn class(&self) -> Class {
        match self {
            Error::Apply(error) => error.class(),
            Error::Prune(error) => error.class(),
            Error::Claim { source, .. } => error::class_of(source),
            Error::BeingMadeAnew { .. } => Class::Transient,
        }
    }
}

pub async fn apply(
    world: &World,
    reconciler: &Reconciler,
    key: &Key,
    found: &Found,
    in_force: Option<&InForce>,
    owner: &OwnerReference,
    resources: Resources<Prepared>,
) -> Result<Resources<Applied>, Error> {
    if let (Some(claim), Some(in_force)) = (&found.claim, in_force) {
        change_claim(world, reconciler, key, claim, in_force, owner).await?;
    }
    for child in &resources.children {
        let seen = world.children.get(child.kind, &child.key);
        match reconciler.applier.apply(child, seen.as_deref()).await {
            Ok(_) => {}
            Err(error) if error.is_immutable_field() && child.kind == ChildKind::StatefulSet => {
                let Some(seen) = seen else { return Err(Error::Apply(error)) };
                // Orphans: the pod runs on and the volume stays; the next StatefulSet of this name takes both over.
                let deleted =
                    reconciler.applier.delete(child.kind, &child.key, &seen.uid, PropagationPolicy::Orphan).await;
                deleted.map_err(Error::Apply)?;
                return Err(Error::BeingMadeAnew { key: child.key.clone() });
            }
            Err(error) => return Err(Error::Apply(error)),
        }
    }
    reconciler.prune(world, &Owner::ReportPolicy(key.clone()), &owner.uid, &resources).await.map_err(Error::Prune)?;
    Ok(resources.applied())
}

/// Lets the volume grow, and ties it to the policy exactly while that says `onDelete: Delete`.
async fn change_claim(
    world: &World,
    reconciler: &Reconciler,
    key: &Key,
    claim: &Claim,
    in_force: &InForce,
    owner: &OwnerReference,
) -> Result<(), Error> {
    let Some(patch) = claim_patch(claim, in_force, owner) else { return Ok(()) };
    let api: Api<PersistentVolumeClaim> = Api::namespaced(world.client.clone(), &key.namespace);
    let params = PatchParams { field_manager: Some(reconciler.applier.field_manager()), ..PatchParams::default() };
    match api.patch(&claim.name, &params, &Patch::Strategic(patch)).await {
        Ok(_) => {
            tracing::info!(object = %key, claim = claim.name, "volume claim changed");
            Ok(())
        }
        Err(source) => Err(Error::Claim { name: claim.name.clone(), source: Box::new(source) }),
    }
}

/// What is to change on the claim; nothing if it is as it should be. Pure.
fn claim_patch(claim: &Claim, in_force: &InForce, owner: &OwnerReference) -> Option<Value> {
    let storage = &in_force.policy.storage;
    let size = storage.size.as_str();
    let mut patch = Map::new();
    if compare_quantities(size, &claim.requested) == Some(Ordering::Greater) {
        patch.insert("spec".to_owned(), json!({"resources": {"requests": {"storage": size}}}));
    }
    let is_owned = claim.owner_uids.contains(&owner.uid);
    let references = match storage.on_delete {
        OnDelete::Delete if !is_owned => {
            let reference = OwnerReference { controller: None, ..owner.clone() };
            Some(json!([reference]))
        }
        OnDelete::Retain if is_owned => Some(json!([{"$patch": "delete", "uid": owner.uid}])),
        OnDelete::Delete | OnDelete::Retain => None,
    };
    if let Some(references) = references {
        // The uid: a claim of the same name that came in between is another one.
        patch.insert("metadata".to_owned(), json!({"uid": claim.uid, "ownerReferences": references}));
    }
    (!patch.is_empty()).then_some(Value::Object(patch))
}

#[cfg(test)]
mod tests {
    use ers_crds::ReportPolicy;

    use super::*;

    fn owner() -> OwnerReference {
        OwnerReference {
            uid: "p-1".to_owned(),
            name: "p".to_owned(),
            controller: Some(true),
            ..OwnerReference::default()
        }
    }

    #[track_caller]
    fn check(spec: Value, owners: &[&str], expect: Option<Value>) {
        let spec: ers_crds::ReportPolicySpec = serde_json::from_value(spec).expect("spec");
        let policy = ers_crds::validate::report_policy(&ReportPolicy::new("p", spec.clone()), None).expect("valid");
        let claim = Claim {
            uid: "c-1".to_owned(),
            requested: "10Gi".to_owned(),
            owner_uids: owners.iter().map(|uid| (*uid).to_owned()).collect(),
            ..Claim::default()
        };
        assert_eq!(claim_patch(&claim, &InForce { policy, spec, generation: 1 }, &owner()), expect);
    }

    #[test]
    fn a_claim_that_is_as_it_should_be_is_left_alone() {
        check(json!({}), &[], None);
        check(json!({"storage": {"onDelete": "Delete"}}), &["p-1"], None);
    }

    #[test]
    fn a_larger_size_lets_the_volume_grow() {
        let spec = json!({"storage": {"metrics": {"type": "Embedded", "embedded": {"size": "20Gi"}}}});
        check(spec, &[], Some(json!({"spec": {"resources": {"requests": {"storage": "20Gi"}}}})));
    }

    #[test]
    fn on_delete_ties_the_volume_to_the_policy_and_looses_it_again() {
        let reference = json!({"apiVersion": "", "kind": "", "name": "p", "uid": "p-1"});
        let tied = json!({"metadata": {"uid": "c-1", "ownerReferences": [reference]}});
        check(json!({"storage": {"onDelete": "Delete"}}), &["other"], Some(tied));
        let loosed = json!({"metadata": {"uid": "c-1", "ownerReferences": [{"$patch": "delete", "uid": "p-1"}]}});
        check(json!({"storage": {"onDelete": "Retain"}}), &["p-1"], Some(loosed));
    }
}
