//! What a start does: segments are opened, the log is read into the head.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use ers_journal::{JournalError, Position};
use uuid::Uuid;

use crate::db::Inner;
use crate::error::{OpenError, StorageError};
use crate::ingest::{self, Bounds, Preparation, Scratch};
use crate::metadata::MetadataStore;
use crate::options::DbOptions;
use crate::segment::file::SegmentFile;
use crate::segment::{SUFFIX, TEMPORARY_SUFFIX};
use crate::state::{self, Flushed};
use crate::stats::RecoveryReport;
use crate::wal::{KIND_REMOTE_WRITE, Wal, WalRecord};

/// A request in the log was within its limits when it was accepted, whatever they are now.
const MAX_LOGGED_REQUEST_BYTES: usize = 1 << 31;

impl From<JournalError> for OpenError {
    fn from(error: JournalError) -> Self {
        match error {
            JournalError::ForeignTenant { path, found, expected } => OpenError::ForeignTenant { path, found, expected },
            JournalError::UnsupportedVersion { ref path, .. } | JournalError::UnknownKey { ref path, .. } => {
                OpenError::Unsupported { path: path.clone(), what: error.to_string() }
            }
            other => OpenError::Storage(other.into()),
        }
    }
}

pub(crate) fn open(dir: &Path, options: DbOptions) -> Result<(Inner, RecoveryReport), OpenError> {
    let started = Instant::now();
    let mut report = RecoveryReport::default();
    let segment_dir = dir.join("seg");
    for wanted in [dir, &segment_dir] {
        options.disk.create_dir(wanted).map_err(|error| StorageError::io("create", wanted, error))?;
    }
    // First, as it holds the lock of the whole directory.
    let (wal, wal_report) = Wal::open(&dir.join("wal"), &options)?;
    report.wal = wal_report;
    let (flushed, metadata) = read_state(dir, &options, &mut report)?;
    let segments = open_segments(&segment_dir, &options, &mut report)?;
    report.segments = segments.len();
    let inner = Inner::new(dir, segment_dir, options, wal, segments, metadata);
    replay(&inner, flushed, &mut report)?;
    inner.count_quarantined(report.quarantined.len());
    report.elapsed_ms = started.elapsed().as_millis() as u64;
    Ok((inner, report))
}

fn read_state(
    dir: &Path,
    options: &DbOptions,
    report: &mut RecoveryReport,
) -> Result<(Flushed, MetadataStore), OpenError> {
    let path = dir.join(state::FILE_NAME);
    let bytes = match std::fs::read(&path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok((Flushed::NOTHING, MetadataStore::default())),
        Err(error) => return Err(StorageError::io("read", &path, error).into()),
    };
    if let Some(state) = state::read(&bytes, &path, options.tenant, &options.limits)? {
        return Ok(state);
    }
    set_aside(&path, options, "checksum", report);
    Ok((Flushed::NOTHING, MetadataStore::default()))
}

/// Renames a damaged file to `*.corrupt`; if even that fails it is left, and reported all the same.
fn set_aside(path: &Path, options: &DbOptions, what: &str, report: &mut RecoveryReport) {
    let aside = corrupt_path(path);
    let kept = if options.disk.rename(path, &aside).is_ok() { aside } else { path.to_path_buf() };
    report.quarantined.push((kept, what.to_owned()));
}

pub(crate) fn corrupt_path(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".corrupt");
    name.into()
}

fn open_segments(
    dir: &Path,
    options: &DbOptions,
    report: &mut RecoveryReport,
) -> Result<Vec<Arc<SegmentFile>>, OpenError> {
    let mut segments: Vec<Arc<SegmentFile>> = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(|error| StorageError::io("list", dir, error))? {
        let path = entry.map_err(|error| StorageError::io("list", dir, error))?.path();
        let extension = path.extension().and_then(|extension| extension.to_str());
        if extension == Some(TEMPORARY_SUFFIX) {
            // Work that was interrupted: its samples are in the log or in the files it was made from.
            options.disk.remove(&path).map_err(|error| StorageError::io("delete", &path, error))?;
            report.removed_temporary += 1;
            continue;
        }
        let id = path.file_stem().and_then(|stem| Uuid::parse_str(stem.to_str()?).ok());
        let (Some(SUFFIX), Some(id)) = (extension, id) else { continue };
        match SegmentFile::open(&path, id, options.tenant)? {
            Ok(segment) => segments.push(Arc::new(segment)),
            Err(error) => set_aside(&path, options, &error.to_string(), report),
        }
    }
    // A crash between the writing of a merged segment and the deletion of its sources leaves both.
    let replaced: Vec<Uuid> = segments.iter().flat_map(|segment| segment.meta.sources.iter().copied()).collect();
    let (gone, mut kept): (Vec<_>, Vec<_>) =
        segments.into_iter().partition(|segment| replaced.contains(&segment.meta.id));
    for segment in gone {
        options.disk.remove(&segment.path).map_err(|error| StorageError::io("delete", &segment.path, error))?;
        report.removed_temporary += 1;
    }
    kept.sort_by_key(|segment| segment.meta.id);
    Ok(kept)
}

fn replay(inner: &Inner, flushed: Flushed, report: &mut RecoveryReport) -> Result<(), OpenError> {
    let mut reader = inner.wal.journal().read_from(Position::START)?;
    let mut scratch = Scratch::default();
    while let Some(record) = reader.next_record()? {
        let seq = record.seq;
        let segment = record.position.segment;
        let content = (record.kind == KIND_REMOTE_WRITE).then(|| WalRecord::decode(record.payload)).flatten();
        let Some(content) = content else {
            report.wal_unreadable_records += 1;
            continue;
        };
        let Scratch { raw, prepared, codec } = &mut scratch;
        let limits = &inner.options.limits;
        let bounds = Bounds::at(content.recv_ms, &inner.options);
        let preparation =
            Preparation { head: &inner.head, limits, enforce_limits: false, enforced: &content.enforced, bounds };
        let readable = ers_wire::remote_write::decompress(content.body, MAX_LOGGED_REQUEST_BYTES, raw).is_ok()
            && preparation.run(raw, prepared).is_ok();
        if !readable {
            report.wal_unreadable_records += 1;
            continue;
        }
        inner.wal.note(segment, prepared.newest_ms);
        let in_segments = |at_ms: i64| seq < flushed.seq && at_ms < flushed.before_ms;
        ingest::apply(&inner.head, inner.options.block_ms, prepared, codec, |at_ms| !in_segments(at_ms));
        report.wal_samples += prepared.outcome.accepted;
        if prepared.metadata_count > 0 {
            ingest::apply_metadata(raw, &inner.metadata, limits);
        }
    }
    // Series all of whose samples are in segments.
    inner.head.remove_ended(|series| crate::sync::lock(&series.state).is_empty());
    Ok(())
}
