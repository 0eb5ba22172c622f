//! Walks the records of one file and finds its way past damage.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use crate::format::{FRAME_HEADER_BYTES, FrameHeader};

/// Bytes read from the file at once.
const WINDOW_BYTES: usize = 256 * 1024;

/// What lies at the scanner's position.
#[derive(Debug, PartialEq, Eq)]
pub enum Scanned<'a> {
    Record {
        offset: u64,
        kind: u8,
        seq: u64,
        payload: &'a [u8],
    },
    /// Bytes that hold no valid record, followed by one that is valid.
    Damage {
        from: u64,
        to: u64,
    },
    /// Nothing valid lies between `valid_end` and the end of the file (which are equal when all is well).
    End {
        valid_end: u64,
    },
}

/// Reads forward through one file up to a fixed end. Memory: one window, or one record if that is larger (never over the record limit).
pub struct Scanner {
    file: File,
    end: u64,
    max_payload: u32,
    buffer: Vec<u8>,
    /// Offset in the file of `buffer[0]`.
    base: u64,
    at: u64,
    /// A valid record has a higher sequence than this, and a lower one than `seq_limit`.
    seq_floor: Option<u64>,
    seq_limit: u64,
}

impl Scanner {
    /// `min_seq` and `seq_limit` bound the sequences that may lie in this file (`min_seq <= seq < seq_limit`).
    pub fn new(file: File, start: u64, end: u64, max_payload: u32, min_seq: u64, seq_limit: u64) -> Self {
        Scanner {
            file,
            end,
            max_payload,
            buffer: Vec::new(),
            base: start,
            at: start,
            seq_floor: min_seq.checked_sub(1),
            seq_limit,
        }
    }

    /// Where the next record is expected.
    pub fn offset(&self) -> u64 {
        self.at
    }

    pub fn next(&mut self) -> io::Result<Scanned<'_>> {
        let from = self.at;
        if from >= self.end {
            return Ok(Scanned::End { valid_end: from });
        }
        if let Some(header) = self.valid_at(from)? {
            let total = FRAME_HEADER_BYTES + header.payload_bytes as usize;
            self.at = from + total as u64;
            self.seq_floor = Some(header.seq);
            let start = (from - self.base) as usize;
            let payload = &self.buffer[start + FRAME_HEADER_BYTES..start + total];
            return Ok(Scanned::Record { offset: from, kind: header.kind, seq: header.seq, payload });
        }
        let mut candidate = from + 1;
        while candidate + FRAME_HEADER_BYTES as u64 <= self.end {
            if self.valid_at(candidate)?.is_some() {
                self.at = candidate;
                return Ok(Scanned::Damage { from, to: candidate });
            }
            candidate += 1;
        }
        self.at = self.end;
        Ok(Scanned::End { valid_end: from })
    }

    /// The payload of the record that `next` returned last.
    pub fn last_payload(&self, bytes: usize) -> &[u8] {
        let end = (self.at - self.base) as usize;
        &self.buffer[end - bytes..end]
    }

    fn valid_at(&mut self, at: u64) -> io::Result<Option<FrameHeader>> {
        let remaining = self.end - at;
        if remaining < FRAME_HEADER_BYTES as u64 {
            return Ok(None);
        }
        self.fill(at, FRAME_HEADER_BYTES)?;
        let start = (at - self.base) as usize;
        let Some(header) = FrameHeader::decode(&self.buffer[start..]) else { return Ok(None) };
        let plausible = header.payload_bytes <= self.max_payload
            && u64::from(header.payload_bytes) + FRAME_HEADER_BYTES as u64 <= remaining
            && self.seq_floor.is_none_or(|floor| header.seq > floor)
            && header.seq < self.seq_limit;
        if !plausible {
            return Ok(None);
        }
        let total = FRAME_HEADER_BYTES + header.payload_bytes as usize;
        self.fill(at, total)?;
        let start = (at - self.base) as usize;
        let valid = crc32fast::hash(&self.buffer[start + 8..start + total]) == header.crc;
        Ok(valid.then_some(header))
    }

    /// Makes `[at, at + bytes)` lie in the buffer. The caller has checked that it lies before the end.
    fn fill(&mut self, at: u64, bytes: usize) -> io::Result<()> {
        let have = self.base + self.buffer.len() as u64;
        if at >= self.base && at + bytes as u64 <= have {
            return Ok(());
        }
        if at >= self.base && at < have {
            self.buffer.drain(..(at - self.base) as usize);
        } else {
            self.buffer.clear();
        }
        self.base = at;
        let kept = self.buffer.len();
        let wanted = bytes.max(WINDOW_BYTES).min((self.end - at) as usize);
        self.buffer.resize(wanted, 0);
        self.file.read_exact_at(&mut self.buffer[kept..], at + kept as u64)
    }
}
