//! Writes children by server-side apply, and only when that changes something.
//!
//! For each child three questions are asked, the cheap ones first: is it the version that was verified last, under the
//! same hash (no request at all); does a `get` show all that was built (one read, a suppressed write); otherwise it is
//! applied. An object of the same name that is not ours is never taken over.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use kube::api::{DeleteParams, DynamicObject, Patch, PatchParams, Preconditions, PropagationPolicy};
use kube::{Api, Client};
use serde_json::{Value, json};

use crate::cache::Key;
use crate::child::{APPLIED_ANNOTATION, Child, ChildKind, ChildState, MANAGED_BY, MANAGER};
use crate::error::{self, Class};
use crate::metrics::{ChildLabels, SharedMetrics};
use crate::semantic;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("failed to read {} `{key}`: {}", .kind.as_str(), error::message_of(.source))]
    Read {
        kind: ChildKind,
        key: Key,
        #[source]
        source: Box<kube::Error>,
    },
    #[error("failed to apply {} `{key}`: {}", .kind.as_str(), error::message_of(.source))]
    Apply {
        kind: ChildKind,
        key: Key,
        #[source]
        source: Box<kube::Error>,
    },
    #[error("failed to delete {} `{key}`: {}", .kind.as_str(), error::message_of(.source))]
    Delete {
        kind: ChildKind,
        key: Key,
        #[source]
        source: Box<kube::Error>,
    },
    #[error("{} `{key}` exists and was not made by this operator; rename or remove it", .kind.as_str())]
    NotOurs { kind: ChildKind, key: Key },
    #[error("{} `{key}` is still being deleted", .kind.as_str())]
    BeingDeleted { kind: ChildKind, key: Key },
    #[error("{} `{key}` belongs to an earlier object and will be deleted with it", .kind.as_str())]
    OfEarlierObject { kind: ChildKind, key: Key },
}

impl Error {
    pub fn class(&self) -> Class {
        match self {
            Error::Read { source, .. } | Error::Apply { source, .. } | Error::Delete { source, .. } => {
                error::class_of(source)
            }
            Error::NotOurs { .. } => Class::WaitForChange,
            Error::BeingDeleted { .. } | Error::OfEarlierObject { .. } => Class::Transient,
        }
    }

    /// Whether the API server refused to change a field in place.
    pub fn is_immutable_field(&self) -> bool {
        match self {
            Error::Apply { source, .. } => {
                matches!(&**source, kube::Error::Api(status) if status.code == 422
                && (status.message.contains("immutable") || status.message.contains("updates to statefulset spec")
                    || status.message.contains("cannot change roleRef")))
            }
            _ => false,
        }
    }
}

/// What applying a child did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Known to be right; nothing was asked.
    Verified,
    /// Found to be right.
    Suppressed,
    Written,
}

/// Applies the children of one kind of owner.
pub struct Applier {
    client: Client,
    /// Kind of the owner; the field manager is `ers-operator/<kind>`.
    owner_kind: &'static str,
    verified: Mutex<HashMap<(ChildKind, Key), Verified>>,
    metrics: SharedMetrics,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Verified {
    version: String,
    hash: String,
}

impl Applier {
    pub fn new(client: Client, owner_kind: &'static str, metrics: SharedMetrics) -> Self {
        Applier { client, owner_kind, verified: Mutex::default(), metrics }
    }

    pub fn field_manager(&self) -> String {
        format!("{MANAGER}/{}", self.owner_kind.to_lowercase())
    }

    pub fn client(&self) -> &Client {
        &self.client
    }

    fn api(&self, kind: ChildKind, namespace: &str) -> Api<DynamicObject> {
        Api::namespaced_with(self.client.clone(), namespace, &kind.resource())
    }

    fn labels(&self, kind: ChildKind) -> ChildLabels {
        ChildLabels { kind: self.owner_kind, object: kind.as_str() }
    }

    fn remember(&self, child: &Child, version: String, hash: String) {
        let mut verified = self.verified.lock().unwrap_or_else(PoisonError::into_inner);
        verified.insert((child.kind, child.key.clone()), Verified { version, hash });
    }

    /// Forgets what is known of children that are gone.
    pub fn forget(&self, kind: ChildKind, key: &Key) {
        self.verified.lock().unwrap_or_else(PoisonError::into_inner).remove(&(kind, key.clone()));
    }

    /// Forgets what is known of the children of an object that is gone; `name` is what their names begin with.
    pub fn forget_all(&self, namespace: &str, name: &str) {
        let mut verified = self.verified.lock().unwrap_or_else(PoisonError::into_inner);
        verified.retain(|(_, key), _| key.namespace != namespace || !key.name.starts_with(name));
    }

