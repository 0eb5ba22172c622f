//! Conditions kept in a file and in memory, in the shape of the kinds' statuses.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use ers_crds::conditions::Condition;
use ers_model::Clock;
use futures::future::{self, BoxFuture, FutureExt};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::state::{read_json, write_json};
use crate::merge::ServerPart;
use crate::{Collection, Generations, Object, ObjectKey, SinkError, StatusSink, StatusUpdate, Written};

/// Most objects whose status is kept; a folder of manifests has far fewer.
const MAX_OBJECTS: usize = 10_000;

/// Keeps statuses in memory, and in one file so that transition times outlive the process.
pub struct FolderSink {
    path: PathBuf,
    clock: Arc<dyn Clock>,
    statuses: Mutex<BTreeMap<String, KeptStatus>>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct KeptStatus {
    #[serde(default)]
    conditions: Vec<Condition>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    observed_generation: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    active_generation: Option<i64>,
    /// `targets`, `failing`, `truncated` as in the kind's status.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    collection: Value,
}

impl FolderSink {
    /// Opens the file, which need not be there.
    pub fn open(path: impl Into<PathBuf>, clock: Arc<dyn Clock>) -> Result<Self, SinkError> {
        let path = path.into();
        let statuses = read_json(&path)
            .map_err(|source| SinkError::Keep { path: path.display().to_string(), source })?
            .unwrap_or_default();
        Ok(FolderSink { path, clock, statuses: Mutex::new(statuses) })
    }

    /// The status of one object, in the shape of its kind; `None` before the first write.
    pub fn status(&self, key: &ObjectKey) -> Option<Value> {
        let statuses = self.statuses.lock().unwrap_or_else(PoisonError::into_inner);
        let KeptStatus { conditions, observed_generation, active_generation, collection } =
            statuses.get(&slot_name(key))?.clone();
        let mut status = json!({"conditions": conditions});
        if let Some(observed) = observed_generation {
            status["observedGeneration"] = json!(observed);
        }
        if let Some(active) = active_generation {
            status["activeGeneration"] = json!(active);
        }
        if let (Some(fields), Value::Object(collection)) = (status.as_object_mut(), collection) {
            fields.extend(collection);
        }
        Some(status)
    }

    fn keep(&self, key: &ObjectKey, update: &StatusUpdate) -> Result<Written, SinkError> {
        let mut statuses = self.statuses.lock().unwrap_or_else(PoisonError::into_inner);
        let slot = slot_name(key);
        if statuses.len() >= MAX_OBJECTS && !statuses.contains_key(&slot) {
            let source = std::io::Error::other(format!("more than {MAX_OBJECTS} objects"));
            return Err(SinkError::Keep { path: self.path.display().to_string(), source });
        }
        let before = statuses.get(&slot).cloned().unwrap_or_default();
        let mut after = before.clone();
        let mut part = ServerPart { conditions: std::mem::take(&mut after.conditions), ..ServerPart::default() };
        part.merge(update, self.clock.now_ms());
        after.conditions = part.conditions;
        if let Some(Collection { targets, failing }) = part.collection {
            after.collection = json!({"targets": targets, "failing": failing, "truncated": part.truncated});
        }
        if let Some(Generations { observed, active }) = update.generations {
            after.observed_generation = Some(observed);
            after.active_generation = active;
        }
        if after == before {
            return Ok(Written::Unchanged);
        }
        statuses.insert(slot, after);
        write_json(&self.path, &*statuses)
            .map_err(|source| SinkError::Keep { path: self.path.display().to_string(), source })?;
        Ok(Written::Changed)
    }
}

impl StatusSink for FolderSink {
    fn write(&self, key: ObjectKey, update: StatusUpdate) -> BoxFuture<'_, Result<Written, SinkError>> {
        future::ready(self.keep(&key, &update)).boxed()
    }

    fn observe(&self, _: Object) -> BoxFuture<'_, ()> {
        // Nobody else writes here, so there is nothing to learn.
        future::ready(()).boxed()
    }

    fn forget(&self, key: &ObjectKey) {
        let mut statuses = self.statuses.lock().unwrap_or_else(PoisonError::into_inner);
        if statuses.remove(&slot_name(key)).is_some()
            && let Err(error) = write_json(&self.path, &*statuses)
        {
            tracing::warn!(path = %self.path.display(), %error, "failed to keep the statuses, will be tried with the next change");
        }
    }
}

fn slot_name(key: &ObjectKey) -> String {
    format!("{}/{}/{}", key.kind, key.namespace, key.name)
}

#[cfg(test)]
mod tests {
    use ers_crds::Kind;
    use ers_crds::conditions::{ConditionStatus, ConditionUpdate, reasons, types};

    use super::*;

    struct FixedClock(i64);

    impl Clock for FixedClock {
        fn now_ms(&self) -> i64 {
            self.0
        }
    }

    #[test]
    fn statuses_and_their_times_outlive_the_process() {
        let folder = tempfile::tempdir().expect("a folder for the test");
        let path = folder.path().join("status.json");
        let key = ObjectKey { kind: Kind::CollectorTarget, namespace: "local".into(), name: "nodes".into() };
        let update = StatusUpdate {
            conditions: vec![ConditionUpdate::new(types::READY, ConditionStatus::True, reasons::PROVEN, "", 2)],
            collection: None,
            generations: Some(Generations { observed: 2, active: Some(2) }),
        };
        let sink = FolderSink::open(&path, Arc::new(FixedClock(1_000))).expect("opens");
        assert_eq!(sink.keep(&key, &update).expect("keeps"), Written::Changed);
        let sink = FolderSink::open(&path, Arc::new(FixedClock(9_000))).expect("opens again");
        assert_eq!(sink.keep(&key, &update).expect("keeps"), Written::Unchanged);
        let status = sink.status(&key).expect("was written");
        assert_eq!(status["conditions"][0]["lastTransitionTime"], "1970-01-01T00:00:01Z");
        assert_eq!(status["activeGeneration"], 2);
        sink.forget(&key);
        assert_eq!(sink.status(&key), None);
    }
}
