//! The CustomResourceDefinitions: printed, or applied at start.

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

/// Applies every definition that differs from ours; waits for nothing.
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
    }
    Ok(())
}
