//! What can go wrong with a journal, in values that many waiting threads can share.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Cloneable: one failed fdatasync is the answer of every thread that waited for it.
#[derive(Clone, Debug, thiserror::Error)]
pub enum JournalError {
    /// No space left on the volume (or the quota is used up). Nothing of the record stays; try again when there is space.
    #[error("no space left for {}", path.display())]
    StorageFull { path: PathBuf },
    #[error("{} {}: {source}", operation, path.display())]
    Io { operation: &'static str, path: PathBuf, source: Arc<io::Error> },
    #[error("a record of {bytes} bytes is over the limit of {max} bytes")]
    RecordTooLarge { bytes: usize, max: usize },
    /// Another process has this directory open.
    #[error("{} is in use by another process", path.display())]
    Locked { path: PathBuf },
    /// The files belong to another tenant: a wrong volume, not a damaged one. They are left as they are.
    #[error("{} belongs to tenant {found}, not to {expected}", path.display())]
    ForeignTenant { path: PathBuf, found: uuid::Uuid, expected: uuid::Uuid },
    /// Written by a newer version of this program. The file is left as it is.
    #[error("{} has format version {found}; this program reads up to {supported}", path.display())]
    UnsupportedVersion { path: PathBuf, found: u16, supported: u16 },
    /// Sealed with a key that this program was not given. The file is left as it is.
    #[error("{} is sealed with key {key_id}, which is not available", path.display())]
    UnknownKey { path: PathBuf, key_id: u32 },
}

impl JournalError {
    /// Tells a full volume from every other failure.
    pub fn from_io(operation: &'static str, path: &Path, error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                JournalError::StorageFull { path: path.into() }
            }
            _ => JournalError::Io { operation, path: path.into(), source: Arc::new(error) },
        }
    }

    /// Whether the caller should wait for space rather than give up.
    pub fn is_storage_full(&self) -> bool {
        matches!(self, JournalError::StorageFull { .. })
    }
}
