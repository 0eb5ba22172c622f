//! The embedded metrics engine: samples in, series out, on one directory. Sync; every call may block on locks and files.

mod db;
mod error;
mod options;
mod stats;

pub use db::{Db, DbReader, Listing};
pub use error::{AppendError, LimitExceeded, LimitKind, OpenError, StorageError};
pub use ers_journal::Tenant;
pub use options::{CommitMode, DbOptions, HOUR_MS, Limits};
pub use stats::{AppendOutcome, DbStats, MaintenanceReport, MetadataEntry, RecoveryReport};
