//! Writes what the operator knows into an object's status, only when it differs, and says so in an event.
//!
//! Server-side apply with the operator's own field manager: the server's conditions and fields stay untouched.

use ers_crds::conditions::{Condition, ConditionStatus, find, reasons, types};
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{DynamicObject, Patch, PatchParams};
use kube::core::ApiResource;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use kube::{Api, Client};
use serde_json::{Value, json};

use crate::error;
use crate::metrics::{ChildLabels, KindLabel, SharedMetrics};

#[derive(Debug, thiserror::Error)]
#[error("failed to write the status: {}", error::message_of(.0))]
pub struct Error(#[source] Box<kube::Error>);

pub struct StatusWriter {
    client: Client,
    kind: &'static str,
    field_manager: String,
    recorder: Recorder,
    metrics: SharedMetrics,
}

impl StatusWriter {
    pub fn new(client: Client, kind: &'static str, field_manager: String, metrics: SharedMetrics) -> Self {
        let reporter = Reporter { controller: "ers-operator".to_owned(), instance: None };
        let recorder = Recorder::new(client.clone(), reporter);
        StatusWriter { client, kind, field_manager, recorder, metrics }
    }

    /// `before` and `now` are the operator's part of the status, as JSON. Conditions are compared with the rest.
    ///
    /// # Errors
    /// When the API server does not take it. An object that is gone is no error.
    pub async fn write(
        &self,
        resource: &ApiResource,
        metadata: &ObjectMeta,
        before: (&Value, &[Condition]),
        now: (Value, &[Condition]),
    ) -> Result<(), Error> {
        let (fields_before, conditions_before) = before;
        let (fields, conditions) = now;
        if *fields_before == fields && conditions_before == conditions {
            let label = ChildLabels { kind: self.kind, object: "Status" };
            self.metrics.suppressed.get_or_create(&label).inc();
            return Ok(());
        }
        let namespace = metadata.namespace.clone().unwrap_or_default();
        let name = metadata.name.clone().unwrap_or_default();
        let mut status = fields;
        status["conditions"] = json!(conditions);
        // With the uid: an object of the same name that came in between is another one.
        let patch = json!({
            "apiVersion": resource.api_version,
            "kind": resource.kind,
            "metadata": {"name": name, "namespace": namespace, "uid": metadata.uid},
            "status": status,
        });
        let api: Api<DynamicObject> = Api::namespaced_with(self.client.clone(), &namespace, resource);
        let params = PatchParams::apply(&self.field_manager).force();
        match api.patch_status(&name, &params, &Patch::Apply(&patch)).await {
            Ok(_) => {}
            Err(error) if error::is_not_found(&error) => return Ok(()),
            Err(kube::Error::Api(status)) if status.code == 409 => return Ok(()),
            Err(error) => return Err(Error(Box::new(error))),
        }
        self.metrics.status_writes.get_or_create(&KindLabel { kind: self.kind }).inc();
        self.tell(resource, metadata, conditions_before, conditions).await;
        Ok(())
    }

    /// One event for each condition whose meaning changed. An event that cannot be written is no reason to try again.
    async fn tell(&self, resource: &ApiResource, metadata: &ObjectMeta, before: &[Condition], now: &[Condition]) {
        let reference = ObjectReference {
            api_version: Some(resource.api_version.clone()),
            kind: Some(resource.kind.clone()),
            name: metadata.name.clone(),
            namespace: metadata.namespace.clone(),
            uid: metadata.uid.clone(),
            ..ObjectReference::default()
        };
        for condition in now {
            let Some(type_) = is_told(before, condition) else { continue };
            let event = Event {
                type_,
                reason: condition.reason.clone(),
                note: Some(shortened(&condition.message)),
                action: condition.type_.clone(),
                secondary: None,
            };
            match self.recorder.publish(&event, &reference).await {
                Ok(()) => {
                    self.metrics.events.get_or_create(&KindLabel { kind: self.kind }).inc();
                }
                Err(error) => tracing::warn!(error = %error::message_of(&error), "an event was not written"),
            }
        }
    }
}

/// Whether a condition's change is worth an event, and of which type.
fn is_told(before: &[Condition], condition: &Condition) -> Option<EventType> {
    let known = find(before, &condition.type_);
    if known.is_some_and(|known| known.status == condition.status && known.reason == condition.reason) {
        return None;
    }
    let bad = match condition.type_.as_str() {
        types::DEGRADED => condition.status == ConditionStatus::True,
        _ => condition.status == ConditionStatus::False || condition.reason == reasons::REF_NOT_FOUND,
    };
    // Programmed, accepted and not degraded are what everybody expects; Ready is worth telling.
    let good = condition.type_ == types::READY && condition.status == ConditionStatus::True;
    match (bad, good) {
        (true, _) => Some(EventType::Warning),
        (false, true) => Some(EventType::Normal),
        (false, false) => None,
    }
}

/// The API server refuses notes over 1 KiB.
fn shortened(message: &str) -> String {
    const LONGEST: usize = 1_000;
    if message.len() <= LONGEST {
        return message.to_owned();
    }
    let mut end = LONGEST - 3;
    while !message.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}...", &message[..end])
}

#[cfg(test)]
mod tests {
    use ers_crds::conditions::{ConditionUpdate, set};

    use super::*;

    fn one(type_: &'static str, status: ConditionStatus, reason: &'static str) -> Vec<Condition> {
        let mut conditions = Vec::new();
        set(&mut conditions, ConditionUpdate::new(type_, status, reason, "m", 1), 0);
        conditions
    }

    #[track_caller]
    fn check(before: &[Condition], now: &[Condition], expect: Option<EventType>) {
        assert_eq!(is_told(before, &now[0]), expect);
    }

    #[test]
    fn an_event_is_told_once_for_each_change_of_meaning() {
        let proven = one(types::READY, ConditionStatus::True, reasons::PROVEN);
        let progressing = one(types::READY, ConditionStatus::Unknown, reasons::PROGRESSING);
        let refused = one(types::ACCEPTED, ConditionStatus::False, reasons::INVALID);
        check(&progressing, &proven, Some(EventType::Normal));
        check(&proven, &proven, None);
        check(&proven, &progressing, None);
        check(&[], &refused, Some(EventType::Warning));
        check(&[], &one(types::ACCEPTED, ConditionStatus::True, reasons::VALID), None);
        check(&[], &one(types::DEGRADED, ConditionStatus::True, reasons::PODS_NOT_READY), Some(EventType::Warning));
        check(&[], &one(types::DEGRADED, ConditionStatus::False, reasons::AS_EXPECTED), None);
        check(&[], &one(types::ACCEPTED, ConditionStatus::Unknown, reasons::REF_NOT_FOUND), Some(EventType::Warning));
    }
}
