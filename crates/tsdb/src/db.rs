//! The database's face. Signatures first: until the engine is in, every call says that it cannot work.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use ers_model::{Labels, Sample, TimeRange};
use ers_promql::source::{LabelMatcher, Select, SeriesData, SeriesSource, SourceError};
use ers_wire::remote_write::Metadata;

use crate::error::{AppendError, OpenError, StorageError};
use crate::options::DbOptions;
use crate::stats::{AppendOutcome, DbStats, MaintenanceReport, MetadataEntry, RecoveryReport};

/// One tenant's database. Clones share it.
#[derive(Clone)]
pub struct Db(Arc<Inner>);

struct Inner {
    dir: PathBuf,
    _options: DbOptions,
}

/// Reads with the principal's matchers bound: nothing outside of them is seen.
#[derive(Clone)]
pub struct DbReader {
    _db: Db,
    _enforced: Vec<LabelMatcher>,
}

/// Sorted, without duplicates.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listing<T> {
    pub items: Vec<T>,
    /// There was more than the limit.
    pub truncated: bool,
}

impl Inner {
    fn unavailable(&self) -> StorageError {
        StorageError::io("open", &self.dir, std::io::Error::from(std::io::ErrorKind::Unsupported))
    }
}

impl Db {
    pub fn open(dir: &Path, options: DbOptions, _now_ms: i64) -> Result<(Db, RecoveryReport), OpenError> {
        Ok((Db(Arc::new(Inner { dir: dir.into(), _options: options })), RecoveryReport::default()))
    }

    /// Stores a remote write 1.0 body (snappy, as received). `enforced` labels override the body's; an empty value removes the label.
    pub fn append_remote_write(
        &self,
        _enforced: &[(&str, &str)],
        _body: &[u8],
        _recv_ms: i64,
    ) -> Result<AppendOutcome, AppendError> {
        Err(self.0.unavailable().into())
    }

    /// Stores samples made inside the server.
    pub fn append_samples(&self, _batch: &[(Labels, Sample)], _recv_ms: i64) -> Result<AppendOutcome, AppendError> {
        Err(self.0.unavailable().into())
    }

    pub fn append_metadata(&self, _metadata: &[Metadata<'_>], _recv_ms: i64) -> Result<AppendOutcome, AppendError> {
        Err(self.0.unavailable().into())
    }

    pub fn reader(&self, enforced: Vec<LabelMatcher>) -> DbReader {
        DbReader { _db: self.clone(), _enforced: enforced }
    }

    pub fn metadata(&self, _metric: Option<&str>, _limit: usize) -> Vec<MetadataEntry> {
        Vec::new()
    }

    pub fn stats(&self) -> DbStats {
        DbStats::default()
    }

    /// Writes due blocks, deletes what is past retention, merges small segments. Call it about every 30 s.
    pub fn maintain(&self, _now_ms: i64) -> Result<MaintenanceReport, StorageError> {
        Err(self.0.unavailable())
    }

    /// Writes the whole head to segments. Optional at a clean stop: the log keeps everything anyway.
    pub fn flush_all(&self, _now_ms: i64) -> Result<MaintenanceReport, StorageError> {
        Err(self.0.unavailable())
    }

    /// Writes a small file, makes it durable and reads it back.
    pub fn probe(&self) -> Result<(), StorageError> {
        Err(self.0.unavailable())
    }

    /// Makes everything durable that was appended so far, whatever the commit mode.
    pub fn sync(&self) -> Result<(), StorageError> {
        Err(self.0.unavailable())
    }
}

impl DbReader {
    /// Names of labels of series that match any of the sets (all series when there is none) and have samples in the range.
    pub fn label_names(
        &self,
        _sets: &[Vec<LabelMatcher>],
        _range: TimeRange,
        _limit: usize,
    ) -> Result<Listing<String>, SourceError> {
        Err(SourceError::Storage("not open".into()))
    }

    pub fn label_values(
        &self,
        _name: &str,
        _sets: &[Vec<LabelMatcher>],
        _range: TimeRange,
        _limit: usize,
    ) -> Result<Listing<String>, SourceError> {
        Err(SourceError::Storage("not open".into()))
    }

    pub fn series(
        &self,
        _sets: &[Vec<LabelMatcher>],
        _range: TimeRange,
        _limit: usize,
    ) -> Result<Listing<Labels>, SourceError> {
        Err(SourceError::Storage("not open".into()))
    }
}

impl SeriesSource for DbReader {
    fn select(&self, _select: &Select<'_>) -> Result<Vec<SeriesData>, SourceError> {
        Err(SourceError::Storage("not open".into()))
    }
}
