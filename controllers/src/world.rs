//! All that the controllers share: what the watches know, the queues, and the outside world behind traits.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use ers_crds::{CollectorTarget, ReportPolicy};
use ers_model::Clock;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Client;

use crate::cache::{Cache, Change, Key};
use crate::child::{ChildKind, ChildState, Owner};
use crate::metrics::SharedMetrics;
use crate::node::NodeState;
use crate::prover::Prover;
use crate::queue::Queue;
use crate::settings::Settings;

/// An object of ours as it came from the API server. One that cannot be read does not stop the watch.
#[derive(Clone, Debug)]
pub enum Object<K> {
    Readable(Box<K>),
    Unreadable { metadata: Box<ObjectMeta>, error: String },
}

impl<K: kube::Resource> Object<K> {
    pub fn metadata(&self) -> &ObjectMeta {
        match self {
            Object::Readable(object) => object.meta(),
            Object::Unreadable { metadata, .. } => metadata,
        }
    }

    pub fn readable(&self) -> Option<&K> {
        match self {
            Object::Readable(object) => Some(object),
            Object::Unreadable { .. } => None,
        }
    }
}

/// What is remembered of a namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NamespaceState {
    pub host_access: bool,
    /// Labels of Pod Security, as one text.
    pub pod_security: String,
    pub terminating: bool,
}

/// Caches of the children, one for each kind, and who owns which.
#[derive(Debug, Default)]
pub struct Children {
    caches: [Cache<ChildState>; ChildKind::ALL.len()],
    /// So that a round costs as much as its own object has children, not as all objects have.
    by_owner: RwLock<HashMap<Owner, BTreeSet<(ChildKind, Key)>>>,
}

impl Children {
    pub fn cache(&self, kind: ChildKind) -> &Cache<ChildState> {
        &self.caches[kind as usize]
    }

    pub fn get(&self, kind: ChildKind, key: &Key) -> Option<Arc<ChildState>> {
        self.cache(kind).get(key)
    }

    /// Keeps the index by owner; to be called with every change of a cache.
    pub fn note(&self, kind: ChildKind, change: &Change<ChildState>) {
        let owner = |state: &Option<Arc<ChildState>>| state.as_ref().and_then(|state| state.owner.clone());
        let (before, now) = (owner(&change.before), owner(&change.now));
        if before == now {
            return;
        }
        let mut by_owner = self.by_owner.write().unwrap_or_else(PoisonError::into_inner);
        let entry = (kind, change.key.clone());
        if let Some(before) = before
            && let Some(children) = by_owner.get_mut(&before)
        {
            children.remove(&entry);
            if children.is_empty() {
                by_owner.remove(&before);
            }
        }
        if let Some(now) = now {
            by_owner.entry(now).or_default().insert(entry);
        }
    }

    /// Every child that says by its labels that it belongs to this object.
    pub fn of(&self, owner: &Owner) -> Vec<(ChildKind, Key, Arc<ChildState>)> {
        let by_owner = self.by_owner.read().unwrap_or_else(PoisonError::into_inner);
        let children = by_owner.get(owner).into_iter().flatten();
        children.filter_map(|(kind, key)| Some((*kind, key.clone(), self.get(*kind, key)?))).collect()
    }

    pub async fn wait_until_complete(&self) {
        for cache in &self.caches {
            cache.wait_until_complete().await;
        }
    }
}

/// Whether a target's agents may read the kubelets' metrics, as its last round found; `None` in the map: not judged yet.
#[derive(Debug, Default)]
pub struct Grants(Mutex<HashMap<Key, bool>>);

impl Grants {
    /// Tells whether that is news.
    pub fn set(&self, key: Key, granted: bool) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(key, granted) != Some(granted)
    }

    pub fn remove(&self, key: &Key) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(key).is_some()
    }

    pub fn get(&self, key: &Key) -> Option<bool> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(key).copied()
    }
}

/// Shared by everything that reconciles.
pub struct World {
    pub client: Client,
    pub settings: Settings,
    pub clock: Arc<dyn Clock>,
    pub prover: Arc<dyn Prover>,
    pub metrics: SharedMetrics,
    pub policies: Cache<Object<ReportPolicy>>,
    pub targets: Cache<Object<CollectorTarget>>,
    pub children: Children,
    pub nodes: Cache<NodeState>,
    pub namespaces: Cache<NamespaceState>,
    pub grants: Grants,
    pub policy_queue: Arc<Queue<Key>>,
    pub target_queue: Arc<Queue<Key>>,
    /// The cluster-wide bindings have one key for all of them.
    pub binding_queue: Arc<Queue<()>>,
}

impl World {
    pub fn new(
        client: Client,
        settings: Settings,
        clock: Arc<dyn Clock>,
        prover: Arc<dyn Prover>,
        metrics: SharedMetrics,
    ) -> Self {
        World {
            client,
            settings,
            clock,
            prover,
            metrics,
            policies: Cache::default(),
            targets: Cache::default(),
            children: Children::default(),
            nodes: Cache::default(),
            namespaces: Cache::default(),
            grants: Grants::default(),
            policy_queue: Arc::default(),
            target_queue: Arc::default(),
            binding_queue: Arc::default(),
        }
    }

    /// The namespace's one policy: the oldest, and of equally old ones the first by name.
    pub fn policy_of(&self, namespace: &str) -> Option<Key> {
        let mut policies = self.policies.in_namespace(namespace);
        policies.sort_by_key(|(key, object)| {
            (object.metadata().creation_timestamp.as_ref().map(|time| time.0), key.name.clone())
        });
        policies.into_iter().next().map(|(key, _)| key)
    }

    /// Where the nodes' own processes come from.
    pub fn node_ranges(&self) -> Vec<String> {
        if !self.settings.node_cidrs.is_empty() {
            return self.settings.node_cidrs.clone();
        }
        let mut ranges: Vec<String> = self.nodes.all().iter().flat_map(|(_, node)| node.ranges.clone()).collect();
        ranges.sort();
        ranges.dedup();
        ranges
    }
}
