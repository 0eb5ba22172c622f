//! Judges one object: spec -> `Validated*`, or every [`Violation`] with its field path, rule id and message.
//!
//! Pure: no client, no clock, no other objects. Three layers, in the order of the API server:
//! 1. the structural schema ([`schema`]); if it is broken, the others are not asked, as in the API server;
//! 2. the CEL rules of the definition, evaluated by the same text that the API server evaluates ([`rules`]);
//! 3. what CEL can't say, in Rust ([`report_policy`], [`collector_target`]); the webhook speaks it in the cluster.
//!
//! The message of a rule ends in its id in brackets, so that it is the same text wherever it is shown.

use std::fmt;

use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::crd::Kind;
use crate::{CollectorTarget, ReportPolicy};

mod collector_target;
mod effective;
mod report_policy;
mod rules;
pub mod schema;

pub use collector_target::{
    EffectiveLimits, HostSource, TargetKind, ValidatedCollectorTarget, ValidatedEndpoint, ValidatedWorkload,
};
pub use effective::EffectiveResources;
pub use report_policy::{ServerSettings, StorageSettings, ValidatedReportPolicy};

/// One broken rule.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Violation {
    /// Where, in the API server's notation: `spec.node.sources[0].kubelet`.
    pub field: String,
    /// Which rule, such as `collectortarget-block-matches-type`, or `schema-enum` for a violation of the schema.
    pub rule: String,
    /// What is wrong; the text that the API server prints after the field's path.
    pub message: String,
}

impl Violation {
    pub(crate) fn new(field: impl Into<String>, rule: impl Into<String>, message: impl Into<String>) -> Self {
        Violation { field: field.into(), rule: rule.into(), message: message.into() }
    }

    /// A violation of a rule with an id, which is appended to the message as the CEL rules have it.
    pub(crate) fn of_rule(field: impl Into<String>, rule: &str, message: impl fmt::Display) -> Self {
        Violation::new(field, rule, format!("{message} [{rule}]"))
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.field, self.message)
    }
}

/// Everything that is wrong with one object; never empty.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct Violations(pub Vec<Violation>);

impl fmt::Display for Violations {
    /// One line: `spec.a: message; spec.b: message`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, violation) in self.0.iter().enumerate() {
            if at > 0 {
                f.write_str("; ")?;
            }
            violation.fmt(f)?;
        }
        Ok(())
    }
}

/// Who an object is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Empty in a manifest that leaves it to `kubectl -n`.
    pub namespace: String,
    pub name: String,
    /// `None` before the object is stored.
    pub uid: Option<String>,
    /// 0 before the object is stored.
    pub generation: i64,
}

impl Identity {
    fn of(metadata: &kube::core::ObjectMeta) -> Self {
        Identity {
            namespace: metadata.namespace.clone().unwrap_or_default(),
            name: metadata.name.clone().unwrap_or_default(),
            uid: metadata.uid.clone(),
            generation: metadata.generation.unwrap_or(0),
        }
    }
}

/// A validated object of either kind.
#[derive(Clone, Debug, PartialEq)]
pub enum Validated {
    ReportPolicy(Box<ValidatedReportPolicy>),
    CollectorTarget(Box<ValidatedCollectorTarget>),
}

/// What to do with fields that the schema does not know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnknownFields {
    /// As strict clients, `check` and standalone do.
    Refuse,
    /// As the API server does, which prunes them.
    Ignore,
}

/// Judges a ReportPolicy that was read from the cluster. With `old`, transition rules are judged too.
pub fn report_policy(new: &ReportPolicy, old: Option<&ReportPolicy>) -> Result<ValidatedReportPolicy, Violations> {
    let value = without_status(new);
    judge_schema_and_rules(Kind::ReportPolicy, &value, old.map(without_status).as_ref(), UnknownFields::Ignore)?;
    report_policy::validate(new)
}

/// Judges a CollectorTarget that was read from the cluster. With `old`, transition rules are judged too.
pub fn collector_target(
    new: &CollectorTarget,
    old: Option<&CollectorTarget>,
) -> Result<ValidatedCollectorTarget, Violations> {
    let value = without_status(new);
    judge_schema_and_rules(Kind::CollectorTarget, &value, old.map(without_status).as_ref(), UnknownFields::Ignore)?;
    collector_target::validate(new)
}

/// Judges an object as it was written: a manifest, or what an admission request holds. Its status is not looked at.
pub fn document(
    kind: Kind,
    new: &Value,
    old: Option<&Value>,
    unknown_fields: UnknownFields,
) -> Result<Validated, Violations> {
    let new = pruned(kind, new);
    let old = old.map(|old| pruned(kind, old));
    judge_schema_and_rules(kind, &new, old.as_ref(), unknown_fields)?;
    match kind {
        Kind::ReportPolicy => {
            report_policy::validate(&typed(&new)?).map(|valid| Validated::ReportPolicy(Box::new(valid)))
        }
        Kind::CollectorTarget => {
            collector_target::validate(&typed(&new)?).map(|valid| Validated::CollectorTarget(Box::new(valid)))
        }
    }
}

fn judge_schema_and_rules(
    kind: Kind,
    new: &Value,
    old: Option<&Value>,
    unknown_fields: UnknownFields,
) -> Result<(), Violations> {
    let schema::Judgement { mut violations, blocks_rules } =
        schema::judge(crate::crd::schema(kind), new, unknown_fields);
    if !blocks_rules {
        violations.extend(rules::judge(kind, new, old));
    }
    if violations.is_empty() { Ok(()) } else { Err(Violations(violations)) }
}

/// What is left of an object once the API server has dropped empty fields; without the status, which has writers and rules
/// of its own.
fn pruned(kind: Kind, value: &Value) -> Value {
    let mut value = value.clone();
    if let Some(fields) = value.as_object_mut() {
        fields.remove("status");
    }
    schema::prune_nulls(crate::crd::schema(kind), &mut value);
    value
}

fn without_status<K: serde::Serialize>(object: &K) -> Value {
    let mut value = serde_json::to_value(object).expect("our kinds are made of JSON values");
    if let Some(fields) = value.as_object_mut() {
        fields.remove("status");
    }
    value
}

/// Reads what the schema permitted. A failure here means that schema and type disagree, and is told as a violation.
fn typed<K: DeserializeOwned>(value: &Value) -> Result<K, Violations> {
    serde_json::from_value(value.clone())
        .map_err(|error| Violations(vec![Violation::new("", "schema-unreadable", format!("can't be read: {error}"))]))
}
