//! What the rounds of one kind share: writing children, statuses and events, and what is remembered between rounds.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use ers_crds::conditions::reasons;
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use kube::api::{DynamicObject, ListParams, PostParams, PropagationPolicy};
use kube::core::{ApiResource, PartialObjectMeta};
use kube::{Api, Client};
use serde_json::{Value, json};

use crate::applier::{self, Applier};
use crate::cache::Key;
use crate::child::{Child, ChildKind, Owner, Resources};
use crate::error::{self, Class};
use crate::judge::Refusal;
use crate::latch::Since;
use crate::metrics::{ErrorLabels, SharedMetrics};
use crate::queue::Next;
use crate::semantic;
use crate::status_writer::StatusWriter;
use crate::world::World;
use ers_model::names::{CONFIG_HASH_ANNOTATION, POLICY_LABEL, TARGET_LABEL};

/// How often an object that met a bug of ours is looked at again.
pub const AFTER_BUG: Duration = Duration::from_secs(300);
/// How often an object is looked at again that waits for a change which no watch may tell.
pub const UNSEEN_CHANGE: Duration = Duration::from_secs(300);

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("failed to ask namespace `{namespace}` whether it admits the pod: {}", error::message_of(.source))]
    DryRunPod {
        namespace: String,
        #[source]
        source: Box<kube::Error>,
    },
    #[error("failed to list {what} in namespace `{namespace}`: {}", error::message_of(.source))]
    List {
        what: &'static str,
        namespace: String,
        #[source]
        source: Box<kube::Error>,
    },
}

impl Error {
    pub fn class(&self) -> Class {
        match self {
            Error::DryRunPod { source, .. } | Error::List { source, .. } => error::class_of(source),
        }
    }
}

/// The verdict on a pod that was asked for last, and what it was about.
struct Asked {
    pod_security: String,
    template: String,
    refusal: Option<Refusal>,
}

/// What a dry run said about a pod.
enum Said {
    Admitted,
    Refused(Refusal),
    /// Something else stood in the way before Pod Security was asked, or may have.
    Nothing,
}

/// One for each kind.
pub struct Reconciler {
    pub kind: &'static str,
    pub applier: Applier,
    pub statuses: StatusWriter,
    pub since: Since,
    asked: Mutex<HashMap<Key, Asked>>,
}

impl Reconciler {
    pub fn new(kind: &'static str, client: Client, metrics: SharedMetrics) -> Self {
        let applier = Applier::new(client.clone(), kind, SharedMetrics::clone(&metrics));
        let statuses = StatusWriter::new(client, kind, applier.field_manager(), metrics);
        Reconciler { kind, applier, statuses, since: Since::default(), asked: Mutex::default() }
    }

