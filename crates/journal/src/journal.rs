//! The writing side.

use std::collections::VecDeque;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use ers_model::Clock;

use crate::commit::{Batch, Committer, Ticket, lock};
use crate::disk::{Disk, DiskFile, RealDisk, replace_file};
use crate::error::JournalError;
use crate::format::{FRAME_HEADER_BYTES, FileHeader, HEADER_BYTES, Tenant, VERSION, encode_frame, segment_path};
use crate::reader::Reader;
use crate::recover::{RecoveryReport, recover};
use crate::reserve::Reserve;

/// How a journal is kept.
#[derive(Clone)]
pub struct JournalOptions {
    /// Written in each header; files of another tenant are refused.
    pub tenant: Tenant,
    /// A file is closed when the next record would make it larger.
    pub max_segment_bytes: u64,
    /// Largest payload of one record.
    pub max_record_bytes: u32,
    /// Records are collected up to this size before they are handed to the kernel.
    pub buffer_bytes: usize,
    /// Size of the file that is kept for a full volume; 0 = none.
    pub reserve_bytes: u64,
    /// Stamps new files.
    pub clock: Arc<dyn Clock>,
    pub disk: Arc<dyn Disk>,
}

impl JournalOptions {
    /// 16 MiB files, 4 MiB records, 64 KiB buffer, 1 MiB reserve, on the machine's own disk.
    pub fn new(tenant: Tenant, clock: Arc<dyn Clock>) -> Self {
        JournalOptions {
            tenant,
            max_segment_bytes: 16 << 20,
            max_record_bytes: 4 << 20,
            buffer_bytes: 64 << 10,
            reserve_bytes: 1 << 20,
            clock,
            disk: Arc::new(RealDisk),
        }
    }
}

/// A place in the journal. Ordered by sequence; file and offset only make finding it quick, so a cursor may store the sequence alone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Position {
    pub seq: u64,
    /// First sequence of the file that holds it.
    pub segment: u64,
    pub offset: u64,
}

impl Position {
    /// Before everything.
    pub const START: Position = Position { seq: 0, segment: 0, offset: 0 };

    /// Where the record with this sequence is, or the first one after it.
    pub fn at_seq(seq: u64) -> Self {
        Position { seq, segment: 0, offset: 0 }
    }
}

impl PartialOrd for Position {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Position {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.seq.cmp(&other.seq)
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct JournalStats {
    /// Bytes of all segment files, the unwritten buffer included; without the reserve.
    pub bytes: u64,
    pub segments: usize,
    /// The oldest record that may still be there; equal to `next_seq` when there is none.
    pub oldest_seq: u64,
    pub next_seq: u64,
    pub reserve_ready: bool,
}

/// One directory of segment files, open for appending. All methods take `&self`; share it in an `Arc`.
pub struct Journal {
    dir: PathBuf,
    options: JournalOptions,
    writer: Mutex<Writer>,
    committer: Committer,
    reserve: Reserve,
    /// Held for the life of the journal.
    _lock: File,
}

/// A file that is no longer written.
pub(crate) struct ClosedSegment {
    pub first_seq: u64,
    pub bytes: u64,
}

pub(crate) struct OpenSegment {
    pub file: Arc<dyn DiskFile>,
    pub first_seq: u64,
    /// Bytes handed to the kernel.
    pub bytes: u64,
}

struct Writer {
    closed: VecDeque<ClosedSegment>,
    current: OpenSegment,
    next_seq: u64,
    buffer: Vec<u8>,
    /// Sequence of the first record in `buffer`.
    buffer_first_seq: u64,
    batch: Arc<Batch>,
    /// Files with bytes that no fdatasync has covered yet.
    dirty: Vec<(u64, Arc<dyn DiskFile>)>,
    dir_dirty: bool,
    /// The current file could not be cut back after a failed write: it takes no more records.
    abandoned: bool,
}

impl Journal {
    /// Opens or makes the directory, repairs what a crash left, and appends after the last valid record.
    pub fn open(dir: &Path, options: JournalOptions) -> Result<(Journal, RecoveryReport), JournalError> {
        let disk = options.disk.clone();
        disk.create_dir(dir).map_err(|error| JournalError::from_io("create", dir, error))?;
        let held = take_lock(dir)?;
        let (recovered, report) = recover(dir, &options)?;
        let (current, dir_dirty) = match recovered.current {
            Some(current) => (current, true),
            None => (create_segment(dir, &options, recovered.next_seq)?, true),
        };
        let first_seq = current.first_seq;
        let dirty = vec![(first_seq, current.file.clone())];
        let writer = Writer {
            closed: recovered.closed.into(),
            current,
            next_seq: recovered.next_seq,
            buffer: Vec::new(),
            buffer_first_seq: recovered.next_seq,
            batch: Arc::default(),
            dirty,
            dir_dirty,
            abandoned: false,
        };
        let reserve = Reserve::new(dir, options.reserve_bytes, disk);
        reserve.restore();
        let journal = Journal {
            dir: dir.into(),
            options,
            writer: Mutex::new(writer),
            committer: Committer::default(),
            reserve,
            _lock: held,
        };
        Ok((journal, report))
    }

