//! Full volumes, damage, lost caches.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

mod common;

use common::{T0, TestClock, everything, faulty, files, flip, labels, load, open, options, sample, send, total};
use ers_promql::source::{Select, SeriesSource, SourceError};
use ers_tsdb::{AppendError, HOUR_MS};

#[test]
fn on_a_full_volume_appends_are_refused_and_go_on_when_there_is_space() {
    let (dir, clock) = (tempfile::tempdir().unwrap(), TestClock::at(T0));
    let (options, disk) = faulty(&clock);
    let (db, _) = open(dir.path(), options.clone());
    let m = labels(&[("__name__", "m")]);
    let mut accepted = 0;
    let mut refused = 0;
    disk.set_space(Some(5_000));
    for at in 0..300 {
        if at == 200 {
            disk.set_space(None);
        }
        let body = common::body(&[(m.clone(), vec![sample(T0 + at, at as f64)])]);
        match db.append_remote_write(&[], &body, T0) {
            Ok(outcome) => accepted += outcome.accepted,
            Err(AppendError::Storage(error)) => {
                assert!(error.is_full(), "{error}");
                refused += 1;
            }
            Err(other) => panic!("{other}"),
        }
        assert_eq!(total(&db) as u64, accepted, "nothing refused is visible");
    }
    assert!(refused > 50 && accepted > 150);
    assert_eq!(db.stats().requests_storage_full_total, refused);
    let before = everything(&db);
    drop(db);
    let (db, report) = open(dir.path(), options);
    assert!(!report.is_damaged());
    assert_eq!(everything(&db), before);
}

#[test]
fn a_flush_on_a_full_volume_fails_whole_and_succeeds_later() {
    let (dir, clock) = (tempfile::tempdir().unwrap(), TestClock::at(T0));
    let (options, disk) = faulty(&clock);
    let (db, _) = open(dir.path(), options.clone());
    load(&db, T0, 4 * 60);
    let before = everything(&db);
    let now = T0 + 5 * HOUR_MS;
    for space in [0, 100, 1_000] {
        disk.set_space(Some(space));
        assert!(db.maintain(now).unwrap_err().is_full(), "{space} bytes");
        assert_eq!(everything(&db), before);
        assert_eq!(files(dir.path(), ".tmp"), Vec::<std::path::PathBuf>::new());
    }
    disk.set_space(None);
    assert!(db.maintain(now).unwrap().flushed_segments > 0);
    assert_eq!(everything(&db), before);
    assert_eq!(db.stats().segment_samples + db.stats().head_samples, 4 * 60 * 4 * 10);
    drop(db);
    assert_eq!(everything(&open(dir.path(), options).0), before);
}

#[test]
fn what_was_acknowledged_survives_the_loss_of_the_page_cache() {
    let (dir, clock) = (tempfile::tempdir().unwrap(), TestClock::at(T0));
    let (options, disk) = faulty(&clock);
    let mut expect = None;
    for round in 0..4 {
        let (db, report) = open(dir.path(), options.clone());
        assert!(!report.is_damaged(), "{report:?}");
        if let Some(expect) = expect {
            assert_eq!(everything(&db), expect, "round {round}");
        }
        let from = T0 + round * 3 * HOUR_MS;
        load(&db, from, 180);
        match round {
            0 => {}
            1 => drop(db.maintain(from + 3 * HOUR_MS).unwrap()),
            2 => drop(db.flush_all(from + 3 * HOUR_MS).unwrap()),
            _ => {
                db.flush_all(from + 3 * HOUR_MS).unwrap();
                while db.maintain(from + 60 * HOUR_MS).unwrap().compacted_segments > 0 {}
            }
        }
        expect = Some(everything(&db));
        // The files are cut before the database is closed, so that closing writes nothing that is then kept.
        disk.lose_cache().unwrap();
        drop(db);
    }
    let (db, _) = open(dir.path(), options);
    assert_eq!(Some(everything(&db)), expect);
}

#[test]
fn a_failing_sync_acknowledges_nothing_and_shows_nothing() {
    let (dir, clock) = (tempfile::tempdir().unwrap(), TestClock::at(T0));
    let (options, disk) = faulty(&clock);
    let (db, _) = open(dir.path(), options);
    load(&db, T0, 1);
    let before = everything(&db);
    disk.fail_syncs(true);
    let body = common::body(&[(labels(&[("__name__", "m")]), vec![sample(T0, 1.0)])]);
    assert!(matches!(db.append_remote_write(&[], &body, T0), Err(AppendError::Storage(_))));
    assert!(db.flush_all(T0).is_err());
    assert_eq!(everything(&db), before);
    disk.fail_syncs(false);
    db.append_remote_write(&[], &body, T0).unwrap();
    db.flush_all(T0).unwrap();
    assert_eq!(total(&db), 41);
}

