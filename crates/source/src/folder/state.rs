//! What must outlive the process: generations, and the newest valid document of each object.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;

use ers_crds::Kind;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};
use uuid::Uuid;

/// Version of the file's format; another one is refused.
pub(super) const STATE_VERSION: u32 = 1;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct State {
    pub version: u32,
    /// By `<kind>/<namespace>/<name>`.
    pub objects: BTreeMap<String, ObjectState>,
}

impl Default for State {
    fn default() -> Self {
        State { version: STATE_VERSION, objects: BTreeMap::new() }
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct ObjectState {
    /// Counts changes of the spec, as the API server does.
    pub generation: i64,
    /// SHA-256 of the spec that has this generation.
    pub spec_hash: String,
    /// The newest document that kept every rule, with its generation: the last known good.
    pub valid: Option<ValidDocument>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct ValidDocument {
    pub generation: i64,
    pub document: Value,
}

/// SHA-256 of a spec. serde_json keeps the order of keys only where a feature says so, which is why the hash is taken of
/// sorted keys.
pub(super) fn hash_of(value: &Value) -> String {
    fn feed(value: &Value, hash: &mut Sha256) {
        match value {
            Value::Object(fields) => {
                let mut sorted: Vec<_> = fields.iter().collect();
                sorted.sort_unstable_by_key(|(key, _)| *key);
                hash.update(b"{");
                for (key, field) in sorted {
                    hash.update(Value::from(key.as_str()).to_string());
                    hash.update(b":");
                    feed(field, hash);
                }
                hash.update(b"}");
            }
            Value::Array(items) => {
                hash.update(b"[");
                for item in items {
                    feed(item, hash);
                    hash.update(b",");
                }
                hash.update(b"]");
            }
            plain => hash.update(plain.to_string()),
        }
    }
    let mut hash = Sha256::new();
    feed(value, &mut hash);
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A UUID (version 8) that is the same for the same kind, namespace and name, on every machine.
pub(super) fn stable_uid(kind: Kind, namespace: &str, name: &str) -> Uuid {
    let digest = Sha256::digest(format!("{}/{kind}/{namespace}/{name}", ers_crds::GROUP).as_bytes());
    let mut bytes = [0_u8; 16];
    bytes.copy_from_slice(&digest[..16]);
    Uuid::new_v8(bytes)
}

/// Reads a file of JSON; `None` if it is not there.
pub(super) fn read_json<T: DeserializeOwned>(path: &Path) -> std::io::Result<Option<T>> {
    let bytes = match std::fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    serde_json::from_slice(&bytes).map(Some).map_err(std::io::Error::other)
}

/// Replaces a file as a whole: after a crash it holds the old or the new content, never a part.
pub(super) fn write_json<T: Serialize>(path: &Path, value: &T) -> std::io::Result<()> {
    let bytes = serde_json::to_vec_pretty(value).map_err(std::io::Error::other)?;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    std::fs::create_dir_all(folder)?;
    let temporary = path.with_extension("tmp");
    let mut file = std::fs::File::create(&temporary)?;
    file.write_all(&bytes)?;
    file.sync_all()?;
    std::fs::rename(&temporary, path)?;
    std::fs::File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_objects_uid_is_the_same_everywhere() {
        let uid = stable_uid(Kind::ReportPolicy, "local", "reporting");
        assert_eq!(uid, stable_uid(Kind::ReportPolicy, "local", "reporting"));
        assert_ne!(uid, stable_uid(Kind::CollectorTarget, "local", "reporting"));
        assert_eq!(uid.to_string(), "6dd8c30c-df20-8fd1-9422-c6d868af9690");
    }

    #[test]
    fn the_order_of_keys_is_no_change_of_a_spec() {
        let one = serde_json::json!({"a": [1, 2], "b": {"c": true}});
        let other = serde_json::from_str(r#"{"b": {"c": true}, "a": [1, 2]}"#).expect("test input");
        assert_eq!(hash_of(&one), hash_of(&other));
        assert_ne!(hash_of(&one), hash_of(&serde_json::json!({"a": [2, 1], "b": {"c": true}})));
    }
}
