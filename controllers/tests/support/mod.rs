//! An API server in memory: lists, watches, server-side apply, deletes. Enough for the controllers, and it records writes.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use ers_controllers::prover::{Prover, Unproven};
use ers_controllers::settings::Settings;
use ers_controllers::world::World;
use ers_model::Clock;
use futures::future::BoxFuture;
use futures::stream::{self, StreamExt};
use http::{Method, Request, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use kube::Client;
use kube::client::Body;
use serde_json::{Value, json};
use tokio::sync::broadcast;
use tokio::time::Instant;

pub const EPOCH_MS: i64 = 1_750_000_000_000;

/// `collection` is like `/apis/apps/v1/daemonsets`, without the namespace.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Id {
    collection: String,
    namespace: String,
    name: String,
}

struct State {
    objects: BTreeMap<Id, Value>,
    version: u64,
    writes: Vec<String>,
    reads: u64,
    events: broadcast::Sender<(Id, &'static str, Value)>,
    refuse_pods: Option<String>,
    broken_lists: Option<String>,
}

#[derive(Clone)]
pub struct Fake(Arc<Mutex<State>>);

type Answer = Response<UnsyncBoxBody<Bytes, Infallible>>;

struct Path {
    id: Id,
    subresource: Option<String>,
}

/// `/apis/apps/v1/namespaces/demo/daemonsets/x/status` and its shorter forms.
fn parse(path: &str) -> Path {
    let mut parts: Vec<&str> = path.trim_matches('/').split('/').collect();
    let head = if parts[0] == "api" { 2 } else { 3 };
    let prefix = parts.drain(..head).collect::<Vec<_>>().join("/");
    let mut namespace = String::new();
    if parts.first() == Some(&"namespaces") && parts.len() > 2 {
        namespace = parts[1].to_owned();
        parts.drain(..2);
    }
    let mut rest = parts.into_iter().map(str::to_owned);
    let collection = format!("/{prefix}/{}", rest.next().unwrap_or_default());
    let name = rest.next().unwrap_or_default();
    Path { id: Id { collection, namespace, name }, subresource: rest.next() }
}

fn selector(query: &str) -> Vec<(String, String)> {
    let decoded = |text: &str| text.replace("%2F", "/").replace("%3D", "=").replace("%2C", ",");
    let selector =
        query.split('&').find_map(|pair| pair.strip_prefix("labelSelector=")).map(decoded).unwrap_or_default();
    selector.split(',').filter_map(|term| term.split_once('=')).map(|(k, v)| (k.to_owned(), v.to_owned())).collect()
}

fn matches(object: &Value, selector: &[(String, String)]) -> bool {
    selector.iter().all(|(key, value)| object["metadata"]["labels"][key] == *value)
}

fn merge(into: &mut Value, from: &Value) {
    match (into, from) {
        (Value::Object(into), Value::Object(from)) => {
            for (key, value) in from {
                if key == "conditions" {
                    merge_conditions(into.entry(key).or_insert_with(|| json!([])), value);
                } else {
                    merge(into.entry(key).or_insert(Value::Null), value);
                }
            }
        }
        (into, from) => *into = from.clone(),
    }
}

fn merge_conditions(into: &mut Value, from: &Value) {
    let known = into.as_array_mut().expect("conditions");
    for condition in from.as_array().expect("conditions") {
        match known.iter_mut().find(|other| other["type"] == condition["type"]) {
            Some(other) => *other = condition.clone(),
            None => known.push(condition.clone()),
        }
    }
}

fn answer(status: StatusCode, value: &Value) -> Answer {
    let body = Full::new(Bytes::from(value.to_string())).boxed_unsync();
    Response::builder().status(status).header("content-type", "application/json").body(body).expect("answer")
}

fn failure(status: StatusCode, message: &str) -> Answer {
    answer(
        status,
        &json!({"reason": if status == StatusCode::NOT_FOUND { "NotFound" } else { "Forbidden" }, "kind": "Status", "apiVersion": "v1", "status": "Failure", "message": message, "code": status.as_u16()}),
    )
}

impl Fake {
    pub fn new() -> Self {
        let (events, _) = broadcast::channel(4096);
        Fake(Arc::new(Mutex::new(State {
            objects: BTreeMap::new(),
            version: 1,
            writes: Vec::new(),
            reads: 0,
            events,
            refuse_pods: None,
            broken_lists: None,
        })))
    }

    pub fn client(&self) -> Client {
        let fake = self.clone();
        let service = tower::service_fn(move |request: Request<Body>| {
            let fake = fake.clone();
            async move { Ok::<_, Infallible>(fake.serve(request).await) }
        });
        Client::new(service, "default")
    }

