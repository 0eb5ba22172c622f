//! Reconciles our kinds: one module per kind, the same file names in each, always the same five steps:
//! dereference (all reads), validate (pure), build (pure), apply (all writes), status (computed purely, written on every
//! exit).
//!
//! [`run::run`] starts the watches and the rounds; [`world::World`] is what they share. Nothing here knows of the lease:
//! the client that is handed in refuses writes without it.

mod applier;
pub mod cache;
mod child;
mod cluster_bindings;
pub mod collector_target;
mod error;
mod judge;
mod last_good;
mod latch;
pub mod metrics;
mod node;
mod pod;
mod programmed;
pub mod prover;
mod queue;
mod reconciler;
pub mod report_policy;
pub mod run;
mod semantic;
pub mod settings;
mod status_writer;
mod trouble;
mod watches;
pub mod world;

pub use child::{APPLIED_ANNOTATION, hash_of};

/// Whether an object in the cluster says everything that another one says; see `semantic.rs` for what that means.
pub fn is_satisfied_by(wanted: &serde_json::Value, live: &serde_json::Value) -> bool {
    semantic::difference(wanted, live).is_none()
}
