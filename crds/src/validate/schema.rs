//! A validator of structural schemas, with the messages of the API server.

use serde_json::Value;

use super::{UnknownFields, Violation};

/// Judges a whole object against the schema of its kind.
pub fn judge(schema: &Value, object: &Value, unknown_fields: UnknownFields) -> Vec<Violation> {
    let _ = (schema, object, unknown_fields);
    Vec::new()
}
