//! Keeps the certificate in a Secret (leader), trusted by the webhook's configuration (leader), and in use (everyone).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::{StreamExt, TryStreamExt, stream::BoxStream};
use k8s_openapi::ByteString;
use k8s_openapi::api::admissionregistration::v1::ValidatingWebhookConfiguration;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::api::{ObjectMeta, Patch, PatchParams, PostParams};
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, watch_object};
use kube::{Api, Client};
use serde_json::json;

use crate::certificate::{self, Bundle, Due};
use crate::identity::Identity;

/// Keys of the Secret.
const AUTHORITIES: &str = "ca.crt";
const AUTHORITY_KEY: &str = "ca.key";
const LEAF: &str = "tls.crt";
const LEAF_KEY: &str = "tls.key";

const MANAGED_BY: &str = "app.kubernetes.io/managed-by";
const FIELD_MANAGER: &str = "ers-operator/webhook";
/// How soon a failed attempt is repeated.
const RETRY: Duration = Duration::from_secs(5);
/// Longest sleep between two looks at the clock: a machine that was suspended notices within this.
const LONGEST_SLEEP: Duration = Duration::from_secs(3_600);

/// Seconds since the Unix epoch, as a parameter.
pub type Now = Arc<dyn Fn() -> i64 + Send + Sync>;

#[derive(Debug, thiserror::Error)]
enum Error {
    #[error("failed to make the webhook's certificate")]
    Certificate(#[source] certificate::Error),
    #[error("failed to read Secret `{name}`")]
    ReadSecret {
        name: String,
        #[source]
        source: Box<kube::Error>,
    },
    #[error("failed to write Secret `{name}`")]
    WriteSecret {
        name: String,
        #[source]
        source: Box<kube::Error>,
    },
    #[error("failed to read ValidatingWebhookConfiguration `{name}`")]
    ReadConfiguration {
        name: String,
        #[source]
        source: Box<kube::Error>,
    },
    #[error("failed to write the authority into ValidatingWebhookConfiguration `{name}`")]
    WriteConfiguration {
        name: String,
        #[source]
        source: Box<kube::Error>,
    },
}

/// Where the certificate is kept and what it is for.
#[derive(Clone)]
pub struct Keeper {
    pub client: Client,
    pub namespace: String,
    pub secret: String,
    /// Name of the ValidatingWebhookConfiguration that the chart made.
    pub configuration: String,
    /// Names in the leaf: the Service's.
    pub dns_names: Vec<String>,
    /// What the Secret goes with when the operator is uninstalled.
    pub owner: Option<OwnerReference>,
    pub now: Now,
}

impl Keeper {
    fn secrets(&self) -> Api<Secret> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    fn configurations(&self) -> Api<ValidatingWebhookConfiguration> {
        Api::all(self.client.clone())
    }

    /// Follows the Secret and shows its certificate; for every replica, for as long as the process lives.
    pub async fn follow(self, identity: Identity) {
        let mut changes = watch_object(self.secrets(), &self.secret).default_backoff().boxed();
        loop {
            match changes.next().await {
                Some(Ok(Some(secret))) => match bundle_of(&secret).map(|bundle| identity.replace(&bundle)) {
                    Some(Ok(true)) => tracing::info!("the webhook's certificate was loaded"),
                    Some(Ok(false)) => {}
                    Some(Err(error)) => tracing::error!(error = %error, "the webhook's certificate cannot be used"),
                    None => {
                        tracing::error!(secret = self.secret, "the webhook's Secret lacks a key; the leader mends it")
                    }
                },
                Some(Ok(None)) => {}
                Some(Err(error)) => {
                    tracing::warn!(error = %error, "watching the webhook's Secret failed; trying again")
                }
                None => return,
            }
        }
    }

    /// Makes, rotates and publishes the certificate; for the leader only, for as long as the process lives.
    pub async fn lead(self) {
        let configuration: BoxStream<'_, Result<(), watcher::Error>> =
            watch_object(self.configurations(), &self.configuration).default_backoff().map_ok(drop).boxed();
        let secret: BoxStream<'_, Result<(), watcher::Error>> =
            watch_object(self.secrets(), &self.secret).default_backoff().map_ok(drop).boxed();
        let mut changes = futures::stream::select(configuration, secret);
        loop {
            let wait = match self.keep().await {
                Ok(until) => {
                    let left = u64::try_from(until - (self.now)()).unwrap_or(0).max(1);
                    Duration::from_secs(left).min(LONGEST_SLEEP)
                }
                Err(error) => {
                    let source = std::error::Error::source(&error).map(ToString::to_string);
                    tracing::warn!(error = %error, cause = source, "keeping the webhook's certificate failed; trying again");
                    RETRY
                }
            };
            // Woken by the time, or by somebody who changed one of the two objects.
            let _ = tokio::time::timeout(wait, changes.next()).await;
        }
    }

