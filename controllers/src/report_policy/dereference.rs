//! All reads that the next steps need, besides what the watches know.

use ers_crds::{ReportPolicy, ReportPolicySpec};
use ers_model::names::server_name;
use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use k8s_openapi::api::storage::v1::StorageClass;
use kube::Api;

use super::build::claim_name;
use crate::cache::Key;
use crate::error::message_of;
use crate::last_good::{self, LastGood};
use crate::semantic::compare_quantities;
use crate::world::{Object, World};

const DEFAULT_SIZE: &str = "10Gi";

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("failed to read the volume claim `{name}`: {}", message_of(.source))]
    Claim {
        name: String,
        #[source]
        source: Box<kube::Error>,
    },
    #[error("failed to read storage class `{name}`: {}", message_of(.source))]
    StorageClass {
        name: String,
        #[source]
        source: Box<kube::Error>,
    },
    #[error("failed to read the last good specification: {}", message_of(.0))]
    LastGood(#[source] Box<kube::Error>),
}

/// What was read.
#[derive(Clone, Debug, Default)]
pub struct Found {
    /// The policy that serves the namespace, if it is another one.
    pub served_by: Option<String>,
    pub claim: Option<Claim>,
    /// Whether the claim's class can grow volumes; read only when the size asked for is larger.
    pub class_can_grow: Option<bool>,
    /// The last specification that was in force.
    pub last_good: Option<LastGood<ReportPolicySpec>>,
}

/// The volume claim of the server.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Claim {
    pub name: String,
    pub uid: String,
    /// What was asked for.
    pub requested: String,
    /// What there is.
    pub capacity: Option<String>,
    pub class: Option<String>,
    pub owner_uids: Vec<String>,
}

pub async fn dereference(world: &World, key: &Key, object: &Object<ReportPolicy>) -> Result<Found, Error> {
    let served_by = world.policy_of(&key.namespace).filter(|first| first != key).map(|first| first.name);
    if served_by.is_some() {
        return Ok(Found { served_by, ..Found::default() });
    }
    let claim = read_claim(world, key).await?;
    let wanted = object.readable().map(|policy| wanted_size(&policy.spec));
    let grows = match (&wanted, &claim) {
        (Some(wanted), Some(claim)) => {
            compare_quantities(wanted, &claim.requested) == Some(std::cmp::Ordering::Greater)
        }
        _ => false,
    };
    let class_can_grow = match claim.as_ref().and_then(|claim| claim.class.as_ref()) {
        Some(class) if grows => Some(class_can_grow(world, class).await?),
        _ => None,
    };
    let last = Key::new(key.namespace.clone(), last_good::name(&server_name(&key.name)));
    let uid = object.metadata().uid.clone().unwrap_or_default();
    let last_good =
        last_good::read(&world.client, &last, &uid).await.map_err(|error| Error::LastGood(Box::new(error)))?;
    Ok(Found { served_by: None, claim, class_can_grow, last_good })
}

/// The size that a specification asks for, whether it is valid or not.
fn wanted_size(spec: &ReportPolicySpec) -> String {
    let embedded = spec.storage.as_ref().and_then(|storage| storage.metrics.as_ref()?.embedded.as_ref());
    embedded.and_then(|embedded| embedded.size.as_ref()).map_or_else(|| DEFAULT_SIZE.to_owned(), ToString::to_string)
}

async fn read_claim(world: &World, key: &Key) -> Result<Option<Claim>, Error> {
    let api: Api<PersistentVolumeClaim> = Api::namespaced(world.client.clone(), &key.namespace);
    let name = claim_name(&key.name);
    let found =
        api.get_opt(&name).await.map_err(|source| Error::Claim { name: name.clone(), source: Box::new(source) })?;
    Ok(found.map(|claim| {
        let spec = claim.spec.unwrap_or_default();
        let requested = spec.resources.and_then(|resources| resources.requests?.remove("storage"));
        let capacity = claim.status.and_then(|status| status.capacity?.remove("storage"));
        let owners = claim.metadata.owner_references.unwrap_or_default();
        Claim {
            name,
            uid: claim.metadata.uid.unwrap_or_default(),
            requested: requested.map(|quantity| quantity.0).unwrap_or_default(),
            capacity: capacity.map(|quantity| quantity.0),
            class: spec.storage_class_name,
            owner_uids: owners.into_iter().map(|owner| owner.uid).collect(),
        }
    }))
}

async fn class_can_grow(world: &World, name: &str) -> Result<bool, Error> {
    let api: Api<StorageClass> = Api::all(world.client.clone());
    let class = api
        .get_opt(name)
        .await
        .map_err(|source| Error::StorageClass { name: name.to_owned(), source: Box::new(source) })?;
    Ok(class.and_then(|class| class.allow_volume_expansion).unwrap_or(false))
}
