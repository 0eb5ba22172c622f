//! The CustomResourceDefinitions: printed, or applied at start.

use std::time::Duration;

use anyhow::{Context, Result};
use ers_crds::Kind;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Patch, PatchParams};
use kube::{Api, Client};
use serde_json::{Value, json};

const FIELD_MANAGER: &str = "ers-operator/definitions";

pub fn print() -> Result<()> {
    print!("{}", ers_crds::yaml());
    Ok(())
}

/// How often, and at most how many times, a definition is asked whether the API server serves it by now.
const LOOK: Duration = Duration::from_millis(200);
const LOOKS: u32 = 50;

/// Applies every definition that differs from ours, and waits for a moment until it is served.
///
/// # Errors
/// When the API server does not take one.
pub async fn apply(client: Client) -> Result<()> {
    let api: Api<CustomResourceDefinition> = Api::all(client);
    for kind in Kind::ALL {
        let wanted = marked(ers_crds::crd::definition_value(kind).clone());
        let name = wanted["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        let live = api.get_opt(&name).await.with_context(|| format!("reading CustomResourceDefinition {name}"))?;
        let live = serde_json::to_value(&live).context("reading a definition")?;
        if is_current(&wanted, &live) {
            continue;
        }
        let (params, patch) = write(wanted, &live);
        api.patch(&name, &params, &patch).await.with_context(|| format!("applying CustomResourceDefinition {name}"))?;
        tracing::info!(definition = name, "definition applied");
        // A watch that begins earlier would be told that there is no such kind.
        for _ in 0..LOOKS {
            let now = api.get_opt(&name).await.with_context(|| format!("reading CustomResourceDefinition {name}"))?;
            if now.is_some_and(|definition| is_established(&definition)) {
                break;
            }
            tokio::time::sleep(LOOK).await;
        }
    }
    Ok(())
}

/// With the hash of itself, by which a definition is noticed that only lost something.
fn marked(mut definition: Value) -> Value {
    let hash = ers_controllers::hash_of(&definition);
    definition["metadata"]["annotations"][ers_controllers::APPLIED_ANNOTATION] = json!(hash);
    definition
}

/// Whether the definition in the cluster is this one.
fn is_current(wanted: &Value, live: &Value) -> bool {
    ers_controllers::is_satisfied_by(wanted, live)
}

/// How it gets there. One that is there already gets its specification by merge patch, which takes lists as a whole:
/// with an apply, what an earlier version had and whoever installed that (Helm, kubectl) owns as well would stay.
fn write(wanted: Value, live: &Value) -> (PatchParams, Patch<Value>) {
    if live.is_null() {
        return (PatchParams::apply(FIELD_MANAGER).force(), Patch::Apply(wanted));
    }
    let params = PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
    (params, Patch::Merge(wanted))
}

fn is_established(definition: &CustomResourceDefinition) -> bool {
    let conditions = definition.status.as_ref().and_then(|status| status.conditions.as_deref()).unwrap_or_default();
    conditions.iter().any(|condition| condition.type_ == "Established" && condition.status == "True")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn definition(properties: Value) -> Value {
        json!({
            "metadata": {"name": "x"},
            "spec": {"versions": [{"name": "v1alpha1", "schema": {"openAPIV3Schema": {"properties": properties}}}]},
        })
    }

    #[test]
    fn a_definition_that_only_lost_something_is_applied_too() {
        let old = marked(definition(json!({"a": {"type": "string"}, "b": {"type": "string"}})));
        let new = marked(definition(json!({"a": {"type": "string"}})));
        let mut live = old.clone();
        live["spec"]["conversion"] = json!({"strategy": "None"});
        assert!(is_current(&old, &live));
        assert!(!is_current(&new, &live));
        assert!(!is_current(&new, &Value::Null));
        let unmarked = definition(json!({"a": {"type": "string"}}));
        assert!(!is_current(&new, &unmarked), "whoever made it");
    }

    #[test]
    fn what_is_there_is_merged_so_that_its_versions_are_replaced_as_a_whole() {
        let wanted = marked(definition(json!({"a": {"type": "string"}})));
        let (params, patch) = write(wanted.clone(), &definition(json!({"b": {"type": "string"}})));
        assert!(matches!(patch, Patch::Merge(merged) if merged == wanted) && !params.force);
        let (params, patch) = write(wanted, &Value::Null);
        assert!(matches!(patch, Patch::Apply(_)) && params.force);
    }
}
