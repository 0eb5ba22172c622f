//! A validator of structural schemas that speaks as the API server does.
//!
//! Messages and field paths follow k8s.io/kube-openapi/pkg/validation and
//! apiextensions-apiserver/pkg/apiserver/validation of Kubernetes 1.34, so that a manifest refused here is refused there
//! with the same words. Supports what our definitions use: `type`, `properties`, `required`, `additionalProperties` (a
//! schema), `items`, `enum`, `pattern`, `minLength`, `maxLength`, `minimum`, `maximum`, `minItems`, `maxItems`,
//! `maxProperties`, `x-kubernetes-int-or-string`, `x-kubernetes-list-type: map`.

use std::collections::HashMap;
use std::sync::{LazyLock, Mutex, PoisonError};

use regex::Regex;
use serde_json::{Map, Value};

use super::{UnknownFields, Violation};

/// Fields of `metav1.ObjectMeta`; the schema of a definition must not name them.
const METADATA_FIELDS: [&str; 15] = [
    "annotations",
    "creationTimestamp",
    "deletionGracePeriodSeconds",
    "deletionTimestamp",
    "finalizers",
    "generateName",
    "generation",
    "labels",
    "managedFields",
    "name",
    "namespace",
    "ownerReferences",
    "resourceVersion",
    "selfLink",
    "uid",
];

/// What was found, and whether CEL rules can still be asked: the API server skips them after some violations.
pub struct Judgement {
    pub violations: Vec<Violation>,
    pub blocks_rules: bool,
}

/// Judges a whole object against the schema of its kind. Nulls should have been pruned before; see [`prune_nulls`].
pub fn judge(schema: &Value, object: &Value, unknown_fields: UnknownFields) -> Judgement {
    let mut judge = Judge { unknown_fields, found: Judgement { violations: Vec::new(), blocks_rules: false } };
    if judge.refuses_unknown() && judge.unknown_fields_of_root(schema, object) {
        // A strict client stops here, before the schema is asked.
        judge.found.blocks_rules = true;
        return judge.found;
    }
    let name = object.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default();
    if name.is_empty() {
        judge.blocking("metadata.name", "schema-required", "Required value: name or generateName is required");
    }
    judge.value(schema, object, "");
    judge.found
}

/// Removes nulls of fields that have a schema, as the API server does before it judges: `tolerations:` with nothing after it
/// means that the field is left out.
pub fn prune_nulls(schema: &Value, value: &mut Value) {
    match value {
        Value::Object(fields) => {
            let child_schema = |key: &str| {
                schema.get("properties").and_then(|known| known.get(key)).or_else(|| schema.get("additionalProperties"))
            };
            fields.retain(|key, field| !(field.is_null() && child_schema(key).is_some()));
            for (key, field) in fields.iter_mut() {
                if let Some(child) = child_schema(key) {
                    prune_nulls(child, field);
                }
            }
        }
        Value::Array(items) => {
            if let Some(child) = schema.get("items") {
                for item in items {
                    prune_nulls(child, item);
                }
            }
        }
        _ => {}
    }
}

struct Judge {
    unknown_fields: UnknownFields,
    found: Judgement,
}

impl Judge {
    fn refuses_unknown(&self) -> bool {
        self.unknown_fields == UnknownFields::Refuse
    }

    /// Adds a violation after which the API server does not ask CEL rules.
    fn blocking(&mut self, path: &str, rule: &str, message: impl Into<String>) {
        self.found.violations.push(Violation::new(path, rule, message));
        self.found.blocks_rules = true;
    }

    fn invalid(&mut self, path: &str, rule: &str, shown: impl std::fmt::Display, detail: impl std::fmt::Display) {
        self.found.violations.push(Violation::new(path, rule, format!("Invalid value: {shown}: {detail}")));
    }

    fn value(&mut self, schema: &Value, value: &Value, path: &str) {
        let is_int_or_string = schema.get("x-kubernetes-int-or-string") == Some(&Value::Bool(true));
        let wanted = if is_int_or_string { "integer,string" } else { schema["type"].as_str().unwrap_or_default() };
        let got = type_of(value);
        let fits = wanted.is_empty()
            || wanted.split(',').any(|wanted| wanted == got)
            || (got == "integer" && wanted == "number");
        if !fits {
            let detail = format!("Invalid value: {got:?}: {path} in body must be of type {wanted}: {got:?}");
            self.blocking(path, "schema-type", detail);
        }
        match value {
            Value::String(text) => self.string(schema, text, path),
            Value::Number(_) => self.number(schema, value, path),
            Value::Array(items) => self.array(schema, items, path),
            Value::Object(fields) => self.object(schema, fields, path),
            Value::Null | Value::Bool(_) => {}
        }
        if let Some(allowed) = schema.get("enum").and_then(Value::as_array)
            && !allowed.contains(value)
        {
            let list: Vec<String> = allowed.iter().map(Value::to_string).collect();
            let message = format!("Unsupported value: {value}: supported values: {}", list.join(", "));
            self.blocking(path, "schema-enum", message);
        }
    }

