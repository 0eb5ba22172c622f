//! One watch for each kind that we look at: trims what comes in, keeps the cache, and adds whom it concerns to a queue.
//!
//! Only our own kinds are held whole. Of nodes, namespaces and children a few fields are kept; ConfigMaps and the like
//! are watched by their metadata alone and only those with our label, so that nobody else's objects cost memory.

use std::fmt::Debug;
use std::sync::Arc;

use ers_crds::conditions::{find, types};
use ers_crds::{CollectorTarget, ReportPolicy};
use ers_model::names::{CONFIG_HASH_ANNOTATION, HOST_ACCESS_ALLOWED, HOST_ACCESS_LABEL, agent_name, server_name};
use futures::StreamExt;
use k8s_openapi::api::apps::v1::{DaemonSet, Deployment, StatefulSet};
use k8s_openapi::api::core::v1::{Namespace, Node, PodTemplateSpec};
use kube::core::{DeserializeGuard, DynamicObject, PartialObjectMeta};
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Resource};
use serde::de::DeserializeOwned;

use crate::cache::{Cache, Change, Key};
use crate::child::{ChildKind, ChildState, MANAGED_BY, MANAGER, Owner, Workload};
use crate::node::NodeState;
use crate::reconciler::Reconciler;
use crate::world::{NamespaceState, Object, World};

/// The rounds of both kinds, for forgetting objects that are gone.
pub struct Reconcilers {
    pub policies: Arc<Reconciler>,
    pub targets: Arc<Reconciler>,
}

/// Runs a watch for ever: errors are logged and waited out.
async fn follow<K, V>(
    api: Api<K>,
    config: watcher::Config,
    what: &'static str,
    trim: impl Fn(K) -> (Key, V),
    cache: &Cache<V>,
    tell: impl Fn(Change<V>),
) where
    K: Resource + Clone + DeserializeOwned + Debug + Send + 'static,
    K::DynamicType: Clone,
{
    let mut events = watcher(api, config).default_backoff().boxed();
    loop {
        let event = match events.next().await {
            Some(Ok(event)) => event,
            Some(Err(error)) => {
                tracing::warn!(watch = what, error = %error, "a watch failed; starting it again");
                continue;
            }
            None => return,
        };
        let event = match event {
            Event::Apply(object) => Event::Apply(trim(object)),
            Event::Delete(object) => Event::Delete(trim(object)),
            Event::Init => Event::Init,
            Event::InitApply(object) => Event::InitApply(trim(object)),
            Event::InitDone => Event::InitDone,
        };
        for change in cache.take(event) {
            tell(change);
        }
    }
}

fn object_of<K: Resource<DynamicType = ()>>(guard: DeserializeGuard<K>) -> (Key, Object<K>) {
    match guard.0 {
        Ok(mut object) => {
            object.meta_mut().managed_fields = None;
            (Key::of(object.meta()), Object::Readable(Box::new(object)))
        }
        Err(invalid) => {
            let mut metadata = invalid.metadata;
            metadata.managed_fields = None;
            (Key::of(&metadata), Object::Unreadable { metadata: Box::new(metadata), error: invalid.error })
        }
    }
}

pub async fn policies(world: Arc<World>, reconcilers: Arc<Reconcilers>) {
    let api: Api<DeserializeGuard<ReportPolicy>> = Api::all(world.client.clone());
    let tell = |change: Change<Object<ReportPolicy>>| {
        let Change { key, before, now } = change;
        if now.is_none() {
            let uid = before.as_ref().and_then(|object| object.metadata().uid.clone()).unwrap_or_default();
            reconcilers.policies.forget(&key, &uid, &server_name(&key.name));
        }
        if before.as_deref().map(meaning_for_others) != now.as_deref().map(meaning_for_others) {
            // Which policy serves the namespace may have changed for its siblings and for its targets.
            for (sibling, _) in world.policies.in_namespace(&key.namespace) {
                world.policy_queue.add(sibling);
            }
            for (target, _) in world.targets.in_namespace(&key.namespace) {
                world.target_queue.add(target);
            }
            world.binding_queue.add(());
        }
        world.policy_queue.add(key);
    };
    follow(api, watcher::Config::default(), "ReportPolicy", object_of, &world.policies, tell).await;
}

