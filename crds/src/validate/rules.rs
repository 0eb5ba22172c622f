//! The CEL rules of the definitions, evaluated offline by kube's own engine: the same text that the API server evaluates,
//! so that there is nothing to keep equal by hand.

use std::sync::OnceLock;

use kube::core::cel::{CompiledSchema, Validator, compile_schema};
use serde_json::Value;

use super::Violation;
use crate::crd::Kind;

/// Evaluates every rule of the kind. Transition rules are asked only with `old`.
pub(super) fn judge(kind: Kind, new: &Value, old: Option<&Value>) -> Vec<Violation> {
    let compiled = compiled(kind);
    match Validator::new().validate_compiled(compiled, new, old) {
        Ok(()) => Vec::new(),
        Err(errors) => errors
            .into_iter()
            .map(|error| {
                // A rule that can't be evaluated refuses the object, here as in the API server.
                let rule = rule_id(&error.message).unwrap_or("cel-evaluation").to_string();
                // At the root the engine keeps the dot in front of the relative path; the API server does not.
                let field = error.field_path.strip_prefix('.').unwrap_or(&error.field_path);
                Violation::new(field, rule, error.message)
            })
            .collect(),
    }
}

fn compiled(kind: Kind) -> &'static CompiledSchema {
    static REPORT_POLICY: OnceLock<CompiledSchema> = OnceLock::new();
    static COLLECTOR_TARGET: OnceLock<CompiledSchema> = OnceLock::new();
    let cell = match kind {
        Kind::ReportPolicy => &REPORT_POLICY,
        Kind::CollectorTarget => &COLLECTOR_TARGET,
    };
    cell.get_or_init(|| compile_schema(crate::crd::schema(kind)))
}

/// The id in brackets at the end of a message.
pub(super) fn rule_id(message: &str) -> Option<&str> {
    let inner = message.strip_suffix(']')?;
    inner.rsplit_once('[').map(|(_, id)| id)
}
