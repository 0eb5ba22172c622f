#![allow(dead_code, reason = "each test binary uses a part")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use ers_journal::fault::FaultyDisk;
use ers_model::{Clock, Labels, Sample, TimeRange};
use ers_promql::source::{LabelMatcher, MatchOp, Select, SeriesSource};
use ers_tsdb::{AppendOutcome, Db, DbOptions, HOUR_MS, RecoveryReport, Tenant};
use ers_wire::remote_write::{TimeSeries, encode};

/// A round block edge in 2023.
pub const T0: i64 = 1_699_999_200_000 / (2 * HOUR_MS) * (2 * HOUR_MS);
pub const ALWAYS: TimeRange = TimeRange { start_ms: i64::MIN, end_ms: i64::MAX };

#[derive(Clone, Default)]
pub struct TestClock(Arc<AtomicI64>);

impl TestClock {
    pub fn at(now_ms: i64) -> Self {
        let clock = TestClock::default();
        clock.set(now_ms);
        clock
    }

    pub fn set(&self, now_ms: i64) {
        self.0.store(now_ms, Ordering::Relaxed);
    }
}

impl Clock for TestClock {
    fn now_ms(&self) -> i64 {
        self.0.load(Ordering::Relaxed)
    }
}

pub fn tenant() -> Tenant {
    Tenant { uuid: uuid::Uuid::from_u128(0x22), number: 7 }
}

pub fn options(clock: &TestClock) -> DbOptions {
    DbOptions { wal_segment_bytes: 64 << 10, ..DbOptions::new(tenant(), Arc::new(clock.clone())) }
}

pub fn faulty(clock: &TestClock) -> (DbOptions, FaultyDisk) {
    let disk = FaultyDisk::default();
    (DbOptions { disk: Arc::new(disk.clone()), ..options(clock) }, disk)
}

#[track_caller]
pub fn open(dir: &Path, options: DbOptions) -> (Db, RecoveryReport) {
    Db::open(dir, options, T0).unwrap()
}

pub fn labels(pairs: &[(&str, &str)]) -> Labels {
    Labels::from_pairs(pairs.iter().copied())
}

pub fn sample(timestamp_ms: i64, value: f64) -> Sample {
    Sample { timestamp_ms, value }
}

/// One request body.
pub fn body(series: &[(Labels, Vec<Sample>)]) -> Vec<u8> {
    let series: Vec<_> = series.iter().map(|(labels, samples)| TimeSeries { labels, samples }).collect();
    encode(&series, &[])
}

#[track_caller]
pub fn send(db: &Db, series: &[(Labels, Vec<Sample>)], recv_ms: i64) -> AppendOutcome {
    db.append_remote_write(&[], &body(series), recv_ms).unwrap()
}

pub type Content = BTreeMap<String, Vec<(i64, u64)>>;

#[track_caller]
pub fn content(db: &Db, matchers: &[LabelMatcher], range: TimeRange) -> Content {
    let select = Select { matchers, range, max_samples: 10_000_000, windows: None };
    let answer = db.reader(Vec::new()).select(&select).unwrap();
    let count = answer.len();
    let content: Content = answer
        .into_iter()
        .map(|series| {
            assert_eq!(series.timestamps.len(), series.values.len());
            assert!(series.timestamps.windows(2).all(|pair| pair[0] < pair[1]), "times rise");
            let bits = series.values.iter().map(|value| value.to_bits());
            (series.labels.to_string(), series.timestamps.iter().copied().zip(bits).collect())
        })
        .collect();
    assert_eq!(content.len(), count, "each series once");
    content
}

#[track_caller]
pub fn everything(db: &Db) -> Content {
    content(db, &[], ALWAYS)
}

#[track_caller]
pub fn total(db: &Db) -> usize {
    everything(db).values().map(Vec::len).sum()
}

#[track_caller]
pub fn matcher(name: &str, op: MatchOp, value: &str) -> LabelMatcher {
    LabelMatcher::new(name, op, value).unwrap()
}

/// Files below a directory whose name ends so.
pub fn files(dir: &Path, suffix: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut dirs = vec![dir.to_path_buf()];
    while let Some(dir) = dirs.pop() {
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                dirs.push(path);
            } else if path.to_string_lossy().ends_with(suffix) {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

pub fn flip(path: &Path, offset: usize) {
    let mut bytes = std::fs::read(path).unwrap();
    bytes[offset] ^= 0x10;
    std::fs::write(path, bytes).unwrap();
}

/// Ten series with a sample every 15 s over some minutes.
pub fn load(db: &Db, from_ms: i64, minutes: i64) -> usize {
    let mut sent = 0;
    for step in 0..minutes * 4 {
        let at_ms = from_ms + step * 15_000;
        let request: Vec<_> = (0..10)
            .map(|number| {
                let labels = labels(&[("__name__", "m"), ("job", "j"), ("n", &number.to_string())]);
                (labels, vec![sample(at_ms, (step * number) as f64)])
            })
            .collect();
        let outcome = send(db, &request, at_ms);
        assert_eq!(outcome.accepted, 10);
        sent += 10;
    }
    sent
}
