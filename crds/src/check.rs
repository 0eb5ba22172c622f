//! Manifests judged offline: by the rules of each object, and by the references among them.

use serde_json::Value;

use crate::Kind;

/// One document of our group, as it was written.
#[derive(Clone, Debug, PartialEq)]
pub struct Manifest {
    pub kind: Kind,
    /// File or other origin.
    pub origin: String,
    /// 1 for the first document of the file.
    pub document: usize,
    pub value: Value,
}

#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    #[error("{origin}: document {document} is no YAML")]
    NoYaml {
        origin: String,
        document: usize,
        #[source]
        source: serde_yaml_ng::Error,
    },
    #[error("{origin}: document {document} is {api_version} {kind}, which this version does not know")]
    UnknownKind { origin: String, document: usize, api_version: String, kind: String },
}

/// Reads a stream of YAML documents and keeps those of our group.
pub fn read_manifests(origin: &str, text: &str) -> Result<Vec<Manifest>, ReadError> {
    let mut manifests = Vec::new();
    for (at, document) in serde_yaml_ng::Deserializer::from_str(text).enumerate() {
        let document_number = at + 1;
        let value: Value = serde::Deserialize::deserialize(document).map_err(|source| ReadError::NoYaml {
            origin: origin.to_string(),
            document: document_number,
            source,
        })?;
        let field = |name: &str| value.get(name).and_then(Value::as_str).unwrap_or_default().to_string();
        let (api_version, kind_name) = (field("apiVersion"), field("kind"));
        if api_version.split('/').next() != Some(crate::GROUP) {
            continue;
        }
        match Kind::from_name(&kind_name) {
            Some(kind) if api_version == crate::API_VERSION => {
                manifests.push(Manifest { kind, origin: origin.to_string(), document: document_number, value });
            }
            _ => {
                return Err(ReadError::UnknownKind {
                    origin: origin.to_string(),
                    document: document_number,
                    api_version,
                    kind: kind_name,
                });
            }
        }
    }
    Ok(manifests)
}
