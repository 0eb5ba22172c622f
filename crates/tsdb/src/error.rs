//! Why something was not stored or read.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ers_journal::JournalError;
use ers_wire::remote_write::DecodeError;

/// The volume, or a file on it.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StorageError {
    /// Nothing was changed; it works again as soon as there is space.
    #[error("no space left for {}", path.display())]
    Full { path: PathBuf },
    #[error("{} {}: {source}", operation, path.display())]
    Io { operation: &'static str, path: PathBuf, source: Arc<io::Error> },
    #[error("{} is damaged: {what}", path.display())]
    Damaged { path: PathBuf, what: &'static str },
    #[error(transparent)]
    Journal(JournalError),
}

impl StorageError {
    pub(crate) fn io(operation: &'static str, path: &Path, error: io::Error) -> Self {
        JournalError::from_io(operation, path, error).into()
    }

    /// Whether waiting for space helps.
    pub fn is_full(&self) -> bool {
        matches!(self, StorageError::Full { .. })
    }
}

impl From<JournalError> for StorageError {
    fn from(error: JournalError) -> Self {
        match error {
            JournalError::StorageFull { path } => StorageError::Full { path },
            JournalError::Io { operation, path, source } => StorageError::Io { operation, path, source },
            other => StorageError::Journal(other),
        }
    }
}

/// A request of which nothing was stored.
#[derive(Clone, Debug, thiserror::Error)]
pub enum AppendError {
    /// The sender's fault (400): sending it again would not help.
    #[error(transparent)]
    Malformed(#[from] DecodeError),
    /// Over a limit (413): a smaller request may pass.
    #[error("request holds {samples} samples, over the limit of {max}")]
    TooManySamples { samples: usize, max: usize },
    /// Over a limit (413): a smaller request may pass.
    #[error("request is {bytes} bytes, over the limit of {max}")]
    TooLarge { bytes: usize, max: usize },
    /// Not durable (503): the volume is full or failing. Send it again later.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

/// What was over its limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LimitKind {
    ActiveSeries,
    LabelsPerSeries,
    LabelNameBytes,
    LabelValueBytes,
    /// No metric name, an empty or repeated label name, or text that is not UTF-8.
    InvalidLabels,
}

impl LimitKind {
    /// The field of `Limits` that an administrator would change, or what was wrong.
    pub fn as_str(self) -> &'static str {
        match self {
            LimitKind::ActiveSeries => "max_active_series",
            LimitKind::LabelsPerSeries => "max_labels_per_series",
            LimitKind::LabelNameBytes => "max_label_name_bytes",
            LimitKind::LabelValueBytes => "max_label_value_bytes",
            LimitKind::InvalidLabels => "invalid_labels",
        }
    }
}

/// The first series of a request that was refused; the others of that request were stored.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("series of metric {metric:?} refused: {} (limit {limit}, found {found})", what.as_str())]
pub struct LimitExceeded {
    pub what: LimitKind,
    /// The guilty metric's name, cut to 200 bytes; empty when it has none.
    pub metric: String,
    /// The guilty label's name where there is one.
    pub label: Option<String>,
    pub limit: usize,
    pub found: usize,
}

/// Why a database cannot be opened. Damage is never a reason: it is mended and reported.
#[derive(Clone, Debug, thiserror::Error)]
pub enum OpenError {
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// A wrong volume: its files are left as they are.
    #[error("{} belongs to tenant {found}, not to {expected}", path.display())]
    ForeignTenant { path: PathBuf, found: uuid::Uuid, expected: uuid::Uuid },
    /// Written by a newer version, or sealed with a key that is not here: left as it is.
    #[error("{} cannot be read by this version: {what}", path.display())]
    Unsupported { path: PathBuf, what: String },
}