    /// Adds one record, whose payload is the concatenation of `parts`. It is not durable until [`commit`](Self::commit) says so.
    pub fn append(&self, kind: u8, parts: &[&[u8]]) -> Result<Ticket, JournalError> {
        let bytes = parts.iter().map(|part| part.len()).fold(0_usize, usize::saturating_add);
        let max = self.options.max_record_bytes as usize;
        if bytes > max {
            return Err(JournalError::RecordTooLarge { bytes, max });
        }
        let frame_bytes = (FRAME_HEADER_BYTES + bytes) as u64;
        let mut guard = lock(&self.writer);
        let writer = &mut *guard;
        let filled = writer.current.bytes + writer.buffer.len() as u64;
        let holds_records = filled > HEADER_BYTES as u64;
        if writer.abandoned || (holds_records && filled + frame_bytes > self.options.max_segment_bytes) {
            self.rotate_locked(writer)?;
        }
        let seq = writer.next_seq;
        let offset = writer.current.bytes + writer.buffer.len() as u64;
        if writer.buffer.is_empty() {
            writer.buffer_first_seq = seq;
        }
        encode_frame(&mut writer.buffer, kind, seq, parts, bytes as u32);
        writer.next_seq += 1;
        writer.mark_dirty();
        let position = Position { seq, segment: writer.current.first_seq, offset };
        let ticket = Ticket { position, batch: writer.batch.clone() };
        if writer.buffer.len() >= self.options.buffer_bytes {
            self.flush_locked(writer)?;
        }
        Ok(ticket)
    }

    /// Hands buffered records to the kernel: they then survive the end of the process, not yet a loss of power.
    pub fn flush(&self) -> Result<(), JournalError> {
        self.flush_locked(&mut lock(&self.writer))
    }

    /// Waits until the record survives power loss. After an error it is not acknowledged: it may or may not come back after a restart.
    pub fn commit(&self, ticket: &Ticket) -> Result<(), JournalError> {
        self.committer.wait(ticket, || self.lead())
    }

    /// Makes everything appended so far durable. An error means that one record or more of it is not.
    pub fn sync(&self) -> Result<(), JournalError> {
        let batch = lock(&self.writer).batch.clone();
        self.committer.wait_all(&batch, || self.lead())
    }

    /// Closes the current file, so that `truncate_before` can remove it. Does nothing when it holds no record.
    pub fn rotate(&self) -> Result<(), JournalError> {
        let mut writer = lock(&self.writer);
        if writer.current.bytes + writer.buffer.len() as u64 > HEADER_BYTES as u64 {
            self.rotate_locked(&mut writer)?;
        }
        Ok(())
    }

    /// All records from a position on that are appended by now, the buffered ones included.
    pub fn read_from(&self, position: Position) -> Result<Reader, JournalError> {
        let mut guard = lock(&self.writer);
        let writer = &mut *guard;
        self.flush_locked(writer)?;
        let segments = writer
            .closed
            .iter()
            .map(|closed| (closed.first_seq, closed.bytes))
            .chain([(writer.current.first_seq, writer.current.bytes)])
            .collect();
        Ok(Reader::new(self.dir.clone(), segments, writer.next_seq, self.options.max_record_bytes, position))
    }

