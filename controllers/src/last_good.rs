//! The last specification that was valid and applied, kept in a ConfigMap beside the children.
//!
//! A bad edit leaves the children of the generation before in force. To keep them so (drift reverted, a deleted child
//! made again) even after a restart of the operator, that generation's specification must be somewhere durable.

use k8s_openapi::api::core::v1::ConfigMap;
use kube::{Api, Client};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::cache::Key;
use crate::child::{Child, ChildKind};

const SPEC: &str = "spec.json";
const GENERATION: &str = "generation";

/// A specification and its generation.
#[derive(Clone, Debug, PartialEq)]
pub struct LastGood<S> {
    pub generation: i64,
    pub spec: S,
}

/// Name of the ConfigMap, from the name of the children.
pub fn name(children: &str) -> String {
    format!("{children}-active")
}

/// The child that holds a specification.
pub fn child<S: Serialize>(metadata: Value, generation: i64, spec: &S) -> Child {
    let spec = serde_json::to_string(spec).expect("our own types always serialize");
    Child::new(
        ChildKind::ConfigMap,
        json!({"metadata": metadata, "data": {GENERATION: generation.to_string(), SPEC: spec}}),
    )
}

/// Reads it back. One that is not ours, not there, or not readable is none.
///
/// # Errors
/// When the API server does not answer.
pub async fn read<S: DeserializeOwned>(
    client: &Client,
    key: &Key,
    owner_uid: &str,
) -> Result<Option<LastGood<S>>, kube::Error> {
    let api: Api<ConfigMap> = Api::namespaced(client.clone(), &key.namespace);
    let Some(found) = api.get_opt(&key.name).await? else { return Ok(None) };
    let owners = found.metadata.owner_references.as_deref().unwrap_or_default();
    if !owners.iter().any(|owner| owner.uid == owner_uid) {
        return Ok(None);
    }
    Ok(found.data.and_then(|data| {
        let generation = data.get(GENERATION)?.parse().ok()?;
        let spec = serde_json::from_str(data.get(SPEC)?).ok()?;
        Some(LastGood { generation, spec })
    }))
}
