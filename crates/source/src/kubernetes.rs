//! Objects from the API server's watch, conditions into the status subresource.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, PoisonError};

use ers_crds::collector_target::CollectorTargetStatus;
use ers_crds::conditions::{Condition, types};
use ers_crds::{API_VERSION, CollectorTarget, Kind, ReportPolicy};
use ers_model::Clock;
use futures::future::{BoxFuture, FutureExt};
use futures::stream::{self, BoxStream, StreamExt};
use kube::api::{Api, ApiResource, DynamicObject, GroupVersionKind, ObjectMeta, Patch, PatchParams};
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, watcher};
use serde_json::{Value, json};
use tokio::sync::Mutex;

use crate::merge::ServerPart;
use crate::{
    Collection, InvalidObject, Object, ObjectEvent, ObjectKey, ObjectSource, SinkError, StatusSink, StatusUpdate,
    Written,
};

/// Field manager of everything that the server writes.
pub const FIELD_MANAGER: &str = "ers-server";

/// ReportPolicies and CollectorTargets of one namespace, by watch.
#[derive(Clone)]
pub struct KubeSource {
    client: kube::Client,
    namespace: String,
}

impl KubeSource {
    pub fn new(client: kube::Client, namespace: impl Into<String>) -> Self {
        KubeSource { client, namespace: namespace.into() }
    }

    fn events_of(&self, kind: Kind) -> BoxStream<'static, ObjectEvent> {
        let api: Api<DynamicObject> = Api::namespaced_with(self.client.clone(), &self.namespace, &api_resource(kind));
        // A DynamicObject always deserializes, so that one bad object can't stop the watch; it is read as its kind below.
        let changes = watcher(api, watcher::Config::default()).default_backoff();
        let mut known = KnownObjects {
            kind,
            namespace: self.namespace.clone(),
            names: BTreeSet::new(),
            listed: BTreeSet::new(),
            synced: false,
        };
        changes
            .flat_map(move |change| {
                let events = match change {
                    Ok(change) => known.take(change),
                    Err(error) => {
                        tracing::warn!(kind = kind.name(), error = %error, "watch failed, retrying with backoff");
                        Vec::new()
                    }
                };
                stream::iter(events)
            })
            .boxed()
    }
}

impl ObjectSource for KubeSource {
    fn events(&self) -> BoxStream<'static, ObjectEvent> {
        stream::select(self.events_of(Kind::ReportPolicy), self.events_of(Kind::CollectorTarget)).boxed()
    }
}

fn api_resource(kind: Kind) -> ApiResource {
    let gvk = GroupVersionKind::gvk(ers_crds::GROUP, ers_crds::VERSION, kind.name());
    ApiResource::from_gvk_with_plural(&gvk, kind.plural())
}

/// What was told of one kind, so that objects which went while the watch was down are told as gone.
struct KnownObjects {
    kind: Kind,
    namespace: String,
    names: BTreeSet<String>,
    /// Names seen in the list that is being told.
    listed: BTreeSet<String>,
    synced: bool,
}

impl KnownObjects {
    fn take(&mut self, change: watcher::Event<DynamicObject>) -> Vec<ObjectEvent> {
        match change {
            watcher::Event::Init => {
                self.listed.clear();
                Vec::new()
            }
            watcher::Event::InitApply(object) => {
                let event = self.read(object);
                self.listed.insert(event.1.clone());
                self.names.insert(event.1);
                vec![event.0]
            }
            watcher::Event::Apply(object) => {
                let event = self.read(object);
                self.names.insert(event.1);
                vec![event.0]
            }
            watcher::Event::Delete(object) => {
                let name = object.metadata.name.unwrap_or_default();
                self.names.remove(&name);
                vec![ObjectEvent::Deleted(self.key(&name))]
            }
            watcher::Event::InitDone => {
                let listed = std::mem::take(&mut self.listed);
                let gone: Vec<String> = self.names.difference(&listed).cloned().collect();
                self.names = listed;
                let mut events: Vec<ObjectEvent> =
                    gone.iter().map(|name| ObjectEvent::Deleted(self.key(name))).collect();
                if !self.synced {
                    self.synced = true;
                    events.push(ObjectEvent::Synced(self.kind));
                }
                events
            }
        }
    }

    fn read(&self, object: DynamicObject) -> (ObjectEvent, String) {
        let name = object.metadata.name.clone().unwrap_or_default();
        let generation = object.metadata.generation.unwrap_or(0);
        let read = match self.kind {
            Kind::ReportPolicy => object.try_parse::<ReportPolicy>().map(|it| Object::ReportPolicy(Arc::new(it))),
            Kind::CollectorTarget => {
                object.try_parse::<CollectorTarget>().map(|it| Object::CollectorTarget(Arc::new(it)))
            }
        };
        let event = match read {
            Ok(object) => ObjectEvent::Applied(object),
            Err(error) => {
                ObjectEvent::Invalid(InvalidObject { key: self.key(&name), generation, error: error.to_string() })
            }
        };
        (event, name)
    }

