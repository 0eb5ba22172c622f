//! The embedded metrics engine: samples in, series out, on one directory of one tenant. Sync; every call may block on locks and files.
//!
//! ```text
//! request --> wal/ (as received, fdatasync shared by all that wait) --> head (memory) --every 2 h--> seg/*.seg (immutable) --> merged by day --> deleted
//! ```
//!
//! What holds, and is tested:
//! - **Acknowledged means durable** ([`CommitMode::Group`]): a sample whose request was answered `Ok` survives a kill at any moment and the loss of the page cache. What was not answered may come back or not.
//! - A refused request shows nothing. A full volume refuses with [`StorageError::Full`], damages nothing, and needs no restart when there is space again.
//! - Damage never prevents a start: it is stepped over or set aside (`*.corrupt`), counted and reported; everything else is served. A query that meets damage fails and says so; the next one goes on without that file.
//! - A wrong volume (another tenant) or a newer format is refused and left alone.
//! - The same sample twice is one sample. Of two values for one time the first stays, and the second is counted.
//! - Samples may come late by days (a spool after an outage); they are merged when read and when files are merged.
//! - Limits are checked before memory is taken; over the series limit known series go on and new ones are refused by name.
//! - Values come back bit by bit: NaN payloads, signed zeros, subnormals.
//!
//! The files' formats are in the docs of the modules `segment`, `wal`, `state`, `codec`; the log's framing is `ers-journal`'s.
//! Call [`Db::maintain`] about every 30 s from one place.

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
