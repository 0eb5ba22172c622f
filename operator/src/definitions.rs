//! The CustomResourceDefinitions: printed, or applied at start.

use std::time::Duration;

use anyhow::{Context, Result};
use ers_crds::Kind;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Patch, PatchParams};
use kube::{Api, Client};

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
        let wanted = ers_crds::crd::definition_value(kind);
        let name = wanted["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        let live = api.get_opt(&name).await.with_context(|| format!("reading CustomResourceDefinition {name}"))?;
        let live = serde_json::to_value(&live).context("reading a definition")?;
        if ers_controllers::is_satisfied_by(wanted, &live) {
            continue;
        }
        api.patch(&name, &PatchParams::apply(FIELD_MANAGER).force(), &Patch::Apply(wanted))
            .await
            .with_context(|| format!("applying CustomResourceDefinition {name}"))?;
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

fn is_established(definition: &CustomResourceDefinition) -> bool {
    let conditions = definition.status.as_ref().and_then(|status| status.conditions.as_deref()).unwrap_or_default();
    conditions.iter().any(|condition| condition.type_ == "Established" && condition.status == "True")
}
