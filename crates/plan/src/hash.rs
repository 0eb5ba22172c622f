//! Hashes of configurations: the name of a ConfigMap, the annotation of a pod, the proof of what runs.

use serde::Serialize;
use serde_json::Value;
use sha2::{Digest, Sha256};

/// Hexadecimal digits of a hash: 40 bits, of which a name must only tell a handful of live ones apart.
pub const HASH_LENGTH: usize = 10;

/// JSON with the keys of every object sorted and no white space, so that equal values are equal bytes.
pub fn canonical_json(value: &Value) -> String {
    let mut text = String::new();
    write_canonical(value, &mut text);
    text
}

/// The first [`HASH_LENGTH`] hexadecimal digits of the SHA-256 of the canonical JSON, without the field `configHash` that
/// will hold it.
pub fn config_hash<T: Serialize>(config: &T) -> String {
    let mut value = serde_json::to_value(config).expect("configurations are made of JSON values");
    if let Some(fields) = value.as_object_mut() {
        fields.remove("configHash");
    }
    let digest = Sha256::digest(canonical_json(&value).as_bytes());
    let mut hex: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    hex.truncate(HASH_LENGTH);
    hex
}

fn write_canonical(value: &Value, text: &mut String) {
    match value {
        Value::Object(fields) => {
            let mut sorted: Vec<_> = fields.iter().collect();
            sorted.sort_unstable_by_key(|(key, _)| *key);
            text.push('{');
            for (at, (key, field)) in sorted.into_iter().enumerate() {
                if at > 0 {
                    text.push(',');
                }
                text.push_str(&Value::from(key.as_str()).to_string());
                text.push(':');
                write_canonical(field, text);
            }
            text.push('}');
        }
        Value::Array(items) => {
            text.push('[');
            for (at, item) in items.iter().enumerate() {
                if at > 0 {
                    text.push(',');
                }
                write_canonical(item, text);
            }
            text.push(']');
        }
        plain => text.push_str(&plain.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_order_of_keys_does_not_matter() {
        let one: Value = serde_json::from_str(r#"{"b":[1,{"y":"\"","x":null}],"a":true}"#).expect("test input");
        assert_eq!(canonical_json(&one), r#"{"a":true,"b":[1,{"x":null,"y":"\""}]}"#);
    }

    #[test]
    fn the_hash_does_not_cover_itself() {
        let without = serde_json::json!({"a": 1});
        let with = serde_json::json!({"a": 1, "configHash": "0123456789"});
        assert_eq!(config_hash(&without), config_hash(&with));
        assert_eq!(config_hash(&without).len(), HASH_LENGTH);
        assert_ne!(config_hash(&without), config_hash(&serde_json::json!({"a": 2})));
    }
}
