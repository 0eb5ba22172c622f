//! The objects that this server serves: its ReportPolicy and the CollectorTargets that name it, with what is in force of each.

pub mod conditions;
pub mod follow;
pub mod report;
pub mod secrets;
pub mod summary;

use std::collections::BTreeMap;
use std::sync::{Arc, RwLock};

use ers_crds::validate::{TargetKind, ValidatedCollectorTarget, ValidatedReportPolicy};
use ers_crds::{CollectorTarget, ReportPolicy};
use tokio::sync::Notify;

/// What an agent may say of where its samples come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TargetScope {
    /// Everything is about the agent's own node.
    Node,
    /// The agent scrapes pods anywhere.
    Pods,
}

/// A generation that was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    pub generation: i64,
    pub error: String,
}

/// What is known of one object.
#[derive(Clone, Debug)]
pub struct Known<Object, Valid> {
    /// As it was read last; none if it could never be read.
    pub object: Option<Arc<Object>>,
    /// Set while the newest generation is refused.
    pub refusal: Option<Refusal>,
    /// What is in force: the newest generation, or the last good one.
    pub active: Option<Arc<Valid>>,
}

impl<Object, Valid> Default for Known<Object, Valid> {
    fn default() -> Self {
        Known { object: None, refusal: None, active: None }
    }
}

pub type KnownPolicy = Known<ReportPolicy, ValidatedReportPolicy>;
pub type KnownTarget = Known<CollectorTarget, ValidatedCollectorTarget>;

/// Everything that is known; cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Picture {
    pub policy: KnownPolicy,
    /// By name.
    pub targets: BTreeMap<String, KnownTarget>,
    /// Both kinds were told completely.
    pub synced: bool,
}

/// The picture, shared.
#[derive(Default)]
pub struct Objects {
    picture: RwLock<Arc<Picture>>,
    changed: Notify,
}

impl Objects {
    pub fn picture(&self) -> Arc<Picture> {
        self.picture.read().unwrap_or_else(|poisoned| poisoned.into_inner()).clone()
    }

    /// Changes the picture and wakes whoever waits for that.
    pub fn update(&self, change: impl FnOnce(&mut Picture)) {
        let mut picture = self.picture.write().unwrap_or_else(|poisoned| poisoned.into_inner());
        let mut next = Picture::clone(&picture);
        change(&mut next);
        *picture = Arc::new(next);
        drop(picture);
        self.changed.notify_waiters();
    }

    /// Waits for the next change after this call (not after the first poll: what happens in between is not missed).
    pub fn changed(&self) -> tokio::sync::futures::Notified<'_> {
        self.changed.notified()
    }

    /// None: no such target is in force here.
    pub fn scope_of(&self, target: &str) -> Option<TargetScope> {
        let picture = self.picture();
        let active = picture.targets.get(target)?.active.as_ref()?;
        Some(match active.kind {
            TargetKind::Node { .. } => TargetScope::Node,
            TargetKind::Pod { .. } => TargetScope::Pods,
        })
    }
}

impl Picture {
    /// The longest interval of all targets in force.
    pub fn longest_interval_ms(&self) -> i64 {
        let intervals =
            self.targets.values().filter_map(|target| target.active.as_ref()).map(|active| active.interval_seconds);
        i64::from(intervals.max().unwrap_or(15)) * 1_000
    }
}