    /// One round; gives the second at which the next is due.
    async fn keep(&self) -> Result<i64, Error> {
        let secrets = self.secrets();
        let secret = secrets
            .get_opt(&self.secret)
            .await
            .map_err(|source| Error::ReadSecret { name: self.secret.clone(), source: Box::new(source) })?;
        let stored = secret.as_ref().and_then(bundle_of);
        let now = (self.now)();
        let due = certificate::due(stored.as_ref(), &self.dns_names, now);
        let bundle = certificate::issue(due, stored, &self.dns_names, now).map_err(Error::Certificate)?;
        // Trust first, use second: the authority is published before any replica can show a leaf that it signed.
        self.publish(&bundle).await?;
        if let Due::Nothing { until } = due {
            return Ok(until);
        }
        let params = PostParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PostParams::default() };
        let written = match &secret {
            // With the resource version, so that two writers can't both win.
            Some(before) => {
                let object = self.secret_of(&bundle, before.metadata.resource_version.clone());
                secrets.replace(&self.secret, &params, &object).await
            }
            None => secrets.create(&params, &self.secret_of(&bundle, None)).await,
        };
        written.map_err(|source| Error::WriteSecret { name: self.secret.clone(), source: Box::new(source) })?;
        tracing::info!(authority = due == Due::Authority, "the webhook's certificate was made anew");
        match certificate::due(Some(&bundle), &self.dns_names, now) {
            Due::Nothing { until } => Ok(until),
            Due::Leaf | Due::Authority => Ok(now),
        }
    }

    async fn publish(&self, bundle: &Bundle) -> Result<(), Error> {
        let configurations = self.configurations();
        let current = configurations.get_opt(&self.configuration).await.map_err(|source| Error::ReadConfiguration {
            name: self.configuration.clone(),
            source: Box::new(source),
        })?;
        let Some(current) = current else {
            // Somebody runs without the webhook; the watch tells when it appears.
            return Ok(());
        };
        let Some(patch) = publish_patch(&current, &bundle.authorities) else { return Ok(()) };
        let params = PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
        configurations.patch(&self.configuration, &params, &Patch::Strategic(patch)).await.map_err(|source| {
            Error::WriteConfiguration { name: self.configuration.clone(), source: Box::new(source) }
        })?;
        tracing::info!("the webhook's authority was published");
        Ok(())
    }

    fn secret_of(&self, bundle: &Bundle, resource_version: Option<String>) -> Secret {
        let bytes = |text: &str| ByteString(text.as_bytes().to_vec());
        Secret {
            metadata: ObjectMeta {
                name: Some(self.secret.clone()),
                namespace: Some(self.namespace.clone()),
                resource_version,
                owner_references: self.owner.clone().map(|owner| vec![owner]),
                labels: Some(BTreeMap::from([(MANAGED_BY.to_owned(), "ers-operator".to_owned())])),
                ..ObjectMeta::default()
            },
            type_: Some("Opaque".to_owned()),
            data: Some(BTreeMap::from([
                (AUTHORITIES.to_owned(), bytes(&bundle.authorities)),
                (AUTHORITY_KEY.to_owned(), bytes(&bundle.authority_key)),
                (LEAF.to_owned(), bytes(&bundle.leaf)),
                (LEAF_KEY.to_owned(), bytes(&bundle.leaf_key)),
            ])),
            ..Secret::default()
        }
    }
}

/// The patch that makes every webhook of the configuration trust these authorities, or nothing if they all do.
fn publish_patch(current: &ValidatingWebhookConfiguration, authorities: &str) -> Option<serde_json::Value> {
    let wanted = ByteString(authorities.as_bytes().to_vec());
    let webhooks = current.webhooks.as_deref().unwrap_or_default();
    if webhooks.iter().all(|webhook| webhook.client_config.ca_bundle.as_ref() == Some(&wanted)) {
        return None;
    }
    let entries: Vec<_> =
        webhooks.iter().map(|webhook| json!({"name": webhook.name, "clientConfig": {"caBundle": wanted}})).collect();
    Some(json!({"webhooks": entries}))
}

fn bundle_of(secret: &Secret) -> Option<Bundle> {
    let data = secret.data.as_ref()?;
    let text = |key: &str| String::from_utf8(data.get(key)?.0.clone()).ok();
    Some(Bundle {
        authorities: text(AUTHORITIES)?,
        authority_key: text(AUTHORITY_KEY)?,
        leaf: text(LEAF)?,
        leaf_key: text(LEAF_KEY)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn configuration(ca: Option<&str>) -> ValidatingWebhookConfiguration {
        serde_json::from_value(json!({
            "metadata": {"name": "ers-operator"},
            "webhooks": [{
                "name": "validate.reporting.ers.dev",
                "admissionReviewVersions": ["v1"],
                "sideEffects": "None",
                "clientConfig": {"caBundle": ca.map(|ca| ByteString(ca.as_bytes().to_vec()))},
            }],
        }))
        .expect("valid")
    }

    #[test]
    fn a_trusted_authority_is_not_written_again() {
        assert_eq!(publish_patch(&configuration(Some("x")), "x"), None);
    }

    #[test]
    fn only_the_authority_is_written_into_the_charts_object() {
        let expect =
            json!({"webhooks": [{"name": "validate.reporting.ers.dev", "clientConfig": {"caBundle": "eA=="}}]});
        assert_eq!(publish_patch(&configuration(None), "x"), Some(expect.clone()));
        assert_eq!(publish_patch(&configuration(Some("y")), "x"), Some(expect));
    }
}