    /// Forgets an object that is gone; `children` is what the names of its children begin with.
    pub fn forget(&self, key: &Key, uid: &str, children: &str) {
        self.since.keep_only(uid, None);
        self.applier.forget_all(&key.namespace, children);
        let workload = Key::new(key.namespace.clone(), children);
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).remove(&workload);
    }

    pub fn namespace_is_going(&self, world: &World, namespace: &str) -> bool {
        let key = Key::new("", namespace);
        world.namespaces.get(&key).is_some_and(|namespace| namespace.terminating)
    }

    /// An error and its causes in one line.
    pub fn chain(&self, error: &dyn std::error::Error) -> String {
        let mut text = error.to_string();
        let mut source = error.source();
        while let Some(cause) = source {
            text = format!("{text}: {cause}");
            source = cause.source();
        }
        text
    }

    /// Counts and logs a round that ended before anything could be said about the object.
    pub fn failed(&self, world: &World, key: &Key, error: &dyn std::error::Error, class: Class) -> Next {
        world.metrics.errors.get_or_create(&ErrorLabels { kind: self.kind, class: class.as_str() }).inc();
        tracing::warn!(kind = self.kind, object = %key, class = class.as_str(), error = %error, "a round failed");
        match class {
            Class::Transient => Next::Backoff,
            Class::WaitForChange => Next::OnChange,
            Class::Bug => Next::After(AFTER_BUG),
        }
    }

    /// Asks whether the namespace's Pod Security admits the pods, by a server-side dry run of one. Asked again only when
    /// the pod or the namespace's labels changed, or when the last answer was about something else, such as a quota.
    ///
    /// # Errors
    /// When the API server does not say.
    pub async fn pod_security<S>(
        &self,
        world: &World,
        namespace: &str,
        resources: &Resources<S>,
    ) -> Result<Option<Refusal>, Error> {
        let Some(workload) = resources.workload() else { return Ok(None) };
        let labels = world.namespaces.get(&Key::new("", namespace)).map(|state| state.pod_security.clone());
        let pod_security = labels.unwrap_or_default();
        let template = workload.object["spec"]["template"]["spec"].to_string();
        {
            let asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(known) = asked.get(&workload.key)
                && known.pod_security == pod_security
                && known.template == template
            {
                return Ok(known.refusal.clone());
            }
        }
        let refusal = match self.dry_run(&world.client, namespace, workload).await? {
            Said::Admitted => None,
            Said::Refused(refusal) => Some(refusal),
            // What stands in the way shows on the workload, where the reason stands.
            Said::Nothing => return Ok(None),
        };
        let known = Asked { pod_security, template, refusal: refusal.clone() };
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).insert(workload.key.clone(), known);
        Ok(refusal)
    }

    async fn dry_run(&self, client: &Client, namespace: &str, workload: &Child) -> Result<Said, Error> {
        let mut spec = workload.object["spec"]["template"]["spec"].clone();
        if let Some(fields) = spec.as_object_mut() {
            // Its account may not be there yet, which is another plugin's refusal and none of our business here.
            fields.remove("serviceAccountName");
            // A claim is added by the StatefulSet's controller; a pod alone would name a volume that it does not have.
            drop_unknown_mounts(fields);
        }
        let name = format!("{}-dry-run", workload.key.name);
        let pod: DynamicObject = serde_json::from_value(json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": namespace}, "spec": spec,
        }))
        .expect("a pod is an object");
        let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), namespace, &ApiResource::erase::<Pod>(&()));
        let params = PostParams { dry_run: true, field_manager: Some(self.applier.field_manager()) };
        match api.create(&params, &pod).await {
            Ok(_) => Ok(Said::Admitted),
            Err(kube::Error::Api(status)) if status.message.contains("violates PodSecurity") => {
                let at = status.message.find("violates PodSecurity").unwrap_or_default();
                let message = format!(
                    "namespace `{namespace}` does not admit the pod: it {}; a cluster administrator can set the label pod-security.kubernetes.io/enforce=privileged on the namespace",
                    &status.message[at..]
                );
                Ok(Said::Refused(Refusal::new(reasons::POD_SECURITY, message)))
            }
            // Quotas, missing priority classes and the like.
            Err(kube::Error::Api(status)) if status.code == 403 || status.code == 409 => Ok(Said::Nothing),
            Err(source) => Err(Error::DryRunPod { namespace: namespace.to_owned(), source: Box::new(source) }),
        }
    }

    /// What applying would change: one line for each child that differs.
    ///
    /// # Errors
    /// When a child cannot be read.
    pub async fn differences<S>(&self, resources: &Resources<S>) -> Result<Vec<String>, applier::Error> {
        let mut lines = Vec::new();
        for child in &resources.children {
            let (kind, key) = (child.kind, &child.key);
            let api: Api<DynamicObject> =
                Api::namespaced_with(self.applier.client().clone(), &key.namespace, &kind.resource());
            let live = api.get_opt(&key.name).await.map_err(|source| applier::Error::Read {
                kind,
                key: key.clone(),
                source: Box::new(source),
            })?;
            match live {
                None => lines.push(format!("create {} {}", kind.as_str(), key.name)),
                Some(live) => {
                    let live = serde_json::to_value(&live).unwrap_or(Value::Null);
                    if let Some(path) = semantic::difference(&child.object, &live) {
                        lines.push(format!("change {} {} at {path}", kind.as_str(), key.name));
                    }
                }
            }
        }
        Ok(lines)
    }

    /// Removes children that nothing asks for any more. Old configurations stay while a pod or a revision names them.
    ///
    /// # Errors
    /// When the API server does not say or do something.
    pub async fn prune<S>(
        &self,
        world: &World,
        owner: &Owner,
        owner_uid: &str,
        resources: &Resources<S>,
    ) -> Result<(), PruneError> {
        let mut configurations = Vec::new();
        for (kind, key, state) in world.children.of(owner) {
            if resources.contains(kind, &key) || state.deleting || !state.owner_uids.iter().any(|uid| uid == owner_uid)
            {
                continue;
            }
            if kind == ChildKind::ConfigMap {
                configurations.push((key, state.uid.clone()));
            } else {
                self.applier
                    .delete(kind, &key, &state.uid, PropagationPolicy::Background)
                    .await
                    .map_err(PruneError::Delete)?;
            }
        }
        if configurations.is_empty() {
            return Ok(());
        }
        let used = hashes_in_use(&world.client, owner).await.map_err(PruneError::Ask)?;
        for (key, uid) in configurations {
            if !used.iter().any(|hash| key.name.ends_with(&format!("-{hash}"))) {
                self.applier
                    .delete(ChildKind::ConfigMap, &key, &uid, PropagationPolicy::Background)
                    .await
                    .map_err(PruneError::Delete)?;
            }
        }
        Ok(())
    }

    /// Removes every workload of an object: a permission that it needs is gone.
    ///
    /// # Errors
    /// When the API server does not do it.
    pub async fn revoke(&self, world: &World, owner: &Owner, owner_uid: &str) -> Result<(), applier::Error> {
        for (kind, key, state) in world.children.of(owner) {
            let ours = state.owner_uids.iter().any(|uid| uid == owner_uid);
            if kind.is_workload() && ours && !state.deleting {
                self.applier.delete(kind, &key, &state.uid, PropagationPolicy::Background).await?;
            }
        }
        Ok(())
    }
}