    /// Deletes the files all of whose records come before the position; returns the bytes that became free.
    pub fn truncate_before(&self, position: Position) -> Result<u64, JournalError> {
        let mut writer = lock(&self.writer);
        let mut freed = 0;
        while let Some(oldest) = writer.closed.front() {
            let end_seq = writer.closed.get(1).map_or(writer.current.first_seq, |next| next.first_seq);
            if end_seq > position.seq {
                break;
            }
            let (first_seq, bytes) = (oldest.first_seq, oldest.bytes);
            let path = segment_path(&self.dir, first_seq);
            self.on_full_disk(|| match self.options.disk.remove(&path) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
                _ => Ok(()),
            })
            .map_err(|error| JournalError::from_io("delete", &path, error))?;
            writer.dirty.retain(|(segment, _)| *segment != first_seq);
            writer.closed.pop_front();
            freed += bytes;
        }
        if freed > 0 {
            self.options.disk.sync_dir(&self.dir).map_err(|error| JournalError::from_io("sync", &self.dir, error))?;
            self.reserve.restore();
        }
        Ok(freed)
    }

    /// Deletes the oldest closed file (if there is one), whatever it holds: for a spool that is over its size.
    /// Returns the first sequence that remains and the bytes that became free.
    pub fn drop_oldest(&self) -> Result<Option<(u64, u64)>, JournalError> {
        let end_seq = {
            let writer = lock(&self.writer);
            if writer.closed.is_empty() {
                return Ok(None);
            }
            writer.closed.get(1).map_or(writer.current.first_seq, |next| next.first_seq)
        };
        let freed = self.truncate_before(Position::at_seq(end_seq))?;
        Ok(Some((end_seq, freed)))
    }

    /// Atomically replaces a small file in the journal's directory (a cursor, say), using the reserve when the volume is full.
    /// The name must not be one of a segment.
    pub fn write_beside(&self, name: &str, bytes: &[u8]) -> Result<(), JournalError> {
        let path = self.dir.join(name);
        let written = self.on_full_disk(|| replace_file(&*self.options.disk, &path, bytes));
        written.map_err(|error| JournalError::from_io("write", &path, error))
    }

    pub fn stats(&self) -> JournalStats {
        let writer = lock(&self.writer);
        let closed: u64 = writer.closed.iter().map(|segment| segment.bytes).sum();
        JournalStats {
            bytes: closed + writer.current.bytes + writer.buffer.len() as u64,
            segments: writer.closed.len() + 1,
            oldest_seq: writer.closed.front().map_or(writer.current.first_seq, |segment| segment.first_seq),
            next_seq: writer.next_seq,
            reserve_ready: self.reserve.is_ready(),
        }
    }

    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Allocates the reserve again if it was used and there is space now.
    pub fn restore_reserve(&self) -> bool {
        self.reserve.restore()
    }

    /// Tries again with the reserve's space when the volume is full. The reserve comes back when something was deleted.
    fn on_full_disk(&self, operation: impl Fn() -> std::io::Result<()>) -> std::io::Result<()> {
        match operation() {
            Err(error) if is_full(&error) && self.reserve.release() => operation(),
            other => other,
        }
    }

    /// One fdatasync for everything appended so far.
    fn lead(&self) {
        let (batch, dirty, dir_dirty) = {
            let mut writer = lock(&self.writer);
            // A failure is noted in the batch for the records it concerns; the others go on.
            let _ = self.flush_locked(&mut writer);
            let batch = std::mem::take(&mut writer.batch);
            (batch, std::mem::take(&mut writer.dirty), std::mem::take(&mut writer.dir_dirty))
        };
        let synced = self.sync_files(&dirty, dir_dirty);
        if let Err(error) = &synced {
            self.after_failed_sync(error);
        }
        batch.finish(synced);
    }

    fn sync_files(&self, files: &[(u64, Arc<dyn DiskFile>)], dir_dirty: bool) -> Result<(), JournalError> {
        for (segment, file) in files {
            let path = segment_path(&self.dir, *segment);
            file.sync_data().map_err(|error| JournalError::from_io("sync", &path, error))?;
        }
        if dir_dirty {
            self.options.disk.sync_dir(&self.dir).map_err(|error| JournalError::from_io("sync", &self.dir, error))?;
        }
        Ok(())
    }