    async fn serve(&self, request: Request<Body>) -> Answer {
        let (parts, body) = request.into_parts();
        let path = parse(parts.uri.path());
        let query = parts.uri.query().unwrap_or_default().to_owned();
        let body = body.collect().await.expect("body").to_bytes();
        let body: Value = serde_json::from_slice(&body).unwrap_or(Value::Null);
        match parts.method {
            Method::GET if query.contains("watch=true") => self.watch(&path.id, selector(&query)),
            Method::GET if path.id.name.is_empty() => self.list(&path.id, &selector(&query)),
            Method::GET => self.get(&path.id),
            Method::POST => self.create(path.id, &query, body),
            Method::PATCH => self.patch(path, body),
            Method::DELETE => self.delete(&path.id),
            other => unreachable!("{other} {}", parts.uri),
        }
    }

    fn get(&self, id: &Id) -> Answer {
        let mut state = self.0.lock().expect("never held across a panic");
        state.reads += 1;
        match state.objects.get(id) {
            Some(object) => answer(StatusCode::OK, object),
            None => failure(StatusCode::NOT_FOUND, "not found"),
        }
    }

    fn list(&self, of: &Id, selector: &[(String, String)]) -> Answer {
        let mut state = self.0.lock().expect("never held across a panic");
        state.reads += 1;
        if state.broken_lists.as_ref() == Some(&of.collection) {
            return failure(StatusCode::INTERNAL_SERVER_ERROR, "etcdserver: request timed out");
        }
        let items: Vec<&Value> = state
            .objects
            .iter()
            .filter(|(id, _)| {
                id.collection == of.collection && (of.namespace.is_empty() || id.namespace == of.namespace)
            })
            .map(|(_, object)| object)
            .filter(|object| matches(object, selector))
            .collect();
        let list = json!({"apiVersion": "v1", "kind": "List", "metadata": {"resourceVersion": state.version.to_string()}, "items": items});
        answer(StatusCode::OK, &list)
    }

    fn watch(&self, of: &Id, selector: Vec<(String, String)>) -> Answer {
        let receiver = self.0.lock().expect("never held across a panic").events.subscribe();
        let collection = of.collection.clone();
        let lines = stream::unfold(receiver, |mut receiver| async move {
            let event = receiver.recv().await.ok()?;
            Some((event, receiver))
        })
        .filter_map(move |(id, kind, object)| {
            let seen = id.collection == collection && matches(&object, &selector);
            let line = json!({"type": kind, "object": object}).to_string() + "\n";
            async move { seen.then(|| Ok::<_, Infallible>(http_body::Frame::data(Bytes::from(line)))) }
        });
        Response::new(StreamBody::new(lines).boxed_unsync())
    }

