//! `POST /validate`: an `AdmissionReview` of `admission.k8s.io/v1` in, the same with a verdict out.
//!
//! The verdict is that of `ers_crds::validate::document`, word for word: one cause per broken rule, with its field.
//! What is not a review of one of our kinds gets 400 with the reason, and so counts as a failed call.

use actix_web::{HttpResponse, web};
use ers_crds::Kind;
use ers_crds::validate::{self, UnknownFields, Violations};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;
use serde::Deserialize;
use serde_json::{Value, json};

const API_VERSION: &str = "admission.k8s.io/v1";

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Labels {
    kind: &'static str,
    /// `Allowed`, `Refused` or `Malformed`.
    verdict: &'static str,
}

/// Counts reviews; cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Metrics {
    reviews: Family<Labels, Counter>,
}

impl Metrics {
    pub fn register(&self, registry: &mut Registry) {
        registry.register("admission_reviews", "Objects judged for the API server", self.reviews.clone());
    }

    fn count(&self, kind: &'static str, verdict: &'static str) {
        self.reviews.get_or_create(&Labels { kind, verdict }).inc();
    }
}

/// Why a request is no review that can be answered.
#[derive(Debug, thiserror::Error)]
enum Malformed {
    #[error("the body is no AdmissionReview: {0}")]
    Json(#[source] serde_json::Error),
    #[error("the body is a {api_version} {kind}, but must be an {API_VERSION} AdmissionReview")]
    Type { api_version: String, kind: String },
    #[error("the review holds no request")]
    NoRequest,
    #[error("the request's uid is empty")]
    NoUid,
    #[error("{group}/{version} {kind} is none of the kinds judged here")]
    Kind { group: String, version: String, kind: String },
    #[error("operation {0} is not judged here; only CREATE and UPDATE are")]
    Operation(String),
    #[error("the request holds no object")]
    NoObject,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Review {
    #[serde(default)]
    api_version: String,
    #[serde(default)]
    kind: String,
    request: Option<Request>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Request {
    #[serde(default)]
    uid: String,
    kind: GroupVersionKind,
    operation: String,
    object: Option<Value>,
    old_object: Option<Value>,
}

#[derive(Deserialize)]
struct GroupVersionKind {
    group: String,
    version: String,
    kind: String,
}

/// The handler.
pub async fn validate(body: web::Bytes, metrics: web::Data<Metrics>) -> HttpResponse {
    match judge(&body) {
        Ok((kind, answer, verdict)) => {
            metrics.count(kind.name(), verdict);
            HttpResponse::Ok().json(answer)
        }
        Err(error) => {
            metrics.count("Unknown", "Malformed");
            tracing::warn!(error = %error, "a malformed admission review was refused");
            HttpResponse::BadRequest().body(format!("{error}\n"))
        }
    }
}

fn judge(body: &[u8]) -> Result<(Kind, Value, &'static str), Malformed> {
    let review: Review = serde_json::from_slice(body).map_err(Malformed::Json)?;
    if review.api_version != API_VERSION || review.kind != "AdmissionReview" {
        return Err(Malformed::Type { api_version: review.api_version, kind: review.kind });
    }
    let Request { uid, kind: GroupVersionKind { group, version, kind }, operation, object, old_object } =
        review.request.ok_or(Malformed::NoRequest)?;
    if uid.is_empty() {
        return Err(Malformed::NoUid);
    }
    let ours = Kind::from_name(&kind).filter(|_| group == ers_crds::GROUP && version == ers_crds::VERSION);
    let Some(ours) = ours else { return Err(Malformed::Kind { group, version, kind }) };
    if operation != "CREATE" && operation != "UPDATE" {
        return Err(Malformed::Operation(operation));
    }
    let object = object.filter(|object| !object.is_null()).ok_or(Malformed::NoObject)?;
    let old = old_object.filter(|object| !object.is_null());
    let verdict =
        validate::document(ours, &without_status(object), old.map(without_status).as_ref(), UnknownFields::Ignore);
    let (response, word) = match verdict {
        Ok(_) => (json!({"uid": uid, "allowed": true}), "Allowed"),
        Err(violations) => (refusal(&uid, &violations), "Refused"),
    };
    Ok((ours, json!({"apiVersion": API_VERSION, "kind": "AdmissionReview", "response": response}), word))
}

/// A status has a writer of its own and is not judged here.
fn without_status(mut object: Value) -> Value {
    if let Some(fields) = object.as_object_mut() {
        fields.remove("status");
    }
    object
}

fn refusal(uid: &str, violations: &Violations) -> Value {
    let causes: Vec<Value> = violations
        .0
        .iter()
        .map(|violation| json!({"reason": "FieldValueInvalid", "field": violation.field, "message": violation.message}))
        .collect();
    json!({
        "uid": uid,
        "allowed": false,
        "status": {
            "code": 422,
            "reason": "Invalid",
            "message": violations.to_string(),
            "details": {"causes": causes},
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn review(kind: &str, operation: &str, object: Value, old: Value) -> Value {
        json!({
            "apiVersion": API_VERSION,
            "kind": "AdmissionReview",
            "request": {
                "uid": "u-1",
                "kind": {"group": "reporting.ers.dev", "version": "v1alpha1", "kind": kind},
                "operation": operation,
                "object": object,
                "oldObject": old,
            },
        })
    }

    fn policy(spec: Value) -> Value {
        json!({
            "apiVersion": "reporting.ers.dev/v1alpha1",
            "kind": "ReportPolicy",
            "metadata": {"name": "reporting", "namespace": "demo", "uid": "1", "generation": 1, "managedFields": []},
            "spec": spec,
            "status": {"conditions": [{"type": "Ready"}]},
        })
    }

    fn answer(review: &Value) -> Value {
        judge(review.to_string().as_bytes()).expect("well formed").1
    }

    #[test]
    fn a_valid_object_is_allowed_and_its_status_is_not_looked_at() {
        let answer = answer(&review("ReportPolicy", "CREATE", policy(json!({})), Value::Null));
        assert_eq!(
            answer,
            json!({"apiVersion": API_VERSION, "kind": "AdmissionReview", "response": {"uid": "u-1", "allowed": true}})
        );
    }

    #[test]
    fn a_refusal_names_field_and_rule() {
        let answer =
            answer(&review("ReportPolicy", "CREATE", policy(json!({"managementState": "Maybe"})), Value::Null));
        let response = &answer["response"];
        assert_eq!(response["allowed"], false);
        assert_eq!(response["status"]["details"]["causes"][0]["field"], "spec.managementState", "{response}");
        assert!(response["status"]["message"].as_str().is_some_and(|text| text.contains("spec.managementState")));
    }

    #[test]
    fn rules_between_two_versions_see_both() {
        let of_type = |kind: &str, block: &str, spec: Value| {
            json!({
                "apiVersion": "reporting.ers.dev/v1alpha1",
                "kind": "CollectorTarget",
                "metadata": {"name": "t", "namespace": "demo"},
                "spec": {"type": kind, block: spec},
            })
        };
        let node = of_type("Node", "node", json!({"sources": [{"name": "host", "kind": "HostMetrics"}]}));
        let pods = of_type("Pod", "pod", json!({"selector": {}, "endpoints": [{"port": "metrics"}]}));
        let answer = answer(&review("CollectorTarget", "UPDATE", pods, node));
        let message = answer["response"]["status"]["message"].as_str().unwrap_or_default().to_owned();
        assert!(message.contains("collectortarget-type-immutable"), "{message}");
    }

    #[track_caller]
    fn malformed(body: &Value, expect: &str) {
        let error = judge(body.to_string().as_bytes()).expect_err("malformed");
        assert!(error.to_string().contains(expect), "{error}");
    }

    #[test]
    fn what_is_no_review_of_ours_is_refused_with_the_reason() {
        assert!(judge(b"not json").expect_err("malformed").to_string().starts_with("the body is no AdmissionReview"));
        malformed(&json!({"apiVersion": "v1", "kind": "Pod"}), "v1 Pod");
        malformed(&json!({"apiVersion": API_VERSION, "kind": "AdmissionReview"}), "no request");
        malformed(&review("Pod", "CREATE", json!({}), Value::Null), "none of the kinds");
        malformed(&review("ReportPolicy", "DELETE", json!({}), Value::Null), "DELETE");
        malformed(&review("ReportPolicy", "CREATE", Value::Null, Value::Null), "no object");
    }
}