    /// The kernel may have dropped the pages it could not write, and will not report them again: nothing after them in that file can be trusted,
    /// so what is not yet acknowledged fails as well and new records go to a new file.
    fn after_failed_sync(&self, error: &JournalError) {
        let mut guard = lock(&self.writer);
        let writer = &mut *guard;
        let _ = self.flush_locked(writer);
        std::mem::take(&mut writer.batch).finish(Err(error.clone()));
        writer.dirty.clear();
        writer.dir_dirty = true;
        writer.abandoned = true;
    }

    fn flush_locked(&self, writer: &mut Writer) -> Result<(), JournalError> {
        if writer.buffer.is_empty() {
            return Ok(());
        }
        let written = writer.current.file.append(&writer.buffer);
        let bytes = writer.buffer.len() as u64;
        writer.buffer.clear();
        if writer.buffer.capacity() > 4 * self.options.buffer_bytes {
            writer.buffer.shrink_to(self.options.buffer_bytes);
        }
        let Err(error) = written else {
            writer.current.bytes += bytes;
            return Ok(());
        };
        let path = segment_path(&self.dir, writer.current.first_seq);
        let error = JournalError::from_io("write", &path, error);
        writer.batch.fail_unwritten(writer.buffer_first_seq, writer.next_seq - 1, error.clone());
        if writer.current.file.set_len(writer.current.bytes).is_err() {
            writer.abandoned = true;
        }
        Err(error)
    }

    fn rotate_locked(&self, writer: &mut Writer) -> Result<(), JournalError> {
        self.flush_locked(writer)?;
        if writer.next_seq == writer.current.first_seq {
            // No record ever came here, so the new file would have the same name.
            writer.next_seq += 1;
        }
        let next = create_segment(&self.dir, &self.options, writer.next_seq)?;
        let previous = std::mem::replace(&mut writer.current, next);
        writer.closed.push_back(ClosedSegment { first_seq: previous.first_seq, bytes: previous.bytes });
        writer.abandoned = false;
        writer.dir_dirty = true;
        writer.mark_dirty();
        Ok(())
    }
}

impl Writer {
    fn mark_dirty(&mut self) {
        let segment = self.current.first_seq;
        if self.dirty.last().is_none_or(|(last, _)| *last != segment) {
            self.dirty.push((segment, self.current.file.clone()));
        }
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        // What was not committed was not promised; still, a clean end should not lose it.
        let _ = self.flush();
    }
}

fn is_full(error: &std::io::Error) -> bool {
    matches!(error.kind(), std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded)
}

fn create_segment(dir: &Path, options: &JournalOptions, first_seq: u64) -> Result<OpenSegment, JournalError> {
    let path = segment_path(dir, first_seq);
    let header = FileHeader {
        version: VERSION,
        key_id: 0,
        tenant: options.tenant,
        created_ms: options.clock.now_ms(),
        first_seq,
    };
    let file = options.disk.create(&path).map_err(|error| JournalError::from_io("create", &path, error))?;
    if let Err(error) = file.append(&header.encode()) {
        // Without a header it would be set aside at the next start.
        let _ = options.disk.remove(&path);
        return Err(JournalError::from_io("write", &path, error));
    }
    Ok(OpenSegment { file, first_seq, bytes: HEADER_BYTES as u64 })
}

fn take_lock(dir: &Path) -> Result<File, JournalError> {
    use std::os::unix::fs::OpenOptionsExt;
    let path = dir.join("LOCK");
    let file = std::fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(crate::disk::FILE_MODE)
        .open(&path)
        .map_err(|error| JournalError::from_io("open", &path, error))?;
    let deadline = std::time::Instant::now() + LOCK_PATIENCE;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(std::fs::TryLockError::WouldBlock) if std::time::Instant::now() < deadline => {
                std::thread::sleep(LOCK_RETRY);
            }
            Err(std::fs::TryLockError::WouldBlock) => return Err(JournalError::Locked { path: dir.into() }),
            Err(std::fs::TryLockError::Error(error)) => return Err(JournalError::from_io("lock", &path, error)),
        }
    }
}

/// A lock that was just given up may be held a moment longer: a program that this process starts has a copy of it between fork and exec.
const LOCK_PATIENCE: std::time::Duration = std::time::Duration::from_secs(1);
const LOCK_RETRY: std::time::Duration = std::time::Duration::from_millis(5);
