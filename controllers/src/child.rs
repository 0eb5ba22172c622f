//! The objects that we own: what kinds there are, and what is remembered of each.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::marker::PhantomData;

use ers_model::names::{POLICY_LABEL, TARGET_LABEL};
use k8s_openapi::api::apps::v1::{DaemonSet, Deployment, StatefulSet};
use k8s_openapi::api::core::v1::{ConfigMap, Service, ServiceAccount};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::api::rbac::v1::RoleBinding;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::core::ApiResource;
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::cache::Key;

/// Label of everything that we own, and what our watches of children ask for.
pub const MANAGED_BY: &str = "app.kubernetes.io/managed-by";
/// Its value.
pub const MANAGER: &str = "ers-operator";
/// Annotation with the hash of what was applied last: a field that is no longer built is noticed by it.
pub const APPLIED_ANNOTATION: &str = "reporting.ers.dev/applied-hash";

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ChildKind {
    ConfigMap,
    ServiceAccount,
    RoleBinding,
    Service,
    NetworkPolicy,
    PodDisruptionBudget,
    StatefulSet,
    DaemonSet,
    Deployment,
}

impl ChildKind {
    /// In the order in which they are applied: what a pod needs before the pod.
    pub const ALL: [ChildKind; 9] = [
        ChildKind::ConfigMap,
        ChildKind::ServiceAccount,
        ChildKind::RoleBinding,
        ChildKind::Service,
        ChildKind::NetworkPolicy,
        ChildKind::PodDisruptionBudget,
        ChildKind::StatefulSet,
        ChildKind::DaemonSet,
        ChildKind::Deployment,
    ];

    pub fn resource(self) -> ApiResource {
        match self {
            ChildKind::ConfigMap => ApiResource::erase::<ConfigMap>(&()),
            ChildKind::ServiceAccount => ApiResource::erase::<ServiceAccount>(&()),
            ChildKind::RoleBinding => ApiResource::erase::<RoleBinding>(&()),
            ChildKind::Service => ApiResource::erase::<Service>(&()),
            ChildKind::NetworkPolicy => ApiResource::erase::<NetworkPolicy>(&()),
            ChildKind::PodDisruptionBudget => ApiResource::erase::<PodDisruptionBudget>(&()),
            ChildKind::StatefulSet => ApiResource::erase::<StatefulSet>(&()),
            ChildKind::DaemonSet => ApiResource::erase::<DaemonSet>(&()),
            ChildKind::Deployment => ApiResource::erase::<Deployment>(&()),
        }
    }

    /// Whether it has pods.
    pub fn is_workload(self) -> bool {
        matches!(self, ChildKind::StatefulSet | ChildKind::DaemonSet | ChildKind::Deployment)
    }

    pub fn as_str(self) -> &'static str {
        match self {
            ChildKind::ConfigMap => "ConfigMap",
            ChildKind::ServiceAccount => "ServiceAccount",
            ChildKind::RoleBinding => "RoleBinding",
            ChildKind::Service => "Service",
            ChildKind::NetworkPolicy => "NetworkPolicy",
            ChildKind::PodDisruptionBudget => "PodDisruptionBudget",
            ChildKind::StatefulSet => "StatefulSet",
            ChildKind::DaemonSet => "DaemonSet",
            ChildKind::Deployment => "Deployment",
        }
    }
}

/// A child as it was built.
#[derive(Clone, Debug, PartialEq)]
pub struct Child {
    pub kind: ChildKind,
    pub key: Key,
    pub object: Value,
}

impl Child {
    /// `object` lacks `apiVersion` and `kind`; they come from the kind.
    pub fn new(kind: ChildKind, mut object: Value) -> Self {
        let resource = kind.resource();
        object["apiVersion"] = resource.api_version.into();
        object["kind"] = resource.kind.into();
        let text = |field: &str| object["metadata"][field].as_str().unwrap_or_default().to_owned();
        let key = Key::new(text("namespace"), text("name"));
        Child { kind, key, object }
    }

    /// See [`hash_of`].
    pub fn hash(&self) -> String {
        hash_of(&self.object)
    }
}