    /// Makes the cluster's object say what was built. `seen` is what the watch knows of it.
    ///
    /// # Errors
    /// When the object is somebody else's, is going, or the API server does not do it.
    pub async fn apply(&self, child: &Child, seen: Option<&ChildState>) -> Result<Outcome, Error> {
        let (kind, key) = (child.kind, &child.key);
        let hash = child.hash();
        if let Some(seen) = seen {
            let known = Verified { version: seen.version.clone(), hash: hash.clone() };
            let verified = self.verified.lock().unwrap_or_else(PoisonError::into_inner);
            if !seen.deleting && verified.get(&(kind, key.clone())) == Some(&known) {
                return Ok(Outcome::Verified);
            }
        }
        let api = self.api(kind, &key.namespace);
        let live = api.get_opt(&key.name).await.map_err(|source| Error::Read {
            kind,
            key: key.clone(),
            source: Box::new(source),
        })?;
        let mut drifted = None;
        if let Some(live) = live {
            if live.metadata.deletion_timestamp.is_some() {
                return Err(Error::BeingDeleted { kind, key: key.clone() });
            }
            let label = live.metadata.labels.as_ref().and_then(|labels| labels.get(MANAGED_BY));
            if label.map(String::as_str) != Some(MANAGER) && !is_owned_by_ours(child, &live) {
                return Err(Error::NotOurs { kind, key: key.clone() });
            }
            if has_another_controller(child, &live) {
                // The garbage collector takes it, since its owner is gone; one object cannot have two controllers.
                return Err(Error::OfEarlierObject { kind, key: key.clone() });
            }
            let applied = live.metadata.annotations.as_ref().and_then(|all| all.get(APPLIED_ANNOTATION)).cloned();
            let state = ChildState::of(&live.metadata, None);
            let live = serde_json::to_value(&live).unwrap_or(Value::Null);
            let difference = semantic::difference(&child.object, &live);
            if applied.as_ref() == Some(&hash) {
                let Some(path) = difference else {
                    self.remember(child, state.version, hash);
                    self.metrics.suppressed.get_or_create(&self.labels(kind)).inc();
                    return Ok(Outcome::Suppressed);
                };
                drifted = Some(path);
            }
        }
        let mut object = child.object.clone();
        object["metadata"]["annotations"][APPLIED_ANNOTATION] = json!(hash);
        // Strict: a field that the API server does not know is a bug of ours, not something to drop in silence.
        let params = PatchParams::apply(&self.field_manager()).force().validation_strict();
        let written = api.patch(&key.name, &params, &Patch::Apply(&object)).await.map_err(|source| Error::Apply {
            kind,
            key: key.clone(),
            source: Box::new(source),
        })?;
        self.remember(child, ChildState::of(&written.metadata, None).version, hash);
        self.metrics.writes.get_or_create(&self.labels(kind)).inc();
        if let Some(path) = drifted {
            self.metrics.drift.get_or_create(&self.labels(kind)).inc();
            tracing::info!(owner = self.owner_kind, child = kind.as_str(), object = %key, field = path, "drift was reverted");
        } else {
            tracing::info!(owner = self.owner_kind, child = kind.as_str(), object = %key, "child applied");
        }
        Ok(Outcome::Written)
    }

    /// Removes exactly the object with this uid; one that is gone already is fine.
    ///
    /// # Errors
    /// When the API server does not do it.
    pub async fn delete(
        &self,
        kind: ChildKind,
        key: &Key,
        uid: &str,
        propagation: PropagationPolicy,
    ) -> Result<(), Error> {
        let params = DeleteParams {
            propagation_policy: Some(propagation),
            preconditions: Some(Preconditions { uid: Some(uid.to_owned()), resource_version: None }),
            ..DeleteParams::default()
        };
        self.forget(kind, key);
        match self.api(kind, &key.namespace).delete(&key.name, &params).await {
            Ok(_) => {
                self.metrics.deletes.get_or_create(&self.labels(kind)).inc();
                tracing::info!(owner = self.owner_kind, child = kind.as_str(), object = %key, "child deleted");
                Ok(())
            }
            Err(source) if error::is_not_found(&source) => Ok(()),
            // Another object of the same name: not the one that was meant.
            Err(kube::Error::Api(status)) if status.code == 409 => Ok(()),
            Err(source) => Err(Error::Delete { kind, key: key.clone(), source: Box::new(source) }),
        }
    }
}

/// Whether the object is owned by the same object that the child was built for.
fn is_owned_by_ours(child: &Child, live: &DynamicObject) -> bool {
    let wanted = child.object["metadata"]["ownerReferences"][0]["uid"].as_str();
    let owners = live.metadata.owner_references.as_deref().unwrap_or_default();
    wanted.is_some() && owners.iter().any(|owner| Some(owner.uid.as_str()) == wanted)
}

/// Whether another object, such as one of the same name that was deleted, is the one that controls it.
fn has_another_controller(child: &Child, live: &DynamicObject) -> bool {
    let wanted = child.object["metadata"]["ownerReferences"][0]["uid"].as_str();
    let owners = live.metadata.owner_references.as_deref().unwrap_or_default();
    owners.iter().any(|owner| owner.controller == Some(true) && Some(owner.uid.as_str()) != wanted)
}
