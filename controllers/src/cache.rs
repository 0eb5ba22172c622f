//! What a watch has told so far: a map of trimmed values, and what changed with each event.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use kube::runtime::watcher::Event;

/// Namespace (empty for what has none) and name.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key {
    pub namespace: String,
    pub name: String,
}

impl Key {
    pub fn new(namespace: impl Into<String>, name: impl Into<String>) -> Self {
        Key { namespace: namespace.into(), name: name.into() }
    }

    pub fn of(metadata: &k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta) -> Self {
        Key::new(metadata.namespace.clone().unwrap_or_default(), metadata.name.clone().unwrap_or_default())
    }
}

impl std::fmt::Display for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// An object as it was and as it is.
#[derive(Debug)]
pub struct Change<V> {
    pub key: Key,
    pub before: Option<Arc<V>>,
    pub now: Option<Arc<V>>,
}

/// One watch's view. Written by that watch's task alone.
#[derive(Debug)]
pub struct Cache<V> {
    objects: RwLock<HashMap<Key, Arc<V>>>,
    /// The objects of a list that is still coming in.
    incoming: RwLock<Option<HashMap<Key, Arc<V>>>>,
    complete: tokio::sync::watch::Sender<bool>,
}

impl<V> Default for Cache<V> {
    fn default() -> Self {
        Cache {
            objects: RwLock::default(),
            incoming: RwLock::default(),
            complete: tokio::sync::watch::Sender::new(false),
        }
    }
}

impl<V> Cache<V> {
    pub fn get(&self, key: &Key) -> Option<Arc<V>> {
        self.objects.read().unwrap_or_else(PoisonError::into_inner).get(key).cloned()
    }

    pub fn all(&self) -> Vec<(Key, Arc<V>)> {
        let objects = self.objects.read().unwrap_or_else(PoisonError::into_inner);
        objects.iter().map(|(key, value)| (key.clone(), Arc::clone(value))).collect()
    }

    pub fn in_namespace(&self, namespace: &str) -> Vec<(Key, Arc<V>)> {
        let objects = self.objects.read().unwrap_or_else(PoisonError::into_inner);
        let kept = objects.iter().filter(|(key, _)| key.namespace == namespace);
        kept.map(|(key, value)| (key.clone(), Arc::clone(value))).collect()
    }

    pub fn len(&self) -> usize {
        self.objects.read().unwrap_or_else(PoisonError::into_inner).len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Waits until the first list is complete.
    pub async fn wait_until_complete(&self) {
        // The sender lives as long as we do, so waiting cannot fail.
        let _ = self.complete.subscribe().wait_for(|complete| *complete).await;
    }

    /// Takes an event in and tells what changed by it.
    pub fn take(&self, event: Event<(Key, V)>) -> Vec<Change<V>> {
        let mut incoming = self.incoming.write().unwrap_or_else(PoisonError::into_inner);
        let mut objects = self.objects.write().unwrap_or_else(PoisonError::into_inner);
        match event {
            Event::Init => {
                *incoming = Some(HashMap::new());
                Vec::new()
            }
            Event::InitApply((key, value)) => {
                incoming.get_or_insert_default().insert(key, Arc::new(value));
                Vec::new()
            }
            Event::InitDone => {
                let fresh = incoming.take().unwrap_or_default();
                let mut before = std::mem::replace(&mut *objects, fresh);
                let mut changes: Vec<Change<V>> = objects
                    .iter()
                    .map(|(key, now)| Change {
                        key: key.clone(),
                        before: before.remove(key),
                        now: Some(Arc::clone(now)),
                    })
                    .collect();
                changes.extend(before.into_iter().map(|(key, gone)| Change { key, before: Some(gone), now: None }));
                self.complete.send_replace(true);
                changes
            }
            Event::Apply((key, value)) => {
                let now = Arc::new(value);
                let before = objects.insert(key.clone(), Arc::clone(&now));
                vec![Change { key, before, now: Some(now) }]
            }
            Event::Delete((key, value)) => {
                let before = objects.remove(&key).or_else(|| Some(Arc::new(value)));
                vec![Change { key, before, now: None }]
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(name: &str, value: u32) -> (Key, u32) {
        (Key::new("n", name), value)
    }

    fn told(changes: Vec<Change<u32>>) -> Vec<(String, Option<u32>, Option<u32>)> {
        let mut told: Vec<_> = changes
            .into_iter()
            .map(|change| (change.key.name, change.before.map(|v| *v), change.now.map(|v| *v)))
            .collect();
        told.sort();
        told
    }

    #[tokio::test]
    async fn a_new_list_tells_what_came_what_stayed_and_what_went() {
        let cache = Cache::default();
        cache.take(Event::Init);
        cache.take(Event::InitApply(named("a", 1)));
        cache.take(Event::InitApply(named("b", 1)));
        assert!(cache.is_empty(), "nothing is seen before the list is complete");
        cache.take(Event::InitDone);
        cache.wait_until_complete().await;
        cache.take(Event::Init);
        cache.take(Event::InitApply(named("b", 2)));
        cache.take(Event::InitApply(named("c", 1)));
        let changes = told(cache.take(Event::InitDone));
        assert_eq!(changes, [("a".into(), Some(1), None), ("b".into(), Some(1), Some(2)), ("c".into(), None, Some(1))]);
    }

    #[test]
    fn single_events_tell_before_and_now() {
        let cache = Cache::default();
        assert_eq!(told(cache.take(Event::Apply(named("a", 1)))), [("a".into(), None, Some(1))]);
        assert_eq!(told(cache.take(Event::Apply(named("a", 2)))), [("a".into(), Some(1), Some(2))]);
        assert_eq!(told(cache.take(Event::Delete(named("a", 2)))), [("a".into(), Some(2), None)]);
        assert!(cache.is_empty());
    }
}