/// The first half of the SHA-256 of an object, in hexadecimal.
pub fn hash_of(object: &Value) -> String {
    use std::fmt::Write;
    let digest = Sha256::digest(object.to_string().as_bytes());
    digest.iter().take(16).fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Resources that were built.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Prepared;
/// Resources that the cluster has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Applied;

/// All children of one object. Only applying turns prepared ones into applied ones, and only these count in a status.
#[derive(Clone, Debug, PartialEq)]
pub struct Resources<S> {
    pub children: Vec<Child>,
    /// Hash of the configuration that their pods run.
    pub config_hash: String,
    state: PhantomData<S>,
}

impl Resources<Prepared> {
    pub fn new(children: Vec<Child>, config_hash: String) -> Self {
        Resources { children, config_hash, state: PhantomData }
    }

    /// To be called by the step that has applied every one of them.
    pub fn applied(self) -> Resources<Applied> {
        Resources { children: self.children, config_hash: self.config_hash, state: PhantomData }
    }
}

impl<S> Resources<S> {
    pub fn contains(&self, kind: ChildKind, key: &Key) -> bool {
        self.children.iter().any(|child| child.kind == kind && child.key == *key)
    }

    /// The child with the pods.
    pub fn workload(&self) -> Option<&Child> {
        self.children.iter().find(|child| child.kind.is_workload())
    }
}

/// Who a child belongs to, by its labels.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Owner {
    ReportPolicy(Key),
    CollectorTarget(Key),
}

/// What is remembered of a child in the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChildState {
    pub uid: String,
    /// Changes whenever somebody changed what we set, and not when only a status moved (where Kubernetes tells).
    pub version: String,
    pub owner: Option<Owner>,
    pub owner_uids: Vec<String>,
    pub deleting: bool,
    pub workload: Option<Workload>,
}

/// The state of a StatefulSet, DaemonSet or Deployment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Workload {
    /// Whether its controller has seen the newest specification.
    pub observed: bool,
    pub desired: i32,
    pub updated: i32,
    pub ready: i32,
    /// Hash of the configuration in the pod template.
    pub config_hash: Option<String>,
}

impl Workload {
    /// Every pod that should be there is there, new and ready.
    pub fn is_complete(&self) -> bool {
        self.observed && self.updated >= self.desired && self.ready >= self.desired
    }
}

impl ChildState {
    pub fn of(metadata: &ObjectMeta, workload: Option<Workload>) -> Self {
        let label = |name: &str| metadata.labels.as_ref().and_then(|labels| labels.get(name)).cloned();
        let namespace = metadata.namespace.clone().unwrap_or_default();
        let owner = label(TARGET_LABEL)
            .map(|name| Owner::CollectorTarget(Key::new(namespace.clone(), name)))
            .or_else(|| label(POLICY_LABEL).map(|name| Owner::ReportPolicy(Key::new(namespace, name))));
        let owners = metadata.owner_references.as_deref().unwrap_or_default();
        ChildState {
            uid: metadata.uid.clone().unwrap_or_default(),
            version: version_of(metadata),
            owner,
            owner_uids: owners.iter().map(|owner| owner.uid.clone()).collect(),
            deleting: metadata.deletion_timestamp.is_some(),
            workload,
        }
    }
}

fn version_of(metadata: &ObjectMeta) -> String {
    let Some(generation) = metadata.generation else {
        return metadata.resource_version.clone().unwrap_or_default();
    };
    let mut hasher = DefaultHasher::new();
    metadata.labels.hash(&mut hasher);
    metadata.annotations.hash(&mut hasher);
    for owner in metadata.owner_references.as_deref().unwrap_or_default() {
        owner.uid.hash(&mut hasher);
    }
    format!("{}/{generation}/{:x}", metadata.uid.as_deref().unwrap_or_default(), hasher.finish())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn metadata(generation: Option<i64>, version: &str) -> ObjectMeta {
        ObjectMeta {
            generation,
            resource_version: Some(version.to_owned()),
            uid: Some("u".to_owned()),
            namespace: Some("n".to_owned()),
            labels: Some([(TARGET_LABEL.to_owned(), "t".to_owned())].into()),
            ..ObjectMeta::default()
        }
    }

    #[test]
    fn a_moved_status_is_no_new_version_where_there_are_generations() {
        assert_eq!(version_of(&metadata(Some(1), "5")), version_of(&metadata(Some(1), "6")));
        assert_ne!(version_of(&metadata(Some(1), "5")), version_of(&metadata(Some(2), "6")));
        assert_ne!(version_of(&metadata(None, "5")), version_of(&metadata(None, "6")));
        let mut labelled = metadata(Some(1), "6");
        labelled.annotations = Some([("a".to_owned(), "b".to_owned())].into());
        assert_ne!(version_of(&metadata(Some(1), "5")), version_of(&labelled));
    }

    #[test]
    fn labels_tell_the_owner() {
        let state = ChildState::of(&metadata(None, "1"), None);
        assert_eq!(state.owner, Some(Owner::CollectorTarget(Key::new("n", "t"))));
    }
}
