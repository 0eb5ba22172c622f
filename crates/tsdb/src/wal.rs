//! The log of what was received: request bodies as they came, in a journal.
//!
//! ```text
//! record kind 1: receive time i64 · number of enforced labels u16 · (length u16 · name · length u16 · value)* · snappy remote write body
//! ```

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Mutex;

use ers_journal::{Journal, JournalOptions, Position};

use crate::error::StorageError;
use crate::options::{CommitMode, DbOptions};
use crate::sync::lock;

pub(crate) const KIND_REMOTE_WRITE: u8 = 1;
/// Not from the limits: what was written under a larger limit must stay readable. Requests are checked before they come here.
const MAX_RECORD_BYTES: u32 = 512 << 20;
/// Room for receive time and enforced labels beside a body.
const HEAD_BYTES: usize = 64 * 1024;

pub(crate) struct Wal {
    journal: Journal,
    mode: CommitMode,
    /// Newest sample of each file, by the file's first sequence: tells when a file is no longer needed.
    newest: Mutex<BTreeMap<u64, i64>>,
}

/// A record's content, borrowed.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct WalRecord<'a> {
    pub recv_ms: i64,
    pub enforced: Vec<(&'a str, &'a str)>,
    pub body: &'a [u8],
}

impl<'a> WalRecord<'a> {
    /// `None` when these are not the bytes of such a record.
    pub fn decode(bytes: &'a [u8]) -> Option<Self> {
        let (recv_ms, mut rest) = bytes.split_first_chunk::<8>()?;
        let mut take = |bytes: usize| {
            let (head, tail) = rest.split_at_checked(bytes)?;
            rest = tail;
            Some(head)
        };
        let u16_of = |bytes: &[u8]| Some(usize::from(u16::from_le_bytes(bytes.try_into().ok()?)));
        let count = u16_of(take(2)?)?;
        let mut enforced = Vec::with_capacity(count.min(64));
        for _ in 0..count {
            let len = u16_of(take(2)?)?;
            let name = std::str::from_utf8(take(len)?).ok()?;
            let len = u16_of(take(2)?)?;
            enforced.push((name, std::str::from_utf8(take(len)?).ok()?));
        }
        Some(WalRecord { recv_ms: i64::from_le_bytes(*recv_ms), enforced, body: rest })
    }

    fn encode_head(&self) -> Vec<u8> {
        let mut head = Vec::with_capacity(128);
        head.extend_from_slice(&self.recv_ms.to_le_bytes());
        head.extend_from_slice(&(self.enforced.len() as u16).to_le_bytes());
        for text in self.enforced.iter().flat_map(|(name, value)| [name, value]) {
            head.extend_from_slice(&(text.len() as u16).to_le_bytes());
            head.extend_from_slice(text.as_bytes());
        }
        head
    }
}

/// Whether enforced labels fit into a record.
pub(crate) fn enforced_fit(enforced: &[(&str, &str)]) -> bool {
    let bytes: usize = enforced.iter().map(|(name, value)| 4 + name.len() + value.len()).sum();
    enforced.len() <= usize::from(u16::MAX) && bytes + 10 <= HEAD_BYTES
}

impl Wal {
    pub fn open(
        dir: &Path,
        options: &DbOptions,
    ) -> Result<(Wal, ers_journal::RecoveryReport), ers_journal::JournalError> {
        let journal = JournalOptions {
            max_segment_bytes: options.wal_segment_bytes,
            max_record_bytes: MAX_RECORD_BYTES,
            buffer_bytes: 256 << 10,
            disk: options.disk.clone(),
            ..JournalOptions::new(options.tenant, options.clock.clone())
        };
        let (journal, report) = Journal::open(dir, journal)?;
        Ok((Wal { journal, mode: options.commit, newest: Mutex::default() }, report))
    }

    /// Returns when the record is as durable as the commit mode says. After an error nothing may be acknowledged.
    pub fn append(&self, record: &WalRecord<'_>, newest_ms: i64) -> Result<(), StorageError> {
        let ticket = self.journal.append(KIND_REMOTE_WRITE, &[&record.encode_head(), record.body])?;
        self.note(ticket.position.segment, newest_ms);
        match self.mode {
            CommitMode::Group => self.journal.commit(&ticket)?,
            CommitMode::Async => self.journal.flush()?,
            CommitMode::None => {}
        }
        Ok(())
    }

    /// Remembers how new a file's samples are.
    pub fn note(&self, segment: u64, newest_ms: i64) {
        let mut newest = lock(&self.newest);
        let held = newest.entry(segment).or_insert(i64::MIN);
        *held = (*held).max(newest_ms);
    }

    pub fn journal(&self) -> &Journal {
        &self.journal
    }

    /// Starts a new file and returns the sequence before which everything was appended by now.
    pub fn seal(&self) -> Result<u64, StorageError> {
        self.journal.rotate()?;
        Ok(self.journal.stats().next_seq)
    }

    /// Deletes files that hold only records before `seq` with samples before `before_ms`. Returns the bytes freed.
    pub fn cut(&self, seq: u64, before_ms: i64) -> Result<u64, StorageError> {
        let mut newest = lock(&self.newest);
        let needed = newest.iter().find(|(_, newest_ms)| **newest_ms >= before_ms).map_or(seq, |(segment, _)| *segment);
        let freed = self.journal.truncate_before(Position::at_seq(needed.min(seq)))?;
        let oldest = self.journal.stats().oldest_seq;
        newest.retain(|segment, _| *segment >= oldest);
        Ok(freed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_survives_the_round_trip_and_no_cut_is_believed() {
        let record = WalRecord { recv_ms: -5, enforced: vec![("node", "n1"), ("", "ü")], body: b"body" };
        let mut bytes = record.encode_head();
        let head = bytes.len();
        bytes.extend_from_slice(record.body);
        assert_eq!(WalRecord::decode(&bytes), Some(record));
        assert!((0..head).all(|len| WalRecord::decode(&bytes[..len]).is_none()));
    }
}
