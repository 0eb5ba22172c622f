//! Framed append-only files: the agent's spool and the write-ahead log of the metrics engine.
//!
//! - [`Journal::append`] buffers, [`Journal::commit`] returns when the record survives power loss; many threads share one fdatasync.
//! - What was committed comes back after a crash at any byte. A torn tail is cut off in the last file only; damage elsewhere is stepped over, or the file is set aside as `*.corrupt`;
//!   both are counted in the [`RecoveryReport`]. Damage never prevents a start.
//! - A full volume is [`JournalError::StorageFull`]; no part of the refused record stays, and the next append succeeds as soon as there is space.
//! - A reserve file is allocated beforehand, so that a cursor can be written and segments deleted on a full volume.
//!
//! Files are 0600, directories 0700. Sync, no async runtime: call it from a thread that may block.

mod commit;
pub mod disk;
mod error;
#[cfg(feature = "fault")]
pub mod fault;
mod format;
mod journal;
mod reader;
mod recover;
mod reserve;
mod scan;

pub use commit::Ticket;
pub use error::JournalError;
pub use format::{FRAME_HEADER_BYTES, HEADER_BYTES, Tenant};
pub use journal::{Journal, JournalOptions, JournalStats, Position};
pub use reader::{Reader, Record};
pub use recover::{Damage, Quarantined, RecoveryReport};
