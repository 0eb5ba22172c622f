//! Where objects come from and where conditions go: one pair for Kubernetes, one for a folder.
//!
//! The server reads its objects through [`ObjectSource`] and says what it knows through [`StatusSink`]; whether it runs in
//! a cluster or standalone is the choice of `main` and of nobody else.

use std::fmt;
use std::sync::Arc;

use ers_crds::collector_target::{FailingTarget, TargetCounts};
use ers_crds::conditions::ConditionUpdate;
use ers_crds::{CollectorTarget, Kind, ReportPolicy};
use futures::future::BoxFuture;
use futures::stream::BoxStream;

pub mod folder;
pub mod kubernetes;
mod merge;

/// Names one object.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectKey {
    pub kind: Kind,
    pub namespace: String,
    pub name: String,
}

impl fmt::Display for ObjectKey {
    /// `CollectorTarget team/nodes`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}/{}", self.kind, self.namespace, self.name)
    }
}

/// An object as it was read, with the conditions it had then.
#[derive(Clone, Debug)]
pub enum Object {
    ReportPolicy(Arc<ReportPolicy>),
    CollectorTarget(Arc<CollectorTarget>),
}

impl Object {
    pub fn key(&self) -> ObjectKey {
        let (kind, metadata) = match self {
            Object::ReportPolicy(policy) => (Kind::ReportPolicy, &policy.metadata),
            Object::CollectorTarget(target) => (Kind::CollectorTarget, &target.metadata),
        };
        ObjectKey {
            kind,
            namespace: metadata.namespace.clone().unwrap_or_default(),
            name: metadata.name.clone().unwrap_or_default(),
        }
    }
}

/// One change of the objects of a namespace.
#[derive(Clone, Debug)]
pub enum ObjectEvent {
    /// New or changed. A valid object may come again unchanged (after a lost connection).
    Applied(Object),
    /// The object is there but can't be read as its kind, or (folder only) breaks a rule. What was known of it before stays
    /// in force; other objects are not touched.
    Invalid(InvalidObject),
    /// Gone.
    Deleted(ObjectKey),
    /// Everything that was there at the start has been told for this kind; comes once per kind and stream.
    Synced(Kind),
}

/// An object that can't be read as its kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidObject {
    pub key: ObjectKey,
    /// 0 if unknown.
    pub generation: i64,
    /// What is wrong, with field paths; fit for a condition's message.
    pub error: String,
}

/// Where objects come from.
pub trait ObjectSource: Send + Sync {
    /// Changes of the namespace's objects: at first everything that is there, then [`ObjectEvent::Synced`] per kind, then
    /// changes as they come. Never ends by itself: failures are retried with backoff and logged. Each call is a stream of
    /// its own.
    fn events(&self) -> BoxStream<'static, ObjectEvent>;
}

/// What the server knows of one object. Conditions and fields left out here are left as they are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StatusUpdate {
    pub conditions: Vec<ConditionUpdate>,
    /// CollectorTarget only.
    pub collection: Option<Collection>,
    /// Standalone only: in a cluster these are the operator's, and [`kubernetes::KubeSink`] refuses them.
    pub generations: Option<Generations>,
}

/// What a CollectorTarget's agents scrape.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Collection {
    pub targets: TargetCounts,
    /// Any number, in any order; the sink sorts and cuts them.
    pub failing: Vec<FailingTarget>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Generations {
    pub observed: i64,
    /// `None`: no generation is in force yet.
    pub active: Option<i64>,
}

/// What a write came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Written {
    /// The status changed.
    Changed,
    /// It said the same already, so nothing was written.
    Unchanged,
    /// The object is gone.
    Gone,
}

/// Where conditions go.
pub trait StatusSink: Send + Sync {
    /// Says what is known of an object, unless it was said already. `lastTransitionTime` is kept where the status of a
    /// condition did not change.
    fn write(&self, key: ObjectKey, update: StatusUpdate) -> BoxFuture<'_, Result<Written, SinkError>>;

    /// Tells the sink what an object's status really is; call it for every [`ObjectEvent::Applied`]. So a status that
    /// somebody else changed, or an object made anew under the same name, is noticed at the next write.
    fn observe(&self, object: Object) -> BoxFuture<'_, ()>;

    /// Forgets an object; call it for every [`ObjectEvent::Deleted`].
    fn forget(&self, key: &ObjectKey);
}

#[derive(Debug, thiserror::Error)]
pub enum SinkError {
    #[error("failed to read the status of {key}")]
    Read {
        key: ObjectKey,
        #[source]
        source: Box<kube::Error>,
    },
    #[error("failed to write the status of {key}")]
    Write {
        key: ObjectKey,
        #[source]
        source: Box<kube::Error>,
    },
    #[error("failed to keep the statuses in {path}")]
    Keep {
        path: String,
        #[source]
        source: std::io::Error,
    },
    #[error("the generations of {key} are the operator's to write")]
    NotOurs { key: ObjectKey },
}
