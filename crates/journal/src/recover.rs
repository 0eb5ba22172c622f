//! What a start does with the files it finds.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use crate::error::JournalError;
use crate::format::{FRAME_HEADER_BYTES, FileHeader, HEADER_BYTES, parse_segment_name, segment_path};
use crate::journal::{ClosedSegment, JournalOptions, OpenSegment};
use crate::scan::{Scanned, Scanner};

/// Bytes of a file that hold no valid record and were stepped over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    pub path: PathBuf,
    pub from: u64,
    pub to: u64,
}

/// A file, or the end of one, that was set aside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quarantined {
    /// Where its bytes are now.
    pub path: PathBuf,
    pub bytes: u64,
    pub reason: &'static str,
}

/// What was found and mended. All zeros and empty after a clean stop.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RecoveryReport {
    pub segments: usize,
    pub records: u64,
    /// Bytes cut off the end of the last file: a record whose writing was interrupted.
    pub torn_bytes: u64,
    pub damage: Vec<Damage>,
    pub quarantined: Vec<Quarantined>,
}

impl RecoveryReport {
    /// Whether something that may have been acknowledged was lost (a torn tail never was).
    pub fn is_damaged(&self) -> bool {
        !self.damage.is_empty() || !self.quarantined.is_empty()
    }
}

pub(crate) struct Recovered {
    pub closed: Vec<ClosedSegment>,
    pub current: Option<OpenSegment>,
    pub next_seq: u64,
}

struct Scan {
    records: u64,
    last_seq: Option<u64>,
    valid_end: u64,
    gaps: Vec<(u64, u64)>,
}

pub(crate) fn recover(dir: &Path, options: &JournalOptions) -> Result<(Recovered, RecoveryReport), JournalError> {
    let names = list_segments(dir)?;
    let mut report = RecoveryReport::default();
    let mut kept: Vec<ClosedSegment> = Vec::new();
    let mut next_seq = 1;
    for (at, first_seq) in names.iter().copied().enumerate() {
        let is_last = at + 1 == names.len();
        let seq_limit = names.get(at + 1).copied().unwrap_or(u64::MAX);
        let path = segment_path(dir, first_seq);
        let io = |operation| move |error: io::Error| (operation, error);
        let outcome = recover_file(dir, options, first_seq, seq_limit, is_last, &mut report);
        next_seq = next_seq.max(first_seq);
        match outcome {
            Ok(Some((bytes, seq_after))) => {
                next_seq = next_seq.max(seq_after);
                kept.push(ClosedSegment { first_seq, bytes });
            }
            Ok(None) => {
                // Its records are unknown: the next sequence lies beyond all that it can have held.
                let bytes = report.quarantined.last().map_or(0, |aside| aside.bytes);
                next_seq = next_seq.max(first_seq.saturating_add(1 + bytes / FRAME_HEADER_BYTES as u64));
            }
            Err(Failure::Typed(error)) => return Err(error),
            Err(Failure::Io(operation, error)) => {
                let (operation, error) = io(operation)(error);
                return Err(JournalError::from_io(operation, &path, error));
            }
        }
    }
    report.segments = kept.len();
    let current = match kept.pop() {
        // Only the newest file by name is appended to: a sequence in it must be above all others.
        Some(last) if Some(&last.first_seq) == names.last() => {
            let path = segment_path(dir, last.first_seq);
            let file = options.disk.open_append(&path).map_err(|error| JournalError::from_io("open", &path, error))?;
            Some(OpenSegment { file, first_seq: last.first_seq, bytes: last.bytes })
        }
        Some(other) => {
            kept.push(other);
            None
        }
        None => None,
    };
    Ok((Recovered { closed: kept, current, next_seq }, report))
}