    fn key(&self, name: &str) -> ObjectKey {
        ObjectKey { kind: self.kind, namespace: self.namespace.clone(), name: name.to_string() }
    }
}

/// Writes the server's conditions and fields into the status subresource, by server-side apply as [`FIELD_MANAGER`].
///
/// What was written last is remembered per object, so that saying the same again costs no request. A hint of the truth
/// comes from [`StatusSink::observe`]; without one the object is read once.
pub struct KubeSink {
    client: kube::Client,
    clock: Arc<dyn Clock>,
    known: std::sync::Mutex<HashMap<ObjectKey, Arc<Mutex<Option<KnownStatus>>>>>,
}

struct KnownStatus {
    uid: Option<String>,
    /// Of the object that our last write made; older ones are echoes from before.
    resource_version: Option<u64>,
    part: ServerPart,
}

impl KubeSink {
    pub fn new(client: kube::Client, clock: Arc<dyn Clock>) -> Self {
        KubeSink { client, clock, known: std::sync::Mutex::default() }
    }

    fn slot(&self, key: &ObjectKey) -> Arc<Mutex<Option<KnownStatus>>> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(known.entry(key.clone()).or_default())
    }

    fn api(&self, key: &ObjectKey) -> Api<DynamicObject> {
        Api::namespaced_with(self.client.clone(), &key.namespace, &api_resource(key.kind))
    }

    async fn write_status(&self, key: ObjectKey, update: StatusUpdate) -> Result<Written, SinkError> {
        if update.generations.is_some() {
            return Err(SinkError::NotOurs { key });
        }
        let slot = self.slot(&key);
        let mut known = slot.lock().await;
        if known.is_none() {
            match self.api(&key).get_opt(&key.name).await {
                Ok(Some(object)) => *known = Some(known_status(&object)),
                Ok(None) => {
                    self.forget(&key);
                    return Ok(Written::Gone);
                }
                Err(source) => return Err(SinkError::Read { key, source: Box::new(source) }),
            }
        }
        let Some(before) = known.as_ref() else { return Ok(Written::Gone) };
        let mut part = before.part.clone();
        if !part.merge(&update, self.clock.now_ms()) {
            return Ok(Written::Unchanged);
        }
        let patch = Patch::Apply(status_document(&key, before.uid.as_deref(), &part));
        let params = PatchParams::apply(FIELD_MANAGER).force();
        match self.api(&key).patch_status(&key.name, &params, &patch).await {
            Ok(object) => {
                let after = known_status(&object);
                *known = Some(KnownStatus { part, ..after });
                Ok(Written::Changed)
            }
            // The object is gone, or another of the same name took its place: what we knew is void either way.
            Err(kube::Error::Api(status)) if status.code == 404 || status.code == 409 => {
                self.forget(&key);
                Ok(Written::Gone)
            }
            Err(source) => {
                // Whether the write arrived is unknown, so the truth is read before the next one.
                *known = None;
                Err(SinkError::Write { key, source: Box::new(source) })
            }
        }
    }

    async fn take_note(&self, object: Object) {
        let slot = self.slot(&object.key());
        let mut known = slot.lock().await;
        let seen = match &object {
            Object::ReportPolicy(policy) => known_parts(
                &policy.metadata,
                policy.status.as_ref().map(|status| (Kind::ReportPolicy, status.conditions.as_slice())),
                None,
            ),
            Object::CollectorTarget(target) => known_parts(
                &target.metadata,
                target.status.as_ref().map(|status| (Kind::CollectorTarget, status.conditions.as_slice())),
                target.status.as_ref(),
            ),
        };
        let is_echo = known.as_ref().is_some_and(|known| {
            known.uid == seen.uid
                && matches!((known.resource_version, seen.resource_version), (Some(ours), Some(seen)) if seen < ours)
        });
        if !is_echo {
            *known = Some(seen);
        }
    }
}

impl StatusSink for KubeSink {
    fn write(&self, key: ObjectKey, update: StatusUpdate) -> BoxFuture<'_, Result<Written, SinkError>> {
        self.write_status(key, update).boxed()
    }

    fn observe(&self, object: Object) -> BoxFuture<'_, ()> {
        self.take_note(object).boxed()
    }

    fn forget(&self, key: &ObjectKey) {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).remove(key);
    }
}

/// The document of a server-side apply. It always holds the whole of our part: what is left out would be removed.
fn status_document(key: &ObjectKey, uid: Option<&str>, part: &ServerPart) -> Value {
    let mut status = json!({"conditions": part.conditions});
    if let Some(Collection { targets, failing }) = &part.collection {
        status["targets"] = json!(targets);
        status["failing"] = json!(failing);
        status["truncated"] = json!(part.truncated);
    }
    let mut metadata = json!({"name": key.name, "namespace": key.namespace});
    if let Some(uid) = uid {
        // Refused with 409 if another object of this name took its place.
        metadata["uid"] = json!(uid);
    }
    json!({"apiVersion": API_VERSION, "kind": key.kind.name(), "metadata": metadata, "status": status})
}

