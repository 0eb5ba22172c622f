//! The table of bad manifests: what `check`, the webhook and standalone say about each.
//!
//! `bad_manifests.yaml` is plain data, so that the end-to-end suite can put the same table to a real API server.

use ers_crds::Kind;
use ers_crds::crd;
use ers_crds::validate::{self, UnknownFields, Violation};
use serde::Deserialize;
use serde_json::Value;

const TABLE: &str = include_str!("bad_manifests.yaml");

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    case: String,
    by: By,
    #[serde(default)]
    old: Option<Value>,
    object: Value,
    expect: Vec<Expected>,
}

/// Who refuses it in a cluster; see the head of the table.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
enum By {
    Strict,
    Schema,
    Cel,
    Webhook,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Expected {
    field: String,
    rule: String,
    message: String,
}

fn cases() -> Vec<Case> {
    serde_yaml_ng::Deserializer::from_str(TABLE)
        .map(|document| Case::deserialize(document).expect("every document of the table is a case"))
        .collect()
}

fn kind_of(object: &Value) -> Kind {
    object["kind"].as_str().and_then(Kind::from_name).expect("every case names a kind")
}

#[test]
fn every_bad_manifest_is_refused_at_the_expected_field_by_the_expected_rule_with_the_expected_message() {
    let mut wrong = Vec::new();
    for Case { case, by: _, old, object, expect } in cases() {
        let found = match validate::document(kind_of(&object), &object, old.as_ref(), UnknownFields::Refuse) {
            Ok(_) => Vec::new(),
            Err(violations) => violations.0,
        };
        let wanted: Vec<Violation> =
            expect.into_iter().map(|Expected { field, rule, message }| Violation { field, rule, message }).collect();
        if found != wanted {
            wrong.push(format!("{case}\n  found:  {found:#?}\n  wanted: {wanted:#?}"));
        }
    }
    assert!(wrong.is_empty(), "{} cases differ:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn every_old_object_of_the_table_is_good() {
    for Case { case, old, .. } in cases() {
        if let Some(old) = old {
            let verdict = validate::document(kind_of(&old), &old, None, UnknownFields::Refuse);
            assert!(verdict.is_ok(), "{case}: {verdict:?}");
        }
    }
}

#[test]
fn the_table_has_at_least_forty_cases_and_each_has_a_name_of_its_own() {
    let mut names: Vec<String> = cases().into_iter().map(|case| case.case).collect();
    let count = names.len();
    names.sort();
    names.dedup();
    assert_eq!(names.len(), count);
    assert!(count >= 40, "{count} cases");
}

#[test]
fn every_rule_of_the_definitions_has_a_case() {
    fn rules_of(schema: &Value, ids: &mut Vec<String>) {
        for rule in schema["x-kubernetes-validations"].as_array().into_iter().flatten() {
            let message = rule["message"].as_str().expect("every rule has a message");
            let id = message.rsplit_once(" [").and_then(|(_, id)| id.strip_suffix(']'));
            assert!(id.is_some(), "no id at the end of {message:?}");
            ids.extend(id.map(str::to_string));
        }
        match schema {
            Value::Object(fields) => fields.values().for_each(|child| rules_of(child, ids)),
            Value::Array(items) => items.iter().for_each(|child| rules_of(child, ids)),
            _ => {}
        }
    }
    let mut ids = Vec::new();
    for kind in Kind::ALL {
        rules_of(crd::schema(kind), &mut ids);
    }
    ids.sort();
    ids.dedup();
    let told: Vec<String> = cases().into_iter().flat_map(|case| case.expect).map(|expected| expected.rule).collect();
    let missing: Vec<&String> = ids.iter().filter(|id| !told.contains(id)).collect();
    assert!(missing.is_empty(), "rules without a case: {missing:?}");
}

#[test]
fn the_table_says_rightly_who_refuses() {
    for Case { case, by, expect, .. } in cases() {
        let judge = |rule: &str| match rule {
            "schema-unknown-field" => By::Strict,
            "label-key" | "collectortarget-port" => By::Webhook,
            rule if rule.starts_with("schema-") => By::Schema,
            _ => By::Cel,
        };
        let first = expect.iter().map(|expected| judge(&expected.rule)).min();
        assert_eq!(first, Some(by), "{case}");
    }
}
