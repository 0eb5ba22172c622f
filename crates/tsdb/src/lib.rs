//! The embedded metrics engine: samples in, series out, on one directory. Sync; every call may block on locks and files.

mod catalog;
mod codec;
mod columns;
mod compact;
mod counters;
mod db;
mod error;
mod flush;
mod head;
mod ingest;
mod matching;
mod metadata;
mod options;
mod recover;
mod segment;
mod select;
mod state;
mod stats;
mod sync;
mod wal;

pub use db::{Db, DbReader, Listing};
pub use error::{AppendError, LimitExceeded, LimitKind, OpenError, StorageError};
pub use ers_journal::Tenant;
pub use options::{CommitMode, DbOptions, HOUR_MS, Limits};
pub use stats::{AppendOutcome, DbStats, MaintenanceReport, MetadataEntry, RecoveryReport};