#[test]
fn a_flipped_bit_in_the_log_costs_one_request_and_is_reported() {
    let (dir, clock) = (tempfile::tempdir().unwrap(), TestClock::at(T0));
    let (db, _) = open(dir.path(), options(&clock));
    load(&db, T0, 60);
    drop(db);
    let log = files(dir.path(), ".log").remove(0);
    flip(&log, 5000);
    let (db, report) = open(dir.path(), options(&clock));
    assert!(report.is_damaged());
    assert_eq!(report.wal.damage.len(), 1);
    assert_eq!(total(&db), 2400 - 10);
}

#[test]
fn a_torn_log_is_mended() {
    let (dir, clock) = (tempfile::tempdir().unwrap(), TestClock::at(T0));
    let (db, _) = open(dir.path(), options(&clock));
    load(&db, T0, 10);
    drop(db);
    let log = files(dir.path(), ".log").pop().unwrap();
    let bytes = std::fs::read(&log).unwrap();
    for cut in [1, 30, 400] {
        std::fs::write(&log, &bytes[..bytes.len() - cut]).unwrap();
        let (db, report) = open(dir.path(), options(&clock));
        assert!(!report.is_damaged() && report.wal.torn_bytes > 0);
        let left = total(&db);
        assert!((400 - 10 * (1 + cut / 100)..400).contains(&left), "{left} after {cut}");
    }
}

#[test]
fn a_damaged_segment_is_set_aside_and_the_others_are_served() {
    let (dir, clock) = (tempfile::tempdir().unwrap(), TestClock::at(T0));
    let (db, _) = open(dir.path(), options(&clock));
    load(&db, T0, 60);
    db.flush_all(T0 + HOUR_MS).unwrap();
    load(&db, T0 + 2 * HOUR_MS, 60);
    db.flush_all(T0 + 3 * HOUR_MS).unwrap();
    drop(db);
    let segments = files(dir.path(), ".seg");
    assert_eq!(segments.len(), 2);
    let whole = std::fs::read(&segments[0]).unwrap();
    // Every part of the file: header, data, index, footer, the very end, and a cut.
    for place in [3, 20, 70, whole.len() / 4, whole.len() / 2, whole.len() * 3 / 4, whole.len() - 100, whole.len() - 3]
    {
        flip(&segments[0], place);
        let (db, report) = open(dir.path(), options(&clock));
        let select = Select { matchers: &[], range: common::ALWAYS, max_samples: 100_000, windows: None };
        if !report.is_damaged() {
            // Damage in the data is found by the first query that needs it, and said.
            let error = db.reader(Vec::new()).select(&select).unwrap_err();
            assert!(matches!(&error, SourceError::Storage(text) if text.contains("damaged")), "{error}");
            let round = db.maintain(T0 + 3 * HOUR_MS).unwrap();
            assert_eq!(round.quarantined.len(), 1);
        }
        assert_eq!(db.stats().quarantined_files, 1, "byte {place}");
        assert_eq!(total(&db), 2400, "byte {place}");
        drop(db);
        let aside = files(dir.path(), ".corrupt");
        assert_eq!(aside.len(), 1);
        std::fs::remove_file(&aside[0]).unwrap();
        std::fs::write(&segments[0], &whole).unwrap();
    }
    std::fs::write(&segments[0], &whole[..whole.len() - 50]).unwrap();
    let (db, report) = open(dir.path(), options(&clock));
    assert!(report.is_damaged());
    assert_eq!(total(&db), 2400);
}

#[test]
fn every_bit_of_a_segment_is_covered_by_a_check() {
    let (dir, clock) = (tempfile::tempdir().unwrap(), TestClock::at(T0));
    let (db, _) = open(dir.path(), options(&clock));
    load(&db, T0, 10);
    db.flush_all(T0 + HOUR_MS).unwrap();
    assert_eq!(db.verify().unwrap(), []);
    drop(db);
    let segment = files(dir.path(), ".seg").remove(0);
    let whole = std::fs::read(&segment).unwrap();
    for place in (0..whole.len()).step_by(7) {
        flip(&segment, place);
        let (db, report) = open(dir.path(), options(&clock));
        assert!(report.is_damaged() || !db.verify().unwrap().is_empty(), "byte {place} of {}", whole.len());
        drop(db);
        for aside in files(dir.path(), ".corrupt") {
            std::fs::remove_file(aside).unwrap();
        }
        std::fs::write(&segment, &whole).unwrap();
    }
}