    fn string(&mut self, schema: &Value, text: &str, path: &str) {
        let length = text.chars().count() as u64;
        if let Some(max) = schema.get("maxLength").and_then(Value::as_u64)
            && length > max
        {
            let unit = if max == 1 { "byte" } else { "bytes" };
            self.blocking(path, "schema-max-length", format!("Too long: may not be more than {max} {unit}"));
            return;
        }
        if let Some(min) = schema.get("minLength").and_then(Value::as_u64)
            && length < min
        {
            let detail = format!("{path} in body should be at least {min} chars long");
            self.invalid(path, "schema-min-length", format_args!("{text:?}"), detail);
            return;
        }
        if let Some(pattern) = schema.get("pattern").and_then(Value::as_str)
            && !matches(pattern, text)
        {
            let detail = format!("{path} in body should match '{pattern}'");
            self.invalid(path, "schema-pattern", format_args!("{text:?}"), detail);
        }
    }

    fn number(&mut self, schema: &Value, value: &Value, path: &str) {
        let number = value.as_f64().unwrap_or_default();
        if let Some(min) = schema.get("minimum")
            && min.as_f64().is_some_and(|min| number < min)
        {
            let detail = format!("{path} in body should be greater than or equal to {min}");
            self.invalid(path, "schema-minimum", value, detail);
        }
        if let Some(max) = schema.get("maximum")
            && max.as_f64().is_some_and(|max| number > max)
        {
            let detail = format!("{path} in body should be less than or equal to {max}");
            self.invalid(path, "schema-maximum", value, detail);
        }
    }

    fn array(&mut self, schema: &Value, items: &[Value], path: &str) {
        if let Some(item_schema) = schema.get("items") {
            for (at, item) in items.iter().enumerate() {
                self.value(item_schema, item, &format!("{path}[{at}]"));
            }
        }
        let count = items.len() as u64;
        if let Some(min) = schema.get("minItems").and_then(Value::as_u64)
            && count < min
        {
            self.invalid(
                path,
                "schema-min-items",
                count,
                format_args!("{path} in body should have at least {min} items"),
            );
        }
        self.at_most(schema.get("maxItems"), count, path, "schema-max-items");
        self.distinct(schema, items, path);
    }

    /// Entries of a list of type map must differ in their keys.
    fn distinct(&mut self, schema: &Value, items: &[Value], path: &str) {
        if schema.get("x-kubernetes-list-type").and_then(Value::as_str) != Some("map") {
            return;
        }
        let Some(keys) = schema.get("x-kubernetes-list-map-keys").and_then(Value::as_array) else { return };
        let mut seen: Vec<Map<String, Value>> = Vec::new();
        for (at, item) in items.iter().enumerate() {
            let identity: Map<String, Value> = keys
                .iter()
                .filter_map(|key| Some((key.as_str()?.to_string(), item.get(key.as_str()?)?.clone())))
                .collect();
            if seen.contains(&identity) {
                let message = format!("Duplicate value: {}", Value::Object(identity.clone()));
                self.found.violations.push(Violation::new(format!("{path}[{at}]"), "schema-duplicate", message));
            }
            seen.push(identity);
        }
    }

