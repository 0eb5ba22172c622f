//! The last hours, in memory.

pub(crate) mod registry;
pub(crate) mod series;
pub(crate) mod times;

use std::hash::{BuildHasher, BuildHasherDefault, Hasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, RwLock};

use hashbrown::HashMap;
use xxhash_rust::xxh3::{xxh3_64, xxh3_128_with_seed};

use self::registry::Registry;
use self::series::Series;
use self::times::TimeColumns;
use crate::error::{LimitExceeded, LimitKind};
use crate::options::Limits;
use crate::sync::{read, write};

const SHARDS: usize = 16;
/// Longest metric name that goes into an error.
const MAX_NAME_IN_ERROR: usize = 200;

/// Takes the low half of a key that is a hash already.
#[derive(Default)]
pub(crate) struct KeyHasher(u64);

impl Hasher for KeyHasher {
    fn write(&mut self, bytes: &[u8]) {
        self.0 = xxh3_64(bytes);
    }

    fn write_u128(&mut self, key: u128) {
        self.0 = key as u64;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

type Aliases = HashMap<u128, Arc<Series>, BuildHasherDefault<KeyHasher>>;

/// Active series, found by the very bytes a sender uses for them, or by their labels.
///
/// Keys are 128-bit hashes with a secret seed: nobody can make two series collide on purpose, and by chance none will.
pub(crate) struct Head {
    seed: u64,
    aliases: [RwLock<Aliases>; SHARDS],
    pub registry: RwLock<Registry>,
    pub columns: TimeColumns,
    pub samples: AtomicU64,
}

impl Head {
    pub fn new() -> Self {
        Head {
            seed: RandomState::new().hash_one(0_u64),
            aliases: std::array::from_fn(|_| RwLock::default()),
            registry: RwLock::default(),
            columns: TimeColumns::default(),
            samples: AtomicU64::new(0),
        }
    }

    /// What tells senders with different enforced labels apart.
    pub fn seed_for(&self, enforced: &[(&str, &str)]) -> u64 {
        if enforced.is_empty() {
            return self.seed;
        }
        let mut bytes = Vec::with_capacity(64);
        put_pairs(&mut bytes, enforced);
        self.seed ^ xxh3_64(&bytes)
    }

    pub fn alias_key(label_bytes: &[u8], seed: u64) -> u128 {
        xxh3_128_with_seed(label_bytes, seed)
    }

    pub fn by_alias(&self, key: u128) -> Option<Arc<Series>> {
        read(self.shard(key)).get(&key).cloned()
    }

    fn shard(&self, key: u128) -> &RwLock<Aliases> {
        &self.aliases[(key >> 124) as usize % SHARDS]
    }

    /// Finds or makes the series with these sorted labels. `limit` is `None` when the log is read again: what was acknowledged is taken back.
    /// Returns whether it is new.
    pub fn by_labels(
        &self,
        labels: &[(&str, &str)],
        limit: Option<&Limits>,
    ) -> Result<(Arc<Series>, bool), LimitExceeded> {
        let mut bytes = Vec::with_capacity(256);
        put_pairs(&mut bytes, labels);
        let key = xxh3_128_with_seed(&bytes, self.seed);
        if let Some(series) = read(&self.registry).find(key) {
            return Ok((series.clone(), false));
        }
        let mut registry = write(&self.registry);
        if let Some(series) = registry.find(key) {
            return Ok((series.clone(), false));
        }
        if let Some(limits) = limit
            && registry.len() >= limits.max_active_series
        {
            return Err(LimitExceeded {
                what: LimitKind::ActiveSeries,
                metric: metric_of(labels),
                label: None,
                limit: limits.max_active_series,
                found: registry.len() + 1,
            });
        }
        Ok((registry.insert(key, labels), true))
    }

    /// Remembers that these bytes mean this series.
    pub fn add_alias(&self, key: u128, series: &Arc<Series>) {
        if series.take_alias() {
            write(self.shard(key)).insert(key, series.clone());
        }
    }

    /// Forgets series for which `ended` holds. No request may be between finding its series and appending to them.
    pub fn remove_ended(&self, ended: impl Fn(&Series) -> bool) -> usize {
        let count = {
            let mut registry = write(&self.registry);
            let count = registry.remove_ended(&ended);
            if count > 0 {
                for shard in &self.aliases {
                    write(shard)
                        .retain(|_, series| registry.get(series.id).is_some_and(|kept| Arc::ptr_eq(kept, series)));
                }
            }
            count
        };
        self.columns.sweep();
        count
    }

    pub fn active_series(&self) -> usize {
        read(&self.registry).len()
    }

    pub fn add_samples(&self, count: u64) {
        self.samples.fetch_add(count, Ordering::Relaxed);
    }

    pub fn forget_samples(&self, count: u64) {
        self.samples.fetch_sub(count, Ordering::Relaxed);
    }
}

fn put_pairs(into: &mut Vec<u8>, pairs: &[(&str, &str)]) {
    for text in pairs.iter().flat_map(|(name, value)| [name, value]) {
        into.extend_from_slice(&(text.len() as u32).to_le_bytes());
        into.extend_from_slice(text.as_bytes());
    }
}

/// The metric's name, cut for an error.
pub(crate) fn metric_of(labels: &[(&str, &str)]) -> String {
    let name = labels.iter().find(|(name, _)| *name == ers_model::METRIC_NAME).map_or("", |(_, value)| *value);
    let end = name.char_indices().map(|(at, _)| at).find(|at| *at >= MAX_NAME_IN_ERROR).unwrap_or(name.len());
    name[..end].to_owned()
}