enum Failure {
    Typed(JournalError),
    Io(&'static str, io::Error),
}

/// Length that is kept and the first sequence after it; `None` when the whole file was set aside.
fn recover_file(
    dir: &Path,
    options: &JournalOptions,
    first_seq: u64,
    seq_limit: u64,
    is_last: bool,
    report: &mut RecoveryReport,
) -> Result<Option<(u64, u64)>, Failure> {
    let path = segment_path(dir, first_seq);
    let mut file = File::open(&path).map_err(|error| Failure::Io("open", error))?;
    let bytes = file.metadata().map_err(|error| Failure::Io("stat", error))?.len();
    let mut head = Vec::with_capacity(HEADER_BYTES);
    (&mut file).take(HEADER_BYTES as u64).read_to_end(&mut head).map_err(|error| Failure::Io("read", error))?;
    let header = FileHeader::decode(&head);
    if let Some(header) = &header {
        header.check(&path, options.tenant).map_err(Failure::Typed)?;
    }
    let scan = scan(file, bytes, options.max_record_bytes, first_seq, seq_limit)
        .map_err(|error| Failure::Io("read", error))?;
    if header.is_none() {
        if scan.records == 0 {
            set_aside(dir, options, &path, bytes, "its header is damaged and it holds no valid record", report)?;
            return Ok(None);
        }
        report.damage.push(Damage { path: path.clone(), from: 0, to: HEADER_BYTES as u64 });
    }
    for (from, to) in &scan.gaps {
        report.damage.push(Damage { path: path.clone(), from: *from, to: *to });
    }
    report.records += scan.records;
    // The process may have died between writing and syncing; from here on, what is read back counts as kept.
    // A disk that fails here fails the first commit too, so this is no reason not to start.
    if let Ok(file) = options.disk.open_append(&path) {
        let _ = file.sync_data();
    }
    let mut seq_after = scan.last_seq.map_or(first_seq, |seq| seq + 1);
    let invalid = bytes.saturating_sub(scan.valid_end);
    if invalid == 0 {
        return Ok(Some((bytes, seq_after)));
    }
    // Sequences that the lost bytes may have used are not used again.
    seq_after += 1 + invalid / FRAME_HEADER_BYTES as u64;
    if is_last {
        cut(options, &path, scan.valid_end)?;
        report.torn_bytes += invalid;
    } else {
        keep_copy_and_cut(options, &path, scan.valid_end, bytes, report)?;
    }
    Ok(Some((scan.valid_end, seq_after)))
}

fn scan(file: File, bytes: u64, max_record_bytes: u32, first_seq: u64, seq_limit: u64) -> io::Result<Scan> {
    let start = (HEADER_BYTES as u64).min(bytes);
    let mut scanner = Scanner::new(file, start, bytes, max_record_bytes, first_seq, seq_limit);
    let mut scan = Scan { records: 0, last_seq: None, valid_end: start, gaps: Vec::new() };
    loop {
        match scanner.next()? {
            Scanned::Record { seq, .. } => {
                scan.records += 1;
                scan.last_seq = Some(seq);
            }
            Scanned::Damage { from, to } => scan.gaps.push((from, to)),
            Scanned::End { valid_end } => {
                scan.valid_end = valid_end;
                return Ok(scan);
            }
        }
    }
}

fn cut(options: &JournalOptions, path: &Path, len: u64) -> Result<(), Failure> {
    let file = options.disk.open_append(path).map_err(|error| Failure::Io("open", error))?;
    file.set_len(len).map_err(|error| Failure::Io("truncate", error))?;
    file.sync_data().map_err(|error| Failure::Io("sync", error))
}

/// The end of a file in the middle of the journal is no torn write but damage: its bytes are kept for whoever wants to look.
fn keep_copy_and_cut(
    options: &JournalOptions,
    path: &Path,
    valid_end: u64,
    bytes: u64,
    report: &mut RecoveryReport,
) -> Result<(), Failure> {
    let aside = path.with_extension(format!("log.{valid_end}.corrupt"));
    let copied = copy_range(options, path, &aside, valid_end);
    let reason = "no valid record follows in a file that is not the last";
    match copied {
        Ok(()) => {
            cut(options, path, valid_end)?;
            report.quarantined.push(Quarantined { path: aside, bytes: bytes - valid_end, reason });
        }
        Err(_) => {
            // A full volume: the file stays as it is, and every reader stops at the last valid record.
            let _ = options.disk.remove(&aside);
            report.damage.push(Damage { path: path.into(), from: valid_end, to: bytes });
        }
    }
    Ok(())
}

fn copy_range(options: &JournalOptions, from: &Path, to: &Path, start: u64) -> io::Result<()> {
    use std::io::{Seek, SeekFrom};
    let mut source = File::open(from)?;
    source.seek(SeekFrom::Start(start))?;
    let target = options.disk.create(to)?;
    let mut chunk = vec![0; 64 * 1024];
    loop {
        let read = source.read(&mut chunk)?;
        if read == 0 {
            return target.sync_data();
        }
        target.append(&chunk[..read])?;
    }
}

fn set_aside(
    dir: &Path,
    options: &JournalOptions,
    path: &Path,
    bytes: u64,
    reason: &'static str,
    report: &mut RecoveryReport,
) -> Result<(), Failure> {
    if bytes <= HEADER_BYTES as u64 {
        // Made and not yet written when the process died: nothing was ever in it.
        options.disk.remove(path).map_err(|error| Failure::Io("delete", error))?;
        return Ok(());
    }
    let aside = path.with_extension("log.corrupt");
    options.disk.rename(path, &aside).map_err(|error| Failure::Io("rename", error))?;
    options.disk.sync_dir(dir).map_err(|error| Failure::Io("sync", error))?;
    report.quarantined.push(Quarantined { path: aside, bytes, reason });
    Ok(())
}

fn list_segments(dir: &Path) -> Result<Vec<u64>, JournalError> {
    let entries = std::fs::read_dir(dir).map_err(|error| JournalError::from_io("list", dir, error))?;
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry.map_err(|error| JournalError::from_io("list", dir, error))?;
        names.extend(parse_segment_name(&entry.path()));
    }
    names.sort_unstable();
    Ok(names)
}