/// Our part of the status of an object that may be unreadable otherwise.
fn known_status(object: &DynamicObject) -> KnownStatus {
    let kind = object.types.as_ref().and_then(|types| Kind::from_name(&types.kind)).unwrap_or(Kind::CollectorTarget);
    let status = &object.data["status"];
    let conditions: Vec<Condition> = serde_json::from_value(status["conditions"].clone()).unwrap_or_default();
    let target_status: Option<CollectorTargetStatus> = match kind {
        Kind::CollectorTarget => serde_json::from_value(status.clone()).ok(),
        Kind::ReportPolicy => None,
    };
    known_parts(&object.metadata, Some((kind, &conditions)), target_status.as_ref())
}

fn known_parts(
    metadata: &ObjectMeta,
    conditions: Option<(Kind, &[Condition])>,
    target_status: Option<&CollectorTargetStatus>,
) -> KnownStatus {
    let ours = |condition: &&Condition| match conditions {
        Some((Kind::ReportPolicy, _)) => types::OF_SERVER_ON_POLICY.contains(&condition.type_.as_str()),
        Some((Kind::CollectorTarget, _)) => types::OF_SERVER_ON_TARGET.contains(&condition.type_.as_str()),
        None => false,
    };
    let collection = target_status.and_then(|status| {
        let targets = status.targets.clone()?;
        Some(Collection { targets, failing: status.failing.clone() })
    });
    KnownStatus {
        uid: metadata.uid.clone(),
        resource_version: metadata.resource_version.as_deref().and_then(|version| version.parse().ok()),
        part: ServerPart {
            conditions: conditions.iter().flat_map(|(_, all)| all.iter()).filter(ours).cloned().collect(),
            truncated: target_status.and_then(|status| status.truncated).unwrap_or(false),
            collection,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(name: &str, spec: Value) -> DynamicObject {
        serde_json::from_value(json!({
            "apiVersion": API_VERSION, "kind": "CollectorTarget",
            "metadata": {"name": name, "namespace": "team", "generation": 3}, "spec": spec,
        }))
        .expect("test input")
    }

    fn known() -> KnownObjects {
        KnownObjects {
            kind: Kind::CollectorTarget,
            namespace: "team".into(),
            names: BTreeSet::new(),
            listed: BTreeSet::new(),
            synced: false,
        }
    }

    fn told(events: &[ObjectEvent]) -> Vec<String> {
        let tell = |event: &ObjectEvent| match event {
            ObjectEvent::Applied(object) => format!("applied {}", object.key()),
            ObjectEvent::Invalid(invalid) => format!("invalid {} {}", invalid.key, invalid.generation),
            ObjectEvent::Deleted(key) => format!("deleted {key}"),
            ObjectEvent::Synced(kind) => format!("synced {kind}"),
        };
        events.iter().map(tell).collect()
    }

    #[test]
    fn an_object_that_does_not_deserialize_is_told_and_stops_nothing() {
        let mut known = known();
        let bad = object("bad", json!({"type": "Pod", "pod": "not an object"}));
        assert_eq!(told(&known.take(watcher::Event::Apply(bad))), ["invalid CollectorTarget team/bad 3"]);
        let good = object("good", json!({"type": "Pod", "pod": {"selector": {}, "endpoints": [{"port": 1}]}}));
        assert_eq!(told(&known.take(watcher::Event::Apply(good))), ["applied CollectorTarget team/good"]);
    }

    #[test]
    fn what_went_while_the_watch_was_down_is_told_as_gone() {
        let mut known = known();
        let spec = json!({"type": "Pod", "pod": {"selector": {}, "endpoints": [{"port": 1}]}});
        known.take(watcher::Event::Init);
        known.take(watcher::Event::InitApply(object("a", spec.clone())));
        known.take(watcher::Event::InitApply(object("b", spec.clone())));
        assert_eq!(told(&known.take(watcher::Event::InitDone)), ["synced CollectorTarget"]);
        known.take(watcher::Event::Init);
        known.take(watcher::Event::InitApply(object("b", spec)));
        assert_eq!(told(&known.take(watcher::Event::InitDone)), ["deleted CollectorTarget team/a"]);
    }

    #[test]
    fn only_the_servers_own_conditions_are_applied() {
        let mut with_status = object("a", json!({}));
        let condition = |type_: &str| json!({"type": type_, "status": "True", "reason": "R", "message": "", "lastTransitionTime": "1970-01-01T00:00:00Z"});
        with_status.data["status"] = json!({"conditions": [condition("Ready"), condition("Collecting")]});
        let part = known_status(&with_status).part;
        let key = ObjectKey { kind: Kind::CollectorTarget, namespace: "team".into(), name: "a".into() };
        let document = status_document(&key, Some("u"), &part);
        assert_eq!(document["status"], json!({"conditions": [condition("Collecting")]}));
        assert_eq!(document["metadata"]["uid"], "u");
    }
}
