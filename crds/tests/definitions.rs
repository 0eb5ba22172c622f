//! What every definition must keep: budgets, limits on everything, words for everybody.

use ers_crds::Kind;
use ers_crds::crd::{self, definition_value};
use serde_json::Value;

/// Calls `visit` with each schema below this one and its path.
fn walk(schema: &Value, path: &str, visit: &mut impl FnMut(&Value, &str)) {
    visit(schema, path);
    for (name, child) in schema["properties"].as_object().into_iter().flatten() {
        walk(child, &format!("{path}.{name}"), visit);
    }
    for (key, mark) in [("items", "[]"), ("additionalProperties", "{}")] {
        if let Some(child) = schema.get(key) {
            walk(child, &format!("{path}{mark}"), visit);
        }
    }
}

fn every_schema(mut visit: impl FnMut(&Value, &str)) {
    for kind in Kind::ALL {
        let schema = crd::schema(kind);
        for part in ["spec", "status"] {
            walk(&schema["properties"][part], &format!("{kind}.{part}"), &mut visit);
        }
    }
}

#[test]
fn each_definition_keeps_its_size_budget() {
    for kind in Kind::ALL {
        let total = crd::yaml_of(kind).len();
        println!("{kind}: {total} of {} bytes", kind.size_budget());
        for part in ["spec", "status"] {
            for (name, block) in crd::schema(kind)["properties"][part]["properties"].as_object().into_iter().flatten() {
                let bytes = serde_yaml_ng::to_string(block).map(|text| text.len()).unwrap_or_default();
                println!("  {part}.{name}: {bytes} bytes");
            }
        }
        assert!(total <= kind.size_budget(), "{kind} has {total} bytes");
    }
}

#[test]
fn everything_has_a_longest_length() {
    every_schema(|schema, path| {
        let has = |key: &str| schema.get(key).is_some();
        match schema["type"].as_str() {
            Some("string") => assert!(has("maxLength") || has("enum"), "{path} has no maxLength"),
            Some("array") => assert!(has("maxItems"), "{path} has no maxItems"),
            Some("object") if has("additionalProperties") => {
                assert!(has("maxProperties"), "{path} has no maxProperties")
            }
            Some("object" | "integer" | "boolean") => {}
            None => assert!(has("x-kubernetes-int-or-string") && has("maxLength"), "{path} has no type"),
            other => assert!(other.is_none(), "{path} is {other:?}, which no field may be"),
        }
    });
}

#[test]
fn nothing_has_a_default_and_nothing_is_nullable() {
    every_schema(|schema, path| {
        for key in ["default", "nullable", "title", "format"] {
            assert!(schema.get(key).is_none() || schema["format"] == "date-time", "{path} has {key}");
        }
    });
}

#[test]
fn every_field_is_explained() {
    every_schema(|schema, path| {
        for (name, child) in schema["properties"].as_object().into_iter().flatten() {
            let text = child["description"].as_str().unwrap_or_default();
            assert!(text.ends_with('.'), "{path}.{name}: {text:?}");
        }
    });
}

#[test]
fn every_pattern_compiles_and_is_anchored() {
    every_schema(|schema, path| {
        if let Some(pattern) = schema["pattern"].as_str() {
            assert!(pattern.starts_with('^') && pattern.ends_with('$'), "{path}: {pattern}");
            assert!(regex::Regex::new(pattern).is_ok(), "{path}: {pattern}");
        }
    });
}

#[test]
fn values_of_enums_are_written_in_camel_case() {
    every_schema(|schema, path| {
        for value in schema["enum"].as_array().into_iter().flatten() {
            let text = value.as_str().unwrap_or_default();
            assert!(text.starts_with(|c: char| c.is_ascii_uppercase()), "{path}: {value}");
            assert!(text.chars().all(|c| c.is_ascii_alphanumeric()), "{path}: {value}");
        }
    });
}

#[test]
fn conditions_are_a_map_by_type_so_that_two_managers_can_write_them() {
    for kind in Kind::ALL {
        let conditions = &crd::schema(kind)["properties"]["status"]["properties"]["conditions"];
        assert_eq!(conditions["x-kubernetes-list-type"], "map");
        assert_eq!(conditions["x-kubernetes-list-map-keys"], serde_json::json!(["type"]));
    }
}

#[test]
fn the_kinds_have_their_names_columns_and_status_subresource() {
    let spec = |kind| &definition_value(kind)["spec"];
    for (kind, short_name) in [(Kind::ReportPolicy, "rpol"), (Kind::CollectorTarget, "ctgt")] {
        assert_eq!(spec(kind)["names"]["shortNames"], serde_json::json!([short_name]));
        assert_eq!(spec(kind)["names"]["categories"], serde_json::json!(["reporting"]));
        assert_eq!(spec(kind)["names"]["plural"], kind.plural());
        assert_eq!(spec(kind)["scope"], "Namespaced");
        assert_eq!(spec(kind)["versions"][0]["subresources"], serde_json::json!({"status": {}}));
        crd::definition(kind);
    }
    let columns = |kind| -> Vec<&str> {
        let columns = spec(kind)["versions"][0]["additionalPrinterColumns"].as_array();
        columns.into_iter().flatten().filter_map(|column| column["name"].as_str()).collect()
    };
    assert_eq!(columns(Kind::ReportPolicy), ["Server", "Storage", "Ready", "Reason", "Age"]);
    assert_eq!(columns(Kind::CollectorTarget), ["Type", "Nodes", "Up", "Ready", "Reason", "Age"]);
}
