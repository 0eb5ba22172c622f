#![allow(dead_code, reason = "each test binary uses a part")]
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::path::{Path, PathBuf};
use std::sync::Arc;

use ers_journal::fault::FaultyDisk;
use ers_journal::{Journal, JournalOptions, Position, RecoveryReport, Tenant};
use ers_model::Clock;

pub struct FixedClock(pub i64);

impl Clock for FixedClock {
    fn now_ms(&self) -> i64 {
        self.0
    }
}

pub fn tenant() -> Tenant {
    Tenant { uuid: uuid::Uuid::from_u128(0x11), number: 1 }
}

pub fn options() -> JournalOptions {
    JournalOptions {
        max_segment_bytes: 600,
        max_record_bytes: 1000,
        buffer_bytes: 150,
        reserve_bytes: 4096,
        ..JournalOptions::new(tenant(), Arc::new(FixedClock(1_000)))
    }
}

pub fn faulty() -> (JournalOptions, FaultyDisk) {
    let disk = FaultyDisk::default();
    (JournalOptions { disk: Arc::new(disk.clone()), ..options() }, disk)
}

#[track_caller]
pub fn open(dir: &Path) -> (Journal, RecoveryReport) {
    Journal::open(dir, options()).unwrap()
}

#[track_caller]
pub fn all(journal: &Journal) -> Vec<(u64, u8, Vec<u8>)> {
    from(journal, Position::START)
}

#[track_caller]
pub fn from(journal: &Journal, position: Position) -> Vec<(u64, u8, Vec<u8>)> {
    let mut reader = journal.read_from(position).unwrap();
    let mut records = Vec::new();
    while let Some(record) = reader.next_record().unwrap() {
        records.push((record.seq, record.kind, record.payload.to_vec()));
    }
    records
}

/// Segment files in order.
pub fn segments(dir: &Path) -> Vec<PathBuf> {
    let mut paths: Vec<PathBuf> = std::fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "log"))
        .collect();
    paths.sort();
    paths
}

pub fn payload(number: u64, bytes: usize) -> Vec<u8> {
    (0..bytes).map(|at| (number as usize * 31 + at * 7) as u8).collect()
}

/// Appends and commits `count` records of 40 bytes.
pub fn fill(journal: &Journal, count: u64) -> Vec<(u64, u8, Vec<u8>)> {
    (0..count)
        .map(|number| {
            let bytes = payload(number, 40);
            let ticket = journal.append(3, &[&bytes[..10], &bytes[10..]]).unwrap();
            journal.commit(&ticket).unwrap();
            (ticket.position.seq, 3, bytes)
        })
        .collect()
}