/// What other objects take from a policy: that it is there, and whether it is accepted.
fn meaning_for_others(object: &Object<ReportPolicy>) -> (Option<String>, bool, Option<&'static str>) {
    let status = object.readable().and_then(|policy| policy.status.as_ref());
    let accepted = status.and_then(|status| find(&status.conditions, types::ACCEPTED));
    let metadata = object.metadata();
    (metadata.uid.clone(), metadata.deletion_timestamp.is_some(), accepted.map(|condition| condition.status.as_str()))
}

pub async fn targets(world: Arc<World>, reconcilers: Arc<Reconcilers>) {
    let api: Api<DeserializeGuard<CollectorTarget>> = Api::all(world.client.clone());
    let tell = |change: Change<Object<CollectorTarget>>| {
        let Change { key, before, now } = change;
        if now.is_none() {
            let uid = before.as_ref().and_then(|object| object.metadata().uid.clone()).unwrap_or_default();
            reconcilers.targets.forget(&key, &uid, &agent_name(&key.name));
        }
        world.target_queue.add(key);
    };
    follow(api, watcher::Config::default(), "CollectorTarget", object_of, &world.targets, tell).await;
}

pub async fn namespaces(world: Arc<World>) {
    let api: Api<PartialObjectMeta<Namespace>> = Api::all(world.client.clone());
    let trim = |object: PartialObjectMeta<Namespace>| {
        let labels = object.metadata.labels.clone().unwrap_or_default();
        let security = labels.iter().filter(|(name, _)| name.starts_with("pod-security.kubernetes.io/enforce"));
        let state = NamespaceState {
            host_access: labels.get(HOST_ACCESS_LABEL).is_some_and(|value| value == HOST_ACCESS_ALLOWED),
            pod_security: security.map(|(name, value)| format!("{name}={value} ")).collect(),
            terminating: object.metadata.deletion_timestamp.is_some(),
        };
        (Key::of(&object.metadata), state)
    };
    let tell = |change: Change<NamespaceState>| {
        if change.before == change.now {
            return;
        }
        for (key, _) in world.policies.in_namespace(&change.key.name) {
            world.policy_queue.add(key);
        }
        for (key, _) in world.targets.in_namespace(&change.key.name) {
            world.target_queue.add(key);
        }
    };
    follow(api, watcher::Config::default(), "Namespace", trim, &world.namespaces, tell).await;
}

pub async fn nodes(world: Arc<World>) {
    let api: Api<Node> = Api::all(world.client.clone());
    let trim = |node: Node| (Key::of(&node.metadata), NodeState::of(&node));
    let tell = |change: Change<NodeState>| {
        if change.before == change.now {
            return;
        }
        let ranges = |state: &Option<Arc<NodeState>>| state.as_ref().map(|node| node.ranges.clone());
        if ranges(&change.before) != ranges(&change.now) && world.settings.node_cidrs.is_empty() {
            for (key, _) in world.policies.all() {
                world.policy_queue.add(key);
            }
        }
        for (key, object) in world.targets.all() {
            let on_nodes = object.readable().is_none_or(|target| target.spec.node.is_some());
            if on_nodes {
                world.target_queue.add(key);
            }
        }
    };
    // Pages keep the largest answer small on clusters with thousands of nodes.
    follow(api, watcher::Config::default().page_size(100), "Node", trim, &world.nodes, tell).await;
}

