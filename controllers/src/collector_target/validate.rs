//! Whether a target may come into force. Pure.

use ers_crds::collector_target::HostAccess;
use ers_crds::conditions::reasons;
use ers_crds::validate::ValidatedCollectorTarget;
use ers_crds::{CollectorTarget, CollectorTargetSpec};
use ers_model::names::{HOST_ACCESS_ALLOWED, HOST_ACCESS_LABEL};

use super::dereference::Found;
use crate::judge::{Refusal, Verdict};
use crate::world::Object;

/// What was accepted.
#[derive(Debug)]
pub struct Accepted {
    pub target: ValidatedCollectorTarget,
    pub spec: CollectorTargetSpec,
    /// Name of the policy whose server takes the samples.
    pub policy: String,
}

pub fn validate(object: &Object<CollectorTarget>, found: &Found) -> (Verdict, Option<Accepted>) {
    match judge(object, found) {
        Ok(accepted) => (Verdict::Accepted, Some(accepted)),
        Err(verdict) => (verdict, None),
    }
}

/// Whether the target needs a permission that its namespace does not carry. What a kubelet tells is about every pod of
/// its node, so its metrics need the same label as the host's files.
pub fn lacks_permission(target: &ValidatedCollectorTarget, found: &Found) -> bool {
    !found.host_access && (target.workload.host_access == HostAccess::ReadOnly || target.scrapes_kubelet())
}

fn judge(object: &Object<CollectorTarget>, found: &Found) -> Result<Accepted, Verdict> {
    let refuse = |reason, message: String| Verdict::Refused(Refusal::new(reason, message));
    let object = match object {
        Object::Readable(object) => object,
        Object::Unreadable { error, .. } => {
            let message = format!("this version of the operator cannot read the object: {error}");
            return Err(refuse(reasons::UNREADABLE, message));
        }
    };
    let target = ers_crds::validate::collector_target(object, None)
        .map_err(|violations| refuse(reasons::INVALID, violations.to_string()))?;
    if lacks_permission(&target, found) {
        let namespace = &target.identity.namespace;
        return Err(Verdict::Refused(Refusal {
            reason: reasons::NAMESPACE_NOT_ALLOWED,
            message: format!(
                "host access and kubelet metrics need a permission on namespace `{namespace}`; a cluster administrator gives it with: kubectl label namespace {namespace} {HOST_ACCESS_LABEL}={HOST_ACCESS_ALLOWED}"
            ),
            revokes: true,
        }));
    }
    let policy = match (&target.policy, &found.served_by) {
        (None, Some(serving)) => serving.clone(),
        (Some(named), Some(serving)) if named == serving => serving.clone(),
        (Some(named), Some(serving)) => {
            return Err(Verdict::Waiting {
                reason: reasons::REF_NOT_FOUND,
                message: format!(
                    "spec.reportPolicyRef.name: ReportPolicy `{named}` does not serve this namespace, `{serving}` does; leave the reference out, or name that one"
                ),
            });
        }
        (Some(named), None) => {
            return Err(Verdict::Waiting {
                reason: reasons::REF_NOT_FOUND,
                message: format!("spec.reportPolicyRef.name: ReportPolicy `{named}` is not there yet"),
            });
        }
        (None, None) => {
            return Err(Verdict::Waiting {
                reason: reasons::REF_NOT_FOUND,
                message: "there is no ReportPolicy in this namespace yet, whose server could take the samples"
                    .to_owned(),
            });
        }
    };
    Ok(Accepted { target, spec: object.spec.clone(), policy })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn target(spec: Value) -> Object<CollectorTarget> {
        let mut object = CollectorTarget::new("t", serde_json::from_value(spec).expect("spec"));
        object.metadata.namespace = Some("demo".to_owned());
        Object::Readable(Box::new(object))
    }

    fn host() -> Object<CollectorTarget> {
        target(json!({"type": "Node", "node": {"sources": [{"name": "host", "kind": "HostMetrics"}]}}))
    }

    fn kubelet_only() -> Object<CollectorTarget> {
        target(json!({"type": "Node", "node": {"sources": [{"name": "kubelet", "kind": "Kubelet"}]}}))
    }

    fn pods(policy: Option<&str>) -> Object<CollectorTarget> {
        let mut spec = json!({"type": "Pod", "pod": {"selector": {}, "endpoints": [{"port": "metrics"}]}});
        if let Some(name) = policy {
            spec["reportPolicyRef"] = json!({"name": name});
        }
        target(spec)
    }

    fn found(policy: Option<&str>, host_access: bool) -> Found {
        Found { served_by: policy.map(str::to_owned), host_access, nodes: Vec::new() }
    }

    #[track_caller]
    fn check(object: &Object<CollectorTarget>, found: &Found, expect: (&str, &str)) {
        let (verdict, accepted) = validate(object, found);
        let (reason, message) = match verdict {
            Verdict::Accepted => ("Accepted", accepted.expect("accepted").policy),
            Verdict::Refused(refusal) => (refusal.reason, refusal.message),
            Verdict::Waiting { reason, message } => (reason, message),
        };
        assert_eq!(reason, expect.0);
        assert!(message.contains(expect.1), "{message}");
    }

    #[test]
    fn the_namespaces_policy_takes_the_samples_unless_another_is_named() {
        check(&pods(None), &found(Some("reporting"), false), ("Accepted", "reporting"));
        check(&pods(Some("reporting")), &found(Some("reporting"), false), ("Accepted", "reporting"));
        check(&pods(Some("other")), &found(Some("reporting"), false), ("RefNotFound", "`reporting` does"));
        check(&pods(Some("other")), &found(None, false), ("RefNotFound", "`other` is not there yet"));
        check(&pods(None), &found(None, false), ("RefNotFound", "no ReportPolicy"));
    }

    #[test]
    fn host_access_and_kubelets_need_a_label_and_pods_do_not() {
        check(&host(), &found(Some("p"), false), ("NamespaceNotAllowed", "kubectl label namespace demo"));
        check(&kubelet_only(), &found(Some("p"), false), ("NamespaceNotAllowed", "kubectl label namespace demo"));
        check(&host(), &found(Some("p"), true), ("Accepted", "p"));
        check(&kubelet_only(), &found(Some("p"), true), ("Accepted", "p"));
    }

    #[test]
    fn a_missing_permission_is_told_before_a_missing_policy() {
        check(&host(), &found(None, false), ("NamespaceNotAllowed", ""));
    }

    #[test]
    fn what_breaks_a_rule_is_refused_with_field_and_rule() {
        let broken = target(json!({"type": "Pod"}));
        check(&broken, &found(Some("p"), true), ("Invalid", "collectortarget-block-matches-type"));
        let unreadable = Object::Unreadable { metadata: Box::default(), error: "unknown variant".to_owned() };
        check(&unreadable, &found(Some("p"), true), ("Unreadable", "unknown variant"));
    }
}
