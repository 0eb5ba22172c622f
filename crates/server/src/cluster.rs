//! What the server writes into its namespace: the authority of its certificate, and the first administrator's password. Each only when it is missing or says something else.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ers_model::names;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::Resource as _;
use kube::api::{Api, ObjectMeta, Patch, PatchParams};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio_util::sync::CancellationToken;

use crate::admin::ADMIN_NAME;
use crate::app::App;
use crate::private_file;
use crate::tls::CurrentCertificate;

const FIELD_MANAGER: &str = "ers-server";
const EVERY: Duration = Duration::from_secs(60);
const RETRY: Duration = Duration::from_secs(2);
/// The policy becomes the owner, so that the two go with it; it should be known by then.
const OWNER_WAIT: Duration = Duration::from_secs(10);

#[derive(Debug, thiserror::Error)]
enum PublishError {
    #[error("cannot read {what}")]
    Read {
        what: String,
        #[source]
        source: Box<kube::Error>,
    },
    #[error("cannot write {what}")]
    Write {
        what: String,
        #[source]
        source: Box<kube::Error>,
    },
    #[error("cannot read the first password")]
    Password(#[source] std::io::Error),
}

pub struct Publisher {
    pub app: Arc<App>,
    pub client: kube::Client,
    pub certificate: Arc<CurrentCertificate>,
    pub password_file: PathBuf,
}

impl Publisher {
    /// At once, then whenever something may have changed.
    pub async fn run(self, stop: CancellationToken) {
        self.wait_for_owner(&stop).await;
        loop {
            let wait = match self.publish().await {
                Ok(()) => EVERY,
                Err(error) => {
                    tracing::error!(
                        error = &error as &dyn std::error::Error,
                        "authority or first password could not be published, trying again"
                    );
                    RETRY
                }
            };
            tokio::select! {
                _ = stop.cancelled() => return,
                _ = tokio::time::sleep(wait) => {}
            }
        }
    }

    async fn wait_for_owner(&self, stop: &CancellationToken) {
        let known = async {
            loop {
                let changed = self.app.objects.changed();
                if self.app.objects.picture().policy.object.is_some() {
                    return;
                }
                changed.await;
            }
        };
        tokio::select! {
            _ = stop.cancelled() => {}
            _ = tokio::time::timeout(OWNER_WAIT, known) => {}
        }
    }

    async fn publish(&self) -> Result<(), PublishError> {
        let config = &self.app.config;
        let authorities = self.certificate.get().authorities.clone();
        let name = names::ca_config_map_name(&config.policy);
        let maps: Api<ConfigMap> = Api::namespaced(self.client.clone(), &config.namespace);
        let published = read(&maps, &name).await?;
        let wanted = BTreeMap::from([("ca.crt".to_owned(), authorities)]);
        if published.as_ref().and_then(|map| map.data.as_ref()) != Some(&wanted) {
            let map = ConfigMap { metadata: self.metadata(&name), data: Some(wanted), ..ConfigMap::default() };
            write(&maps, &name, &map).await?;
        }
        self.publish_password().await
    }

    /// While the first password is in force, the Secret holds it. Afterwards the Secret is nobody's business.
    async fn publish_password(&self) -> Result<(), PublishError> {
        let Some(password) = private_file::read_text(&self.password_file).map_err(PublishError::Password)? else {
            return Ok(());
        };
        let config = &self.app.config;
        let name = names::admin_secret_name(&config.policy);
        let secrets: Api<Secret> = Api::namespaced(self.client.clone(), &config.namespace);
        let published = read(&secrets, &name).await?;
        let wanted = BTreeMap::from([
            ("username".to_owned(), ByteString(ADMIN_NAME.as_bytes().to_vec())),
            ("password".to_owned(), ByteString(password.into_bytes())),
        ]);
        if published.as_ref().and_then(|secret| secret.data.as_ref()) == Some(&wanted) {
            return Ok(());
        }
        let secret = Secret { metadata: self.metadata(&name), data: Some(wanted), ..Secret::default() };
        write(&secrets, &name, &secret).await
    }

    fn metadata(&self, name: &str) -> ObjectMeta {
        let picture = self.app.objects.picture();
        let owner = picture.policy.object.as_ref().and_then(|policy| {
            let reference: OwnerReference = policy.controller_owner_ref(&())?;
            Some(vec![reference])
        });
        let labels = BTreeMap::from([
            ("app.kubernetes.io/managed-by".to_owned(), FIELD_MANAGER.to_owned()),
            (names::POLICY_LABEL.to_owned(), self.app.config.policy.clone()),
        ]);
        ObjectMeta {
            name: Some(name.to_owned()),
            labels: Some(labels),
            owner_references: owner,
            ..ObjectMeta::default()
        }
    }
}

async fn read<K>(api: &Api<K>, name: &str) -> Result<Option<K>, PublishError>
where
    K: Clone + DeserializeOwned + std::fmt::Debug,
{
    api.get_opt(name).await.map_err(|source| PublishError::Read { what: name.to_owned(), source: Box::new(source) })
}

async fn write<K>(api: &Api<K>, name: &str, object: &K) -> Result<(), PublishError>
where
    K: Clone + DeserializeOwned + std::fmt::Debug + Serialize,
{
    let parameters = PatchParams::apply(FIELD_MANAGER).force();
    let written = api.patch(name, &parameters, &Patch::Apply(object)).await;
    written.map_err(|source| PublishError::Write { what: name.to_owned(), source: Box::new(source) })?;
    tracing::info!(name, "published");
    Ok(())
}