/// Children without pods: their metadata is all that is looked at.
pub async fn children(world: Arc<World>, kind: ChildKind) {
    let api: Api<PartialObjectMeta<DynamicObject>> = Api::all_with(world.client.clone(), &kind.resource());
    let trim =
        |object: PartialObjectMeta<DynamicObject>| (Key::of(&object.metadata), ChildState::of(&object.metadata, None));
    follow(api, only_ours(), kind.as_str(), trim, world.children.cache(kind), tell_owner(&world, kind)).await;
}

pub async fn stateful_sets(world: Arc<World>) {
    let api: Api<StatefulSet> = Api::all(world.client.clone());
    let trim = |object: StatefulSet| {
        let spec = object.spec.unwrap_or_default();
        let status = object.status.unwrap_or_default();
        let workload = Workload {
            observed: status.observed_generation == object.metadata.generation,
            desired: spec.replicas.unwrap_or(1),
            updated: status.updated_replicas.unwrap_or(0),
            ready: status.ready_replicas.unwrap_or(0),
            config_hash: hash_of(&spec.template),
        };
        (Key::of(&object.metadata), ChildState::of(&object.metadata, Some(workload)))
    };
    let cache = world.children.cache(ChildKind::StatefulSet);
    follow(api, only_ours(), "StatefulSet", trim, cache, tell_owner(&world, ChildKind::StatefulSet)).await;
}

pub async fn daemon_sets(world: Arc<World>) {
    let api: Api<DaemonSet> = Api::all(world.client.clone());
    let trim = |object: DaemonSet| {
        let spec = object.spec.unwrap_or_default();
        let status = object.status.unwrap_or_default();
        let workload = Workload {
            observed: status.observed_generation == object.metadata.generation,
            desired: status.desired_number_scheduled,
            updated: status.updated_number_scheduled.unwrap_or(0),
            ready: status.number_ready,
            config_hash: hash_of(&spec.template),
        };
        (Key::of(&object.metadata), ChildState::of(&object.metadata, Some(workload)))
    };
    let cache = world.children.cache(ChildKind::DaemonSet);
    follow(api, only_ours(), "DaemonSet", trim, cache, tell_owner(&world, ChildKind::DaemonSet)).await;
}

pub async fn deployments(world: Arc<World>) {
    let api: Api<Deployment> = Api::all(world.client.clone());
    let trim = |object: Deployment| {
        let spec = object.spec.unwrap_or_default();
        let status = object.status.unwrap_or_default();
        let workload = Workload {
            observed: status.observed_generation == object.metadata.generation,
            desired: spec.replicas.unwrap_or(1),
            updated: status.updated_replicas.unwrap_or(0),
            ready: status.ready_replicas.unwrap_or(0),
            config_hash: hash_of(&spec.template),
        };
        (Key::of(&object.metadata), ChildState::of(&object.metadata, Some(workload)))
    };
    let cache = world.children.cache(ChildKind::Deployment);
    follow(api, only_ours(), "Deployment", trim, cache, tell_owner(&world, ChildKind::Deployment)).await;
}

fn only_ours() -> watcher::Config {
    watcher::Config::default().labels(&format!("{MANAGED_BY}={MANAGER}")).page_size(100)
}

fn hash_of(template: &PodTemplateSpec) -> Option<String> {
    template.metadata.as_ref()?.annotations.as_ref()?.get(CONFIG_HASH_ANNOTATION).cloned()
}

fn tell_owner(world: &Arc<World>, kind: ChildKind) -> impl Fn(Change<ChildState>) + use<> {
    let world = Arc::clone(world);
    move |change: Change<ChildState>| {
        world.children.note(kind, &change);
        if change.before == change.now {
            return;
        }
        // A label may have been taken away: whoever it belonged to puts it right.
        for state in [change.before, change.now].into_iter().flatten() {
            match &state.owner {
                Some(Owner::ReportPolicy(key)) => world.policy_queue.add(key.clone()),
                Some(Owner::CollectorTarget(key)) => world.target_queue.add(key.clone()),
                None => {}
            }
        }
    }
}
