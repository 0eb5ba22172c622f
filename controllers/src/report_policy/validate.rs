//! Whether a policy may come into force. Pure.

use std::cmp::Ordering;

use ers_crds::conditions::reasons;
use ers_crds::validate::ValidatedReportPolicy;
use ers_crds::{ReportPolicy, ReportPolicySpec};

use super::dereference::{Claim, Found};
use crate::judge::{Refusal, Verdict};
use crate::semantic::compare_quantities;
use crate::world::Object;

/// The verdict, and what was accepted.
pub fn validate(
    object: &Object<ReportPolicy>,
    found: &Found,
) -> (Verdict, Option<(ValidatedReportPolicy, ReportPolicySpec)>) {
    match judge(object, found) {
        Ok(accepted) => (Verdict::Accepted, Some(accepted)),
        Err(refusal) => (Verdict::Refused(refusal), None),
    }
}

fn judge(object: &Object<ReportPolicy>, found: &Found) -> Result<(ValidatedReportPolicy, ReportPolicySpec), Refusal> {
    let policy = match object {
        Object::Readable(policy) => policy,
        Object::Unreadable { error, .. } => {
            let message = format!("this version of the operator cannot read the object: {error}");
            return Err(Refusal::new(reasons::UNREADABLE, message));
        }
    };
    if let Some(other) = &found.served_by {
        let message = format!(
            "ReportPolicy `{other}` is older and serves this namespace; a namespace has one ReportPolicy: delete one of the two"
        );
        return Err(Refusal::new(reasons::POLICY_CONFLICT, message));
    }
    let valid = ers_crds::validate::report_policy(policy, None)
        .map_err(|violations| Refusal::new(reasons::INVALID, violations.to_string()))?;
    if let Some(claim) = &found.claim {
        judge_volume(&valid, claim, found.class_can_grow)?;
    }
    Ok((valid, policy.spec.clone()))
}

/// The volume that is there can grow where its class permits that, and can't change otherwise.
fn judge_volume(policy: &ValidatedReportPolicy, claim: &Claim, can_grow: Option<bool>) -> Result<(), Refusal> {
    let size = policy.storage.size.as_str();
    let Claim { name, requested, class, .. } = claim;
    let class_text = class.as_deref().unwrap_or_default();
    if let Some(wanted) = &policy.storage.storage_class_name
        && wanted != class_text
    {
        return Err(Refusal::new(
            reasons::CHANGE_NOT_POSSIBLE,
            format!(
                "spec.storage.metrics.embedded.storageClassName: volume claim `{name}` is of class `{class_text}`, and a volume stays in the class it was made in; set that class, or delete the claim and its data"
            ),
        ));
    }
    match compare_quantities(size, requested) {
        Some(Ordering::Less) => Err(Refusal::new(
            reasons::CHANGE_NOT_POSSIBLE,
            format!(
                "spec.storage.metrics.embedded.size: volume claim `{name}` has {requested}, and a volume cannot shrink to {size}; set at least {requested}, or delete the claim and its data"
            ),
        )),
        Some(Ordering::Greater) if can_grow != Some(true) => Err(Refusal::new(
            reasons::CHANGE_NOT_POSSIBLE,
            format!(
                "spec.storage.metrics.embedded.size: storage class `{class_text}` of volume claim `{name}` does not let volumes grow from {requested} to {size}; set allowVolumeExpansion on the class, or keep {requested}"
            ),
        )),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn policy(spec: Value) -> Object<ReportPolicy> {
        let mut object = ReportPolicy::new("reporting", serde_json::from_value(spec).expect("spec"));
        object.metadata.namespace = Some("demo".to_owned());
        Object::Readable(Box::new(object))
    }

    fn sized(size: &str, class: Option<&str>) -> Object<ReportPolicy> {
        policy(
            json!({"storage": {"metrics": {"type": "Embedded", "embedded": {"size": size, "storageClassName": class}}}}),
        )
    }

    fn with_claim(can_grow: Option<bool>) -> Found {
        let claim = Claim {
            name: "data-reporting-server-0".to_owned(),
            requested: "10Gi".to_owned(),
            class: Some("local".to_owned()),
            ..Claim::default()
        };
        Found { claim: Some(claim), class_can_grow: can_grow, ..Found::default() }
    }

    #[track_caller]
    fn check(object: &Object<ReportPolicy>, found: &Found, expect: Result<(), (&str, &str)>) {
        let (verdict, accepted) = validate(object, found);
        match (verdict, expect) {
            (Verdict::Accepted, Ok(())) => assert!(accepted.is_some()),
            (Verdict::Refused(refusal), Err((reason, part))) => {
                assert_eq!(refusal.reason, reason);
                assert!(refusal.message.contains(part), "{}", refusal.message);
                assert!(accepted.is_none());
            }
            (verdict, expect) => panic!("{verdict:?} instead of {expect:?}"),
        }
    }

    #[test]
    fn the_smallest_policy_is_accepted() {
        check(&policy(json!({})), &Found::default(), Ok(()));
    }

    #[test]
    fn the_second_policy_of_a_namespace_is_told_which_serves_it() {
        let found = Found { served_by: Some("first".to_owned()), ..Found::default() };
        check(&policy(json!({})), &found, Err(("PolicyConflict", "`first`")));
    }

    #[test]
    fn an_object_that_cannot_be_read_is_refused_with_the_error() {
        let object = Object::Unreadable { metadata: Box::default(), error: "missing field `x`".to_owned() };
        check(&object, &Found::default(), Err(("Unreadable", "missing field `x`")));
    }

    #[test]
    fn what_breaks_a_rule_is_refused_with_field_and_rule() {
        check(&sized("1Mi", None), &Found::default(), Err(("Invalid", "reportpolicy-size-range")));
    }

    #[test]
    fn a_volume_keeps_its_class_and_never_shrinks() {
        check(&sized("10Gi", Some("local")), &with_claim(None), Ok(()));
        check(&sized("10240Mi", None), &with_claim(None), Ok(()));
        check(&sized("10Gi", Some("fast")), &with_claim(None), Err(("ChangeNotPossible", "class `local`")));
        check(&sized("9Gi", None), &with_claim(None), Err(("ChangeNotPossible", "cannot shrink")));
    }

    #[test]
    fn a_volume_grows_only_where_its_class_lets_it() {
        check(&sized("20Gi", None), &with_claim(Some(true)), Ok(()));
        check(&sized("20Gi", None), &with_claim(Some(false)), Err(("ChangeNotPossible", "allowVolumeExpansion")));
        check(&sized("20Gi", None), &with_claim(None), Err(("ChangeNotPossible", "allowVolumeExpansion")));
    }
}