#[test]
fn a_damaged_state_file_costs_nothing_but_work() {
    let (dir, clock) = (tempfile::tempdir().unwrap(), TestClock::at(T0));
    let (db, _) = open(dir.path(), options(&clock));
    load(&db, T0, 200);
    db.maintain(T0 + 4 * HOUR_MS).unwrap();
    let before = everything(&db);
    drop(db);
    flip(&dir.path().join("state"), 40);
    let (db, report) = open(dir.path(), options(&clock));
    assert_eq!(report.quarantined.len(), 1);
    assert_eq!(everything(&db), before);
}

#[test]
fn work_that_was_interrupted_is_cleared_away() {
    let (dir, clock) = (tempfile::tempdir().unwrap(), TestClock::at(T0));
    let (db, _) = open(dir.path(), options(&clock));
    for block in 0..13 {
        load(&db, T0 + block * 2 * HOUR_MS, 10);
        db.flush_all(T0 + block * 2 * HOUR_MS).unwrap();
    }
    let before = everything(&db);
    let sources: Vec<_> =
        files(dir.path(), ".seg").into_iter().map(|path| (path.clone(), std::fs::read(path).unwrap())).collect();
    while db.maintain(T0 + 60 * HOUR_MS).unwrap().compacted_segments > 0 {}
    let merged = files(dir.path(), ".seg").len();
    drop(db);
    // As if the process had died after writing the merged file and before deleting what it was made from.
    for (path, bytes) in &sources {
        std::fs::write(path, bytes).unwrap();
    }
    std::fs::write(dir.path().join("seg/018b0000-0000-7000-8000-000000000000.tmp"), b"half").unwrap();
    let (db, report) = open(dir.path(), options(&clock));
    assert!(report.removed_temporary > 1 && !report.is_damaged());
    assert_eq!(files(dir.path(), ".seg").len(), merged);
    assert_eq!(everything(&db), before);
    send(&db, &[(labels(&[("__name__", "m")]), vec![sample(T0 + 60 * HOUR_MS, 1.0)])], T0 + 60 * HOUR_MS);
}

/// A small real volume, unmounted at the end. `None` where this process may not mount one.
struct SmallVolume(tempfile::TempDir);

impl SmallVolume {
    fn mount(options: &str) -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let mounted = std::process::Command::new("mount")
            .args(["-t", "tmpfs", "-o", options, "ers-small"])
            .arg(dir.path())
            .stderr(std::process::Stdio::null())
            .status();
        mounted.is_ok_and(|status| status.success()).then_some(SmallVolume(dir))
    }
}

impl Drop for SmallVolume {
    fn drop(&mut self) {
        let _ = std::process::Command::new("umount").arg(self.0.path()).status();
    }
}

/// The same as with the injected fault, on a volume that is really full. Without the right to mount, the injected one has to do.
#[test]
fn a_volume_that_is_really_full_refuses_and_recovers_without_a_restart() {
    let Some(volume) = SmallVolume::mount("size=3m") else { return };
    let dir = volume.0.path().join("db");
    let clock = TestClock::at(T0);
    let (db, _) = open(&dir, options(&clock));
    let ballast = volume.0.path().join("ballast");
    let mut accepted = 0;
    let mut refused = 0;
    for number in 0..600_i64 {
        match number {
            // Somebody else fills the volume, then goes away again.
            100 => drop(std::fs::write(&ballast, vec![1; 4 << 20]).unwrap_err()),
            400 => std::fs::remove_file(&ballast).unwrap(),
            _ => {}
        }
        let request: Vec<_> = (0..50)
            .map(|at| {
                (labels(&[("__name__", "m"), ("n", &at.to_string())]), vec![sample(T0 + number, (number * at) as f64)])
            })
            .collect();
        match db.append_remote_write(&[], &common::body(&request), T0) {
            Ok(outcome) => accepted += outcome.accepted,
            Err(AppendError::Storage(error)) => {
                assert!(error.is_full(), "{error}");
                refused += 1;
                assert!(db.probe().is_err() && db.flush_all(T0).is_err());
            }
            Err(other) => panic!("{other}"),
        }
    }
    assert!(refused > 200, "{refused} refused");
    assert_eq!(total(&db) as u64, accepted);
    let before = everything(&db);
    drop(db);
    let (db, report) = open(&dir, options(&clock));
    assert!(!report.is_damaged());
    assert_eq!(everything(&db), before);
    db.flush_all(T0).unwrap();
    assert_eq!(everything(&db), before);
}