    fn create(&self, id: Id, query: &str, mut object: Value) -> Answer {
        let name = object["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        let mut state = self.0.lock().expect("never held across a panic");
        state.writes.push(format!("create {} {name} {query}", id.collection));
        if query.contains("dryRun=All") {
            return match &state.refuse_pods {
                Some(message) => failure(StatusCode::FORBIDDEN, message),
                None => answer(StatusCode::CREATED, &object),
            };
        }
        let id = Id { name, ..id };
        state.version += 1;
        object["metadata"]["resourceVersion"] = json!(state.version.to_string());
        state.objects.insert(id, object.clone());
        answer(StatusCode::CREATED, &object)
    }

    fn patch(&self, path: Path, body: Value) -> Answer {
        let Path { id, subresource } = path;
        let mut state = self.0.lock().expect("never held across a panic");
        state.writes.push(format!(
            "patch {} {}/{} {}",
            id.collection,
            id.namespace,
            id.name,
            subresource.as_deref().unwrap_or("")
        ));
        drop(state);
        if subresource.is_some() && self.object(&id.collection, &id.namespace, &id.name).is_none() {
            return failure(StatusCode::NOT_FOUND, "not found");
        }
        answer(StatusCode::OK, &self.change(id, |object| merge(object, &body)))
    }

    fn delete(&self, id: &Id) -> Answer {
        self.0
            .lock()
            .expect("never held across a panic")
            .writes
            .push(format!("delete {} {}/{}", id.collection, id.namespace, id.name));
        match self.remove(&id.collection, &id.namespace, &id.name) {
            Some(object) => answer(StatusCode::OK, &object),
            None => failure(StatusCode::NOT_FOUND, "not found"),
        }
    }

    /// Changes or makes an object as its API would: version, generation, uid, an event.
    fn change(&self, id: Id, change: impl FnOnce(&mut Value)) -> Value {
        let mut state = self.0.lock().expect("never held across a panic");
        let before = state.objects.get(&id).cloned();
        let mut object = before.clone().unwrap_or_else(|| {
            json!({"metadata": {
                "name": id.name, "namespace": id.namespace, "generation": 1,
                "uid": format!("00000000-0000-4000-8000-{:012x}", state.version),
                "creationTimestamp": "2025-06-15T15:06:40Z",
            }})
        });
        if id.namespace.is_empty() {
            object["metadata"].as_object_mut().expect("metadata").remove("namespace");
        }
        change(&mut object);
        if before.as_ref() == Some(&object) {
            return object;
        }
        state.version += 1;
        object["metadata"]["resourceVersion"] = json!(state.version.to_string());
        if let Some(before) = &before
            && before["spec"] != object["spec"]
        {
            object["metadata"]["generation"] = json!(before["metadata"]["generation"].as_i64().unwrap_or(1) + 1);
        }
        state.objects.insert(id.clone(), object.clone());
        let kind = if before.is_some() { "MODIFIED" } else { "ADDED" };
        let _ = state.events.send((id, kind, object.clone()));
        object
    }

    /// Somebody else's edit.
    pub fn edit(&self, collection: &str, namespace: &str, name: &str, change: impl FnOnce(&mut Value)) {
        self.change(Id { collection: collection.into(), namespace: namespace.into(), name: name.into() }, change);
    }

    pub fn remove(&self, collection: &str, namespace: &str, name: &str) -> Option<Value> {
        let id = Id { collection: collection.into(), namespace: namespace.into(), name: name.into() };
        let mut state = self.0.lock().expect("never held across a panic");
        let object = state.objects.remove(&id)?;
        let _ = state.events.send((id, "DELETED", object.clone()));
        Some(object)
    }

    pub fn object(&self, collection: &str, namespace: &str, name: &str) -> Option<Value> {
        let id = Id { collection: collection.into(), namespace: namespace.into(), name: name.into() };
        self.0.lock().expect("never held across a panic").objects.get(&id).cloned()
    }

    pub fn names(&self, collection: &str) -> Vec<String> {
        let state = self.0.lock().expect("never held across a panic");
        state.objects.keys().filter(|id| id.collection == collection).map(|id| id.name.clone()).collect()
    }

    pub fn take_writes(&self) -> Vec<String> {
        let mut state = self.0.lock().expect("never held across a panic");
        state.reads = 0;
        std::mem::take(&mut state.writes)
    }

    pub fn reads(&self) -> u64 {
        self.0.lock().expect("never held across a panic").reads
    }

    /// Lists of this collection fail from now on; with `None` all of them work.
    pub fn break_lists(&self, collection: Option<&str>) {
        self.0.lock().expect("never held across a panic").broken_lists = collection.map(str::to_owned);
    }

    pub fn refuse_pods(&self, message: Option<&str>) {
        self.0.lock().expect("never held across a panic").refuse_pods = message.map(str::to_owned);
    }
}

/// The virtual clock of a paused runtime.
pub struct VirtualClock(Instant);

impl Clock for VirtualClock {
    fn now_ms(&self) -> i64 {
        EPOCH_MS + i64::try_from(self.0.elapsed().as_millis()).expect("fits")
    }
}

pub struct YesProver;

impl Prover for YesProver {
    fn prove<'a>(&'a self, url: &'a str, authority: &'a str) -> BoxFuture<'a, Result<(), Unproven>> {
        assert_eq!((url, authority), ("https://reporting-server.demo.svc:8443", "PEM"));
        Box::pin(async { Ok(()) })
    }
}

pub fn settings() -> Settings {
    Settings {
        namespace: "ers-system".into(),
        server_image: "registry.example.com/ers-server:0.1.0".into(),
        agent_image: "registry.example.com/ers-agent:0.1.0".into(),
        image_pull_policy: "IfNotPresent".into(),
        cluster_name: "local".into(),
        region: None,
        node_cidrs: Vec::new(),
    }
}

/// A fresh operator over this API server, started.
pub fn start(fake: &Fake, clock_start: Instant) -> tokio::task::JoinHandle<()> {
    // The first test of the process sets it up; `--nocapture` shows it.
    let _ = ers_telemetry::init("warn");
    let clock = Arc::new(VirtualClock(clock_start));
    let world = World::new(fake.client(), settings(), clock, Arc::new(YesProver), Arc::default());
    tokio::spawn(ers_controllers::run::run(Arc::new(world)))
}
