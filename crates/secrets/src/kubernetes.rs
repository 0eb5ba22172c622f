//! Secrets of one namespace by named `get`: nothing is listed, watched or kept.

use k8s_openapi::api::core::v1::Secret as KubernetesSecret;
use kube::api::Api;
use zeroize::Zeroize;

use crate::{MAX_SECRET_BYTES, ReadSecret, Secret, SecretError, SecretSource, is_good_name};

pub struct KubeSecrets {
    api: Api<KubernetesSecret>,
}

impl KubeSecrets {
    pub fn new(client: kube::Client, namespace: &str) -> Self {
        KubeSecrets { api: Api::namespaced(client, namespace) }
    }

    async fn get(&self, name: &str, key: &str) -> Result<Secret, SecretError> {
        if !is_good_name(name, key) {
            return Err(SecretError::BadName { name: name.to_string(), key: key.to_string() });
        }
        let secret = match self.api.get(name).await {
            Ok(secret) => secret,
            Err(kube::Error::Api(status)) if status.code == 404 => {
                return Err(SecretError::NotFound { name: name.to_string() });
            }
            Err(kube::Error::Api(status)) if status.code == 403 => {
                return Err(SecretError::Forbidden { name: name.to_string() });
            }
            Err(source) => return Err(SecretError::Unreachable { name: name.to_string(), source: Box::new(source) }),
        };
        pick(secret, name, key)
    }
}

/// Takes one value out of a Secret and overwrites the others.
fn pick(secret: KubernetesSecret, name: &str, key: &str) -> Result<Secret, SecretError> {
    let mut wanted = None;
    for (found, value) in secret.data.unwrap_or_default() {
        let mut bytes = value.0;
        if found == key && bytes.len() <= MAX_SECRET_BYTES {
            wanted = Some(Ok(Secret::new(bytes)));
            continue;
        }
        if found == key {
            wanted = Some(Err(SecretError::TooLarge { name: name.to_string(), key: key.to_string() }));
        }
        bytes.zeroize();
    }
    wanted.unwrap_or_else(|| Err(SecretError::KeyNotFound { name: name.to_string(), key: key.to_string() }))
}

impl SecretSource for KubeSecrets {
    fn read<'a>(&'a self, name: &'a str, key: &'a str) -> ReadSecret<'a> {
        Box::pin(self.get(name, key))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use k8s_openapi::ByteString;

    use super::*;

    fn secret(entries: &[(&str, &str)]) -> KubernetesSecret {
        let data: BTreeMap<String, ByteString> =
            entries.iter().map(|(key, value)| ((*key).to_string(), ByteString(value.as_bytes().to_vec()))).collect();
        KubernetesSecret { data: Some(data), ..KubernetesSecret::default() }
    }

    #[test]
    fn one_key_is_taken() {
        let value = pick(secret(&[("a", "1"), ("b", "2")]), "s", "b");
        assert_eq!(value.ok().as_ref().and_then(Secret::expose_text), Some("2"));
    }

    #[test]
    fn a_missing_key_is_named() {
        let error = pick(secret(&[("a", "1")]), "s", "c").err().map(|error| error.to_string());
        assert_eq!(error.as_deref(), Some("Secret s has no key c"));
    }
}
