//! The objects as `/ers/v1/objects` and the page show them.

use ers_crds::conditions::Condition;
use ers_crds::validate::{HostSource, TargetKind, ValidatedCollectorTarget, ValidatedReportPolicy};
use ers_crds::{CollectorTarget, Kind, ReportPolicy};
use ers_source::ObjectKey;
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::{KnownPolicy, KnownTarget, Picture};
use crate::app::App;

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ObjectEntry {
    pub kind: &'static str,
    pub namespace: String,
    pub name: String,
    pub generation: i64,
    pub observed_generation: Option<i64>,
    pub active_generation: Option<i64>,
    pub conditions: Vec<Condition>,
}

/// The policy, then the targets by name.
pub fn entries(app: &App, picture: &Picture) -> Vec<ObjectEntry> {
    let mut entries = Vec::new();
    if picture.policy.object.is_some() || picture.policy.refusal.is_some() {
        entries.push(policy_entry(app, &picture.policy));
    }
    entries.extend(picture.targets.iter().map(|(name, known)| target_entry(app, name, known)));
    entries
}

/// As `entries`, each with a flat summary of the spec in force.
pub fn detailed(app: &App, picture: &Picture) -> Vec<Value> {
    entries(app, picture)
        .into_iter()
        .map(|entry| {
            let spec = match entry.kind {
                "ReportPolicy" => picture.policy.active.as_deref().map(policy_spec),
                _ => picture.targets.get(&entry.name).and_then(|known| known.active.as_deref()).map(target_spec),
            };
            let mut value = json!(entry);
            value["spec"] = Value::Object(spec.unwrap_or_default());
            value
        })
        .collect()
}

/// What the object's status says, wherever it is kept.
struct Status {
    observed: Option<i64>,
    active: Option<i64>,
    conditions: Vec<Condition>,
}

fn entry(app: &App, kind: Kind, name: &str, generation: i64, watched: Option<Status>) -> ObjectEntry {
    let key = ObjectKey { kind, namespace: app.config.namespace.clone(), name: name.to_owned() };
    let status = match &app.kept_statuses {
        None => watched,
        Some(kept) => kept.status(&key).map(|status| Status {
            observed: status["observedGeneration"].as_i64(),
            active: status["activeGeneration"].as_i64(),
            conditions: serde_json::from_value(status["conditions"].clone()).unwrap_or_default(),
        }),
    };
    let status = status.unwrap_or(Status { observed: None, active: None, conditions: Vec::new() });
    ObjectEntry {
        kind: kind.name(),
        namespace: key.namespace,
        name: key.name,
        generation,
        observed_generation: status.observed,
        active_generation: status.active,
        conditions: status.conditions,
    }
}

fn policy_entry(app: &App, known: &KnownPolicy) -> ObjectEntry {
    let generation =
        newest(known.object.as_ref().and_then(|object| object.metadata.generation), known.refusal.as_ref());
    let watched = known.object.as_deref().and_then(|object: &ReportPolicy| {
        let status = object.status.as_ref()?;
        Some(Status {
            observed: status.observed_generation,
            active: status.active_generation,
            conditions: status.conditions.clone(),
        })
    });
    entry(app, Kind::ReportPolicy, &app.config.policy, generation, watched)
}

fn target_entry(app: &App, name: &str, known: &KnownTarget) -> ObjectEntry {
    let generation =
        newest(known.object.as_ref().and_then(|object| object.metadata.generation), known.refusal.as_ref());
    let watched = known.object.as_deref().and_then(|object: &CollectorTarget| {
        let status = object.status.as_ref()?;
        Some(Status {
            observed: status.observed_generation,
            active: status.active_generation,
            conditions: status.conditions.clone(),
        })
    });
    entry(app, Kind::CollectorTarget, name, generation, watched)
}

fn newest(object: Option<i64>, refusal: Option<&super::Refusal>) -> i64 {
    super::conditions::newest_generation(object, refusal).unwrap_or(0)
}

fn policy_spec(valid: &ValidatedReportPolicy) -> Map<String, Value> {
    let secrets: Vec<&str> = valid.secrets.iter().map(|secret| secret.name.as_str()).collect();
    fields([
        ("managementState", json!(valid.management_state.as_str())),
        ("secrets", json!(secrets)),
        ("replicas", json!(valid.server.replicas)),
        ("tlsSecret", valid.server.tls_secret.as_ref().map_or(json!("made by the server"), |name| json!(name))),
        ("storageSize", json!(valid.storage.size.to_string())),
        ("retentionDays", json!(valid.storage.retention_days)),
    ])
}

fn target_spec(valid: &ValidatedCollectorTarget) -> Map<String, Value> {
    let mut spec = fields([
        ("managementState", json!(valid.management_state.as_str())),
        ("type", json!(valid.kind.target_type().as_str())),
        ("intervalSeconds", json!(valid.interval_seconds)),
        ("timeoutSeconds", json!(valid.timeout_seconds)),
        ("maxSeries", json!(valid.limits.max_series)),
        ("spoolMaxBytes", json!(valid.spool_max_bytes)),
    ]);
    match &valid.kind {
        TargetKind::Node { node_selector, sources, .. } => {
            let selector: Vec<String> = node_selector.iter().map(|(name, value)| format!("{name}={value}")).collect();
            spec.insert("nodeSelector".to_owned(), json!(selector));
            let sources: Vec<String> = sources
                .iter()
                .map(|source| match source {
                    HostSource::HostMetrics { name } => format!("{name} (HostMetrics)"),
                    HostSource::Kubelet { name, .. } => format!("{name} (Kubelet)"),
                })
                .collect();
            spec.insert("sources".to_owned(), json!(sources));
        }
        TargetKind::Pod { selector, endpoints } => {
            spec.insert("selector".to_owned(), json!(selector));
            let endpoints: Vec<String> =
                endpoints.iter().map(|endpoint| format!("{}{}", endpoint.port.as_str(), endpoint.path)).collect();
            spec.insert("endpoints".to_owned(), json!(endpoints));
        }
    }
    spec
}

fn fields<const N: usize>(pairs: [(&str, Value); N]) -> Map<String, Value> {
    pairs.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}