#[derive(Debug, thiserror::Error)]
pub enum PruneError {
    #[error("failed to remove a child that nothing asks for: {0}")]
    Delete(#[source] applier::Error),
    #[error("failed to find out which configurations are still in use: {0}")]
    Ask(#[source] Error),
}

impl PruneError {
    pub fn class(&self) -> Class {
        match self {
            PruneError::Delete(error) => error.class(),
            PruneError::Ask(error) => error.class(),
        }
    }
}

/// The configuration hashes that pods, or revisions that could come back, are labelled with.
async fn hashes_in_use(client: &Client, owner: &Owner) -> Result<Vec<String>, Error> {
    let (label, key) = match owner {
        Owner::ReportPolicy(key) => (POLICY_LABEL, key),
        Owner::CollectorTarget(key) => (TARGET_LABEL, key),
    };
    let params = ListParams::default().labels(&format!("{label}={}", key.name));
    let mut hashes = Vec::new();
    for (what, resource) in [
        ("pods", ApiResource::erase::<Pod>(&())),
        ("controllerrevisions", ApiResource::erase::<k8s_openapi::api::apps::v1::ControllerRevision>(&())),
        ("replicasets", ApiResource::erase::<k8s_openapi::api::apps::v1::ReplicaSet>(&())),
    ] {
        let api: Api<PartialObjectMeta<DynamicObject>> =
            Api::namespaced_with(client.clone(), &key.namespace, &resource);
        let listed = api.list(&params).await.map_err(|source| Error::List {
            what,
            namespace: key.namespace.clone(),
            source: Box::new(source),
        })?;
        for object in listed {
            let labels = object.metadata.labels.unwrap_or_default();
            hashes.extend(labels.get(CONFIG_HASH_ANNOTATION).cloned());
        }
    }
    Ok(hashes)
}

fn drop_unknown_mounts(spec: &mut serde_json::Map<String, Value>) {
    let volumes: Vec<Value> = spec.get("volumes").and_then(Value::as_array).cloned().unwrap_or_default();
    let known = |mount: &Value| volumes.iter().any(|volume| volume["name"] == mount["name"]);
    for containers in ["containers", "initContainers"] {
        for container in spec.get_mut(containers).and_then(Value::as_array_mut).into_iter().flatten() {
            if let Some(mounts) = container["volumeMounts"].as_array_mut() {
                mounts.retain(known);
            }
        }
    }
}

/// A ConfigMap's text, by name; for what programs publish.
///
/// # Errors
/// When the API server does not answer.
pub async fn config_map_text(client: &Client, key: &Key, entry: &str) -> Result<Option<String>, kube::Error> {
    let api: Api<ConfigMap> = Api::namespaced(client.clone(), &key.namespace);
    Ok(api.get_opt(&key.name).await?.and_then(|map| map.data?.remove(entry)))
}
