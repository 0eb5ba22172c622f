//! The two grants that must be cluster-wide: one ClusterRoleBinding for each role, whose subjects are computed anew from
//! all live objects. They belong to the operator's own ClusterRole and go with it.

use std::sync::Arc;

use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding};
use kube::Api;
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};

use crate::child::{MANAGED_BY, MANAGER};
use crate::error::{self, Class};
use crate::metrics::{ChildLabels, ErrorLabels};
use crate::queue::Next;
use crate::semantic;
use crate::world::World;
use ers_model::names::{agent_name, server_name};

/// Name of these in metrics.
pub const KIND: &str = "ClusterBindings";
/// Both the role and its binding.
pub const TOKEN_REVIEWER: &str = "ers-token-reviewer";
pub const KUBELET_READER: &str = "ers-kubelet-reader";
const OWNER_ROLE: &str = "ers-operator";
const FIELD_MANAGER: &str = "ers-operator/bindings";

#[derive(Debug, thiserror::Error)]
enum Error {
    #[error("failed to read ClusterRole `{OWNER_ROLE}`: {}", error::message_of(.0))]
    ReadRole(#[source] Box<kube::Error>),
    #[error("ClusterRole `{OWNER_ROLE}` is not there; install the chart, which makes it")]
    NoRole,
    #[error("failed to read ClusterRoleBinding `{name}`: {}", error::message_of(.source))]
    Read {
        name: &'static str,
        #[source]
        source: Box<kube::Error>,
    },
    #[error("failed to apply ClusterRoleBinding `{name}`: {}", error::message_of(.source))]
    Apply {
        name: &'static str,
        #[source]
        source: Box<kube::Error>,
    },
}

impl Error {
    fn class(&self) -> Class {
        match self {
            Error::ReadRole(source) | Error::Read { source, .. } | Error::Apply { source, .. } => {
                error::class_of(source)
            }
            Error::NoRole => Class::Transient,
        }
    }
}

/// One round for both bindings.
pub async fn reconcile(world: Arc<World>) -> Next {
    match round(&world).await {
        Ok(next) => next,
        Err(error) => {
            let class = error.class();
            world.metrics.errors.get_or_create(&ErrorLabels { kind: KIND, class: class.as_str() }).inc();
            tracing::warn!(kind = KIND, class = class.as_str(), error = %error, "a round failed");
            Next::Backoff
        }
    }
}

async fn round(world: &World) -> Result<Next, Error> {
    // First, since nothing can stop it: a server that reviews no token takes no samples at all.
    let mut reviewers = Vec::new();
    for (key, _) in world.policies.all() {
        // Only the policy that serves its namespace has a server.
        if world.policy_of(&key.namespace).as_ref() == Some(&key) {
            reviewers.push(subject(&key.namespace, &server_name(&key.name)));
        }
    }
    bind(world, TOKEN_REVIEWER, reviewers, Vec::new()).await?;
    let (mut readers, mut unjudged) = (Vec::new(), Vec::new());
    for (key, _) in world.targets.all() {
        match world.grants.get(&key) {
            Some(true) => readers.push(subject(&key.namespace, &agent_name(&key.name))),
            Some(false) => {}
            // Not judged yet, right after the start, or held: nobody loses or gets a right meanwhile.
            None => unjudged.push(subject(&key.namespace, &agent_name(&key.name))),
        }
    }
    bind(world, KUBELET_READER, readers, unjudged).await?;
    Ok(Next::OnChange)
}

fn subject(namespace: &str, name: &str) -> Value {
    json!({"kind": "ServiceAccount", "namespace": namespace, "name": name})
}

/// The binding as it should be. Pure; equal subjects in any order give equal objects.
pub fn binding(role: &str, mut subjects: Vec<Value>, owner_uid: &str) -> Value {
    subjects.sort_by_key(|subject| (subject["namespace"].to_string(), subject["name"].to_string()));
    json!({
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRoleBinding",
        "metadata": {
            "name": role,
            "labels": {MANAGED_BY: MANAGER, "app.kubernetes.io/part-of": "ers"},
            "ownerReferences": [{
                "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "name": OWNER_ROLE, "uid": owner_uid,
            }],
        },
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
        "subjects": subjects,
    })
}

fn subjects_of(binding: &Value) -> Vec<(String, String, String)> {
    let text = |subject: &Value, field: &str| subject[field].as_str().unwrap_or_default().to_owned();
    let subjects = binding["subjects"].as_array().map(Vec::as_slice).unwrap_or_default();
    subjects.iter().map(|subject| (text(subject, "kind"), text(subject, "namespace"), text(subject, "name"))).collect()
}

/// Those of `unjudged` that the binding has. Pure.
fn kept(unjudged: Vec<Value>, live: Option<&Value>) -> Vec<Value> {
    let present = live.map(subjects_of).unwrap_or_default();
    let of_one = |subject: &Value| subjects_of(&json!({"subjects": [subject]})).pop();
    unjudged.into_iter().filter(|subject| of_one(subject).is_some_and(|one| present.contains(&one))).collect()
}

/// `subjects` have the right; `unjudged` keep it if they have it.
async fn bind(world: &World, name: &'static str, mut subjects: Vec<Value>, unjudged: Vec<Value>) -> Result<(), Error> {
    let api: Api<ClusterRoleBinding> = Api::all(world.client.clone());
    let live = api.get_opt(name).await.map_err(|source| Error::Read { name, source: Box::new(source) })?;
    let live = live.map(|live| serde_json::to_value(&live).unwrap_or(Value::Null));
    subjects.extend(kept(unjudged, live.as_ref()));
    if live.is_none() && subjects.is_empty() {
        return Ok(());
    }
    let roles: Api<ClusterRole> = Api::all(world.client.clone());
    let role =
        roles.get_opt(OWNER_ROLE).await.map_err(|source| Error::ReadRole(Box::new(source)))?.ok_or(Error::NoRole)?;
    let wanted = binding(name, subjects, &role.metadata.uid.unwrap_or_default());
    let label = ChildLabels { kind: KIND, object: "ClusterRoleBinding" };
    if let Some(live) = live {
        // Names alone do not tell subjects apart, so their list is compared as a whole.
        let same_subjects = subjects_of(&wanted) == subjects_of(&live);
        if same_subjects
            && semantic::difference(&json!({"metadata": wanted["metadata"], "roleRef": wanted["roleRef"]}), &live)
                .is_none()
        {
            world.metrics.suppressed.get_or_create(&label).inc();
            return Ok(());
        }
    }
    let params = PatchParams::apply(FIELD_MANAGER).force();
    api.patch(name, &params, &Patch::Apply(&wanted))
        .await
        .map_err(|source| Error::Apply { name, source: Box::new(source) })?;
    world.metrics.writes.get_or_create(&label).inc();
    tracing::info!(
        binding = name,
        subjects = wanted["subjects"].as_array().map_or(0, Vec::len),
        "cluster-wide binding applied"
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_order_of_objects_does_not_matter() {
        let (a, b) = (subject("n", "a"), subject("m", "b"));
        let one = binding(KUBELET_READER, vec![a.clone(), b.clone()], "u");
        assert_eq!(one, binding(KUBELET_READER, vec![b, a], "u"));
        assert_eq!(one["subjects"][0]["namespace"], "m");
    }

    #[test]
    fn who_is_not_judged_yet_keeps_a_right_and_gets_none() {
        let (a, b) = (subject("n", "a"), subject("n", "b"));
        let live = binding(KUBELET_READER, vec![a.clone(), subject("n", "gone")], "u");
        assert_eq!(kept(vec![b.clone(), a.clone()], Some(&live)), std::slice::from_ref(&a));
        assert_eq!(kept(vec![a, b], None), Vec::<Value>::new());
    }
}