    fn object(&mut self, schema: &Value, fields: &Map<String, Value>, path: &str) {
        let child_path = |name: &str| if path.is_empty() { name.to_string() } else { format!("{path}.{name}") };
        self.at_most(schema.get("maxProperties"), fields.len() as u64, path, "schema-max-properties");
        let known = schema.get("properties").and_then(Value::as_object);
        for (name, value) in fields {
            match known.and_then(|known| known.get(name)).or_else(|| schema.get("additionalProperties")) {
                // The rest of metadata is Kubernetes' own.
                Some(_) if path == "metadata" && name != "name" => {}
                Some(child) => self.value(child, value, &child_path(name)),
                None => {}
            }
        }
        for name in schema.get("required").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str) {
            if !fields.contains_key(name) {
                self.blocking(&child_path(name), "schema-required", "Required value");
            }
        }
    }

    fn at_most(&mut self, max: Option<&Value>, count: u64, path: &str, rule: &str) {
        if let Some(max) = max.and_then(Value::as_u64)
            && count > max
        {
            let unit = if max == 1 { "item" } else { "items" };
            self.blocking(path, rule, format!("Too many: {count}: must have at most {max} {unit}"));
        }
    }

    /// Whether there were any.
    fn unknown_fields_of_root(&mut self, schema: &Value, object: &Value) -> bool {
        let Some(fields) = object.as_object() else { return false };
        let before = self.found.violations.len();
        for (name, value) in fields {
            match name.as_str() {
                "apiVersion" | "kind" => {}
                "metadata" => {
                    for name in value.as_object().into_iter().flat_map(Map::keys) {
                        if !METADATA_FIELDS.contains(&name.as_str()) {
                            self.unknown(&format!("metadata.{name}"));
                        }
                    }
                }
                _ => match schema["properties"].get(name) {
                    Some(child) => self.unknown_fields_of(child, value, name),
                    None => self.unknown(name),
                },
            }
        }
        self.found.violations.len() > before
    }

    fn unknown_fields_of(&mut self, schema: &Value, value: &Value, path: &str) {
        match value {
            Value::Object(fields) => {
                for (name, field) in fields {
                    let path = format!("{path}.{name}");
                    let known = schema.get("properties").and_then(|known| known.get(name));
                    match known.or_else(|| schema.get("additionalProperties")) {
                        Some(child) => self.unknown_fields_of(child, field, &path),
                        // A scalar has no fields; that an object stands in its place is told as a wrong type.
                        None if schema.get("type").and_then(Value::as_str) != Some("object") => {}
                        None => self.unknown(&path),
                    }
                }
            }
            Value::Array(items) => {
                for (at, item) in items.iter().enumerate() {
                    if let Some(child) = schema.get("items") {
                        self.unknown_fields_of(child, item, &format!("{path}[{at}]"));
                    }
                }
            }
            _ => {}
        }
    }

    fn unknown(&mut self, path: &str) {
        self.found.violations.push(Violation::new(path, "schema-unknown-field", format!("unknown field {path:?}")));
    }
}

fn type_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_i64() || number.is_u64() => "integer",
        // As JSON knows no difference between 5.0 and 5.
        Value::Number(number) if number.as_f64().is_some_and(|number| number.fract() == 0.0) => "integer",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

/// Whether the text matches a pattern of our definitions, each of which is compiled once.
fn matches(pattern: &str, text: &str) -> bool {
    static COMPILED: LazyLock<Mutex<HashMap<String, Regex>>> = LazyLock::new(Mutex::default);
    let mut compiled = COMPILED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(regex) = compiled.get(pattern) {
        return regex.is_match(text);
    }
    // A pattern that does not compile matches nothing; a test compiles all of them.
    let Ok(regex) = Regex::new(pattern) else { return false };
    let matched = regex.is_match(text);
    compiled.insert(pattern.to_string(), regex);
    matched
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn messages(schema: Value, value: Value) -> Vec<String> {
        let mut judge = Judge {
            unknown_fields: UnknownFields::Ignore,
            found: Judgement { violations: Vec::new(), blocks_rules: false },
        };
        judge.value(&schema, &value, "spec.x");
        judge.found.violations.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_wrong_type_is_told_as_the_api_server_tells_it() {
        assert_eq!(
            messages(json!({"type": "string"}), json!(5)),
            [r#"spec.x: Invalid value: "integer": spec.x in body must be of type string: "integer""#]
        );
        assert_eq!(
            messages(json!({"x-kubernetes-int-or-string": true}), json!(true)),
            [r#"spec.x: Invalid value: "boolean": spec.x in body must be of type integer,string: "boolean""#]
        );
    }

    #[test]
    fn limits_of_int_or_string_apply_to_what_they_can() {
        let schema = json!({"x-kubernetes-int-or-string": true, "minimum": 1, "maxLength": 3});
        assert_eq!(messages(schema.clone(), json!(7)), Vec::<String>::new());
        assert_eq!(messages(schema, json!("abcd")), ["spec.x: Too long: may not be more than 3 bytes"]);
    }

    #[test]
    fn fields_left_empty_count_as_left_out() {
        let schema = json!({"properties": {"a": {"type": "array", "items": {"properties": {"b": {"type": "string"}}}}, "c": {}}});
        let mut value = json!({"a": [{"b": null}], "c": null, "unknown": null});
        prune_nulls(&schema, &mut value);
        assert_eq!(value, json!({"a": [{}], "unknown": null}));
    }
}
