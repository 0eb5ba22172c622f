//! The reading side: a snapshot of what was appended when it was made.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::path::PathBuf;

use crate::error::JournalError;
use crate::format::{HEADER_BYTES, segment_path};
use crate::journal::Position;
use crate::scan::{Scanned, Scanner};

/// One record; the payload borrows the reader's buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record<'a> {
    pub position: Position,
    pub kind: u8,
    pub seq: u64,
    pub payload: &'a [u8],
}

/// Reads records in order of their sequence. Holds one window or one record in memory.
pub struct Reader {
    dir: PathBuf,
    /// First sequence and length of the files that are still to come.
    segments: VecDeque<(u64, u64)>,
    end_seq: u64,
    max_record_bytes: u32,
    start: Position,
    current: Option<(u64, Scanner)>,
    next: Position,
    damaged_bytes: u64,
}

impl Reader {
    pub(crate) fn new(
        dir: PathBuf,
        segments: Vec<(u64, u64)>,
        end_seq: u64,
        max_record_bytes: u32,
        start: Position,
    ) -> Self {
        let first = segments.iter().rposition(|(first_seq, _)| *first_seq <= start.seq).unwrap_or(0);
        let segments = segments.into_iter().skip(first).collect();
        Reader { dir, segments, end_seq, max_record_bytes, start, current: None, next: start, damaged_bytes: 0 }
    }

    /// The next record, or `None` at the end of the snapshot. Damage is stepped over and counted; a file that was deleted meanwhile is skipped.
    pub fn next_record(&mut self) -> Result<Option<Record<'_>>, JournalError> {
        // Found in one borrow and handed out in another, as the buffer is lent to the caller.
        let found = loop {
            if self.current.is_none() && !self.open_next()? {
                return Ok(None);
            }
            let Some((segment, scanner)) = &mut self.current else { continue };
            let segment = *segment;
            match scanner.next() {
                Ok(Scanned::Record { seq, .. }) if seq < self.start.seq => {}
                Ok(Scanned::Record { offset, kind, seq, payload }) => {
                    break (segment, offset, kind, seq, payload.len());
                }
                Ok(Scanned::Damage { from, to }) => self.damaged_bytes += to - from,
                Ok(Scanned::End { valid_end }) => {
                    self.damaged_bytes += scanner.offset() - valid_end;
                    self.current = None;
                }
                Err(error) => {
                    let path = segment_path(&self.dir, segment);
                    return Err(JournalError::from_io("read", &path, error));
                }
            }
        };
        let (segment, offset, kind, seq, payload_bytes) = found;
        let Some((_, scanner)) = &self.current else { return Ok(None) };
        self.next = Position { seq: seq + 1, segment, offset: scanner.offset() };
        let payload = scanner.last_payload(payload_bytes);
        Ok(Some(Record { position: Position { seq, segment, offset }, kind, seq, payload }))
    }

    /// Where to go on: pass it to `read_from` for what is appended later.
    pub fn position(&self) -> Position {
        self.next
    }

    /// Bytes that were stepped over because they hold no valid record.
    pub fn damaged_bytes(&self) -> u64 {
        self.damaged_bytes
    }

    fn open_next(&mut self) -> Result<bool, JournalError> {
        while let Some((segment, bytes)) = self.segments.pop_front() {
            let path = segment_path(&self.dir, segment);
            let file = match File::open(&path) {
                Ok(file) => file,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(JournalError::from_io("open", &path, error)),
            };
            let hinted = self.start.segment == segment && self.start.offset >= HEADER_BYTES as u64;
            let start = if hinted { self.start.offset.min(bytes) } else { HEADER_BYTES as u64 };
            let limit = self.segments.front().map_or(self.end_seq, |(next, _)| *next);
            self.current = Some((segment, Scanner::new(file, start, bytes, self.max_record_bytes, segment, limit)));
            return Ok(true);
        }
        Ok(false)
    }
}
