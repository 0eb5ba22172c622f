//! What goes in comes out, from memory, from the log, from segments, and after merging.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

mod common;

use common::{
    ALWAYS, T0, TestClock, body, content, everything, files, labels, load, matcher, open, options, sample, send, total,
};
use ers_journal::fault::FaultyDisk;
use ers_model::{STALE_NAN, TimeRange};
use ers_promql::source::{MatchOp, Select, SeriesSource, SourceError};
use ers_tsdb::{AppendError, CommitMode, Db, DbOptions, HOUR_MS, OpenError, Tenant};
use ers_wire::remote_write::{Metadata, MetricType};

/// For many requests: these tests are not about crashes.
fn unsynced(clock: &TestClock) -> DbOptions {
    DbOptions { commit: CommitMode::None, ..options(clock) }
}

#[test]
fn samples_are_visible_at_once_and_after_a_restart() {
    let (dir, clock) = (tempfile::tempdir().unwrap(), TestClock::at(T0));
    let (db, report) = open(dir.path(), options(&clock));
    assert!(!report.is_damaged());
    let up = labels(&[("__name__", "up"), ("job", "x")]);
    let outcome = send(&db, &[(up, vec![sample(T0, 1.0), sample(T0 + 1, STALE_NAN)])], T0);
    assert_eq!((outcome.accepted, outcome.new_series), (2, 1));
    let before = everything(&db);
    assert_eq!(before[r#"up{job="x"}"#], [(T0, 1.0_f64.to_bits()), (T0 + 1, STALE_NAN.to_bits())]);
    drop(db);
    let (db, report) = open(dir.path(), options(&clock));
    assert_eq!(report.wal_samples, 2);
    assert_eq!(everything(&db), before);
}

#[test]
fn enforced_labels_override_what_the_body_says() {
    let (dir, clock) = (tempfile::tempdir().unwrap(), TestClock::at(T0));
    let (db, _) = open(dir.path(), options(&clock));
    let lie = labels(&[("__name__", "up"), ("node", "lie"), ("secret", "x"), ("z", "1")]);
    let body = body(&[(lie, vec![sample(T0, 1.0)])]);
    for node in ["n1", "n2", "n1"] {
        db.append_remote_write(&[("node", node), ("secret", ""), ("cluster", "c")], &body, T0).unwrap();
    }
    let names = [r#"up{cluster="c", node="n1", z="1"}"#, r#"up{cluster="c", node="n2", z="1"}"#];
    assert_eq!(everything(&db).keys().collect::<Vec<_>>(), names);
    drop(db);
    let (db, _) = open(dir.path(), options(&clock));
    assert_eq!(everything(&db).keys().collect::<Vec<_>>(), names);
}

#[test]
fn one_series_in_two_spellings_is_one_series() {
    let (dir, clock) = (tempfile::tempdir().unwrap(), TestClock::at(T0));
    let (db, _) = open(dir.path(), options(&clock));
    // Labels in another order, as a sloppy sender writes them.
    let mut encoder = ers_wire::remote_write::Encoder::default();
    for (order, at) in [([("__name__", "m"), ("a", "1")], T0), ([("a", "1"), ("__name__", "m")], T0 + 1)] {
        encoder.push_series(order.into_iter(), &[sample(at, 1.0)]);
    }
    db.append_remote_write(&[], &encoder.finish(), T0).unwrap();
    assert_eq!(everything(&db)[r#"m{a="1"}"#].len(), 2);
    assert_eq!(db.stats().active_series, 1);
}

#[test]
fn a_retry_is_a_duplicate_and_another_value_a_conflict() {
    let (dir, clock) = (tempfile::tempdir().unwrap(), TestClock::at(T0));
    let (db, _) = open(dir.path(), options(&clock));
    let m = labels(&[("__name__", "m")]);
    let samples: Vec<_> = (0..500).map(|at| sample(T0 + at * 1000, at as f64 * 0.5)).collect();
    send(&db, &[(m.clone(), samples.clone())], T0);
    let again = send(&db, &[(m.clone(), samples.clone())], T0);
    assert_eq!((again.accepted, again.duplicates, again.conflicts), (0, 500, 0));
    let other: Vec<_> = samples.iter().map(|old| sample(old.timestamp_ms, old.value + 1.0)).collect();
    let other = send(&db, &[(m, other)], T0);
    assert_eq!((other.accepted, other.duplicates, other.conflicts), (0, 0, 500));
    assert_eq!(total(&db), 500);
    let stats = db.stats();
    assert_eq!(
        (stats.samples_accepted_total, stats.samples_duplicate_total, stats.samples_conflict_total),
        (500, 500, 500)
    );
}

#[test]
fn a_backlog_behind_fresh_samples_is_taken_in_and_merged() {
    let (dir, clock) = (tempfile::tempdir().unwrap(), TestClock::at(T0));
    let (db, _) = open(dir.path(), options(&clock));
    let m = labels(&[("__name__", "m")]);
    let now = T0 + 10 * HOUR_MS;
    send(&db, &[(m.clone(), vec![sample(now, 0.0)])], now);
    let backlog: Vec<_> = (0..2000).map(|at| sample(T0 + at * 15_000, at as f64)).collect();
    let outcome = send(&db, &[(m.clone(), backlog.clone())], now);
    assert_eq!((outcome.accepted, outcome.out_of_order), (2000, 2000));
    assert_eq!(everything(&db)["m"].len(), 2001);
    assert_eq!(send(&db, &[(m, backlog)], now).duplicates, 2000);
    let report = db.maintain(now).unwrap();
    assert!(report.flushed_segments >= 4, "{report:?}");
    assert_eq!(everything(&db)["m"].len(), 2001);
}

#[test]
fn too_old_and_too_new_samples_are_refused_and_counted() {
    let (dir, clock) = (tempfile::tempdir().unwrap(), TestClock::at(T0));
    let (db, _) = open(dir.path(), DbOptions { retention_ms: 20 * HOUR_MS, ..options(&clock) });
    let m = labels(&[("__name__", "m")]);
    let times = [T0 - 20 * HOUR_MS - 1, T0 - 20 * HOUR_MS, T0, T0 + 600_000, T0 + 600_001];
    let outcome = send(&db, &[(m, times.iter().map(|at| sample(*at, 1.0)).collect())], T0);
    assert_eq!((outcome.accepted, outcome.too_old, outcome.too_new), (3, 1, 1));
}

#[test]
fn blocks_leave_memory_and_the_log_and_stay_readable() {
    let (dir, clock) = (tempfile::tempdir().unwrap(), TestClock::at(T0));
    let (db, _) = open(dir.path(), unsynced(&clock));
    let sent = load(&db, T0, 5 * 60);
    let before = everything(&db);
    let wal_before = db.stats().wal_bytes;
    let report = db.maintain(T0 + 5 * HOUR_MS).unwrap();
    assert_eq!(report.flushed_segments, 2);
    assert!(report.wal_bytes_freed > wal_before / 2, "{report:?}");
    assert_eq!(everything(&db), before);
    let stats = db.stats();
    assert_eq!(stats.segment_samples + stats.head_samples, sent as u64);
    drop(db);
    let (db, report) = open(dir.path(), unsynced(&clock));
    assert_eq!(report.segments, 2);
    assert_eq!(report.wal_samples, stats.head_samples, "what is in segments is not taken in again");
    assert_eq!(everything(&db), before);
    db.flush_all(T0 + 5 * HOUR_MS).unwrap();
    assert_eq!(db.stats().head_samples, 0);
    assert_eq!(db.stats().active_series, 0);
    assert_eq!(everything(&db), before);
}

#[test]
fn a_days_segments_become_one_and_the_answers_stay() {
    let (dir, clock) = (tempfile::tempdir().unwrap(), TestClock::at(T0));
    let (db, _) = open(dir.path(), unsynced(&clock));
    let mut now = T0;
    for _ in 0..20 {
        load(&db, now, 120);
        now += 2 * HOUR_MS;
        db.maintain(now).unwrap();
    }
    now += 30 * HOUR_MS;
    let before = everything(&db);
    while db.maintain(now).unwrap().compacted_segments > 0 {}
    let stats = db.stats();
    assert!(stats.segments <= 3 && stats.compactions_total > 0, "{stats:?}");
    assert_eq!(files(dir.path(), ".seg").len() as u64, stats.segments);
    assert_eq!(everything(&db), before);
    let (start_ms, end_ms) = (T0 + 3 * HOUR_MS + 7, T0 + 9 * HOUR_MS + 11);
    let part = content(&db, &[], TimeRange { start_ms, end_ms });
    for (name, samples) in &before {
        let expect: Vec<_> = samples.iter().filter(|(at, _)| (start_ms..=end_ms).contains(at)).copied().collect();
        assert_eq!(part[name], expect);
    }
    drop(db);
    assert_eq!(everything(&open(dir.path(), unsynced(&clock)).0), before);
}

#[test]
fn what_is_past_retention_is_neither_answered_nor_kept() {
    let (dir, clock) = (tempfile::tempdir().unwrap(), TestClock::at(T0));
    let short = DbOptions { retention_ms: 24 * HOUR_MS, ..options(&clock) };
    let (db, _) = open(dir.path(), short);
    load(&db, T0, 60);
    let now = T0 + 24 * HOUR_MS + 30 * 60_000;
    clock.set(now);
    let half = everything(&db);
    assert!(half.values().all(|samples| samples.iter().all(|(at, _)| *at >= T0 + 30 * 60_000) && !samples.is_empty()));
    db.maintain(now).unwrap();
    assert_eq!(everything(&db), half);
    assert_eq!(db.stats().segments, 1);
    let report = db.maintain(now + HOUR_MS).unwrap();
    assert_eq!(report.dropped_segments, 1);
    assert_eq!(files(dir.path(), ".seg"), Vec::<std::path::PathBuf>::new());
}

#[test]
fn matchers_narrow_what_is_read_in_memory_and_on_disk() {
    let (dir, clock) = (tempfile::tempdir().unwrap(), TestClock::at(T0));
    let (db, _) = open(dir.path(), options(&clock));
    let series = [
        labels(&[("__name__", "cpu"), ("mode", "idle"), ("node", "a")]),
        labels(&[("__name__", "cpu"), ("mode", "user"), ("node", "b")]),
        labels(&[("__name__", "mem"), ("node", "a")]),
        labels(&[("__name__", "mem_free"), ("node", "änder")]),
    ];
    let request: Vec<_> = series.iter().map(|labels| (labels.clone(), vec![sample(T0, 1.0)])).collect();
    send(&db, &request, T0);
    for flushed in [false, true] {
        if flushed {
            db.flush_all(T0).unwrap();
        }
        let check = |matchers: &[(&str, MatchOp, &str)], expect: &[usize]| {
            let made: Vec<_> = matchers.iter().map(|(name, op, value)| matcher(name, *op, value)).collect();
            let found: Vec<_> = content(&db, &made, ALWAYS).into_keys().collect();
            let mut expect: Vec<_> = expect.iter().map(|at| series[*at].to_string()).collect();
            expect.sort();
            assert_eq!(found, expect, "{matchers:?}, flushed: {flushed}");
        };
        use MatchOp::{Equal, NotEqual, NotRegex, Regex};
        check(&[("__name__", Equal, "cpu")], &[0, 1]);
        check(&[("__name__", NotEqual, "cpu")], &[2, 3]);
        check(&[("__name__", Regex, "cpu|mem")], &[0, 1, 2]);
        check(&[("__name__", Regex, "mem.*")], &[2, 3]);
        check(&[("__name__", NotRegex, "mem.*")], &[0, 1]);
        check(&[("__name__", Regex, ".+"), ("node", Equal, "a")], &[0, 2]);
        check(&[("mode", Equal, "")], &[2, 3]);
        check(&[("mode", NotEqual, "")], &[0, 1]);
        check(&[("mode", NotEqual, "idle")], &[1, 2, 3]);
        check(&[("mode", Regex, "idle|")], &[0, 2, 3]);
        check(&[("mode", NotRegex, "idle|")], &[1]);
        check(&[("node", Regex, "ä.*")], &[3]);
        check(&[("node", Regex, ".*"), ("nothing", Equal, "")], &[0, 1, 2, 3]);
        check(&[("nothing", Equal, "x")], &[]);
        check(&[], &[0, 1, 2, 3]);
    }
}

#[test]
fn names_values_and_series_are_listed_within_the_enforced_matchers() {
    let (dir, clock) = (tempfile::tempdir().unwrap(), TestClock::at(T0));
    let (db, _) = open(dir.path(), options(&clock));
    let early: Vec<_> = ["a", "b"]
        .into_iter()
        .map(|team| (labels(&[("__name__", "m"), ("team", team), (team, "x")]), vec![sample(T0, 1.0)]))
        .collect();
    send(&db, &early, T0);
    db.flush_all(T0).unwrap();
    send(
        &db,
        &[(labels(&[("__name__", "n"), ("team", "a"), ("late", "x")]), vec![sample(T0 + HOUR_MS, 1.0)])],
        T0 + HOUR_MS,
    );
    let all = db.reader(Vec::new());
    let mine = db.reader(vec![matcher("team", MatchOp::Equal, "a")]);
    let listed = |listing: ers_tsdb::Listing<String>| listing.items;
    assert_eq!(listed(all.label_names(&[], ALWAYS, 0).unwrap()), ["__name__", "a", "b", "late", "team"]);
    assert_eq!(listed(mine.label_names(&[], ALWAYS, 0).unwrap()), ["__name__", "a", "late", "team"]);
    assert_eq!(listed(all.label_values("team", &[], ALWAYS, 0).unwrap()), ["a", "b"]);
    assert_eq!(listed(mine.label_values("team", &[], ALWAYS, 0).unwrap()), ["a"]);
    let only_m = vec![vec![matcher("__name__", MatchOp::Equal, "m")]];
    assert_eq!(listed(mine.label_names(&only_m, ALWAYS, 0).unwrap()), ["__name__", "a", "team"]);
    let early_only = TimeRange { start_ms: T0, end_ms: T0 };
    assert_eq!(listed(all.label_values("__name__", &[], early_only, 0).unwrap()), ["m"]);
    let first = all.label_names(&[], ALWAYS, 2).unwrap();
    assert!(first.truncated && first.items == ["__name__", "a"]);
    assert_eq!(mine.series(&[], ALWAYS, 0).unwrap().items.len(), 2);
    let both = vec![vec![matcher("b", MatchOp::Equal, "x")], vec![matcher("late", MatchOp::Equal, "x")]];
    assert_eq!(all.series(&both, ALWAYS, 0).unwrap().items.len(), 2);
    assert_eq!(mine.series(&both, ALWAYS, 0).unwrap().items.len(), 1);
    assert!(all.series(&[], ALWAYS, 2).unwrap().truncated);
}

#[test]
fn series_of_one_scrape_share_their_times() {
    let (dir, clock) = (tempfile::tempdir().unwrap(), TestClock::at(T0));
    let (db, _) = open(dir.path(), options(&clock));
    load(&db, T0, 60);
    db.flush_all(T0 + HOUR_MS).unwrap();
    load(&db, T0 + HOUR_MS, 30);
    let select = Select { matchers: &[], range: ALWAYS, max_samples: 100_000, windows: None };
    let answer = db.reader(Vec::new()).select(&select).unwrap();
    assert!(answer.windows(2).all(|pair| std::sync::Arc::ptr_eq(&pair[0].timestamps, &pair[1].timestamps)));
    let few = Select { max_samples: 100, ..select };
    assert!(matches!(db.reader(Vec::new()).select(&few), Err(SourceError::TooManySamples)));
}

#[test]
fn metadata_survives_restart_flush_and_is_bounded() {
    let (dir, clock) = (tempfile::tempdir().unwrap(), TestClock::at(T0));
    let (db, _) = open(dir.path(), options(&clock));
    let help = "ä".repeat(2000);
    let up = Metadata { metric: "up", kind: MetricType::Gauge, help: &help, unit: "" };
    db.append_metadata(&[up, Metadata { metric: "x", kind: MetricType::Counter, help: "h", unit: "s" }], T0).unwrap();
    let before = db.metadata(None, 10);
    assert_eq!((before.len(), before[0].help.len(), before[1].unit.as_str()), (2, 1024, "s"));
    drop(db);
    let (db, _) = open(dir.path(), options(&clock));
    assert_eq!(db.metadata(None, 10), before);
    load(&db, T0, 1);
    db.flush_all(T0).unwrap();
    assert_eq!(db.stats().wal_bytes, 64, "an empty log");
    drop(db);
    let (db, _) = open(dir.path(), options(&clock));
    assert_eq!(db.metadata(Some("x"), 10), before[1..]);
    assert_eq!(db.metadata(None, 1).len(), 1);
}

#[test]
fn a_wrong_volume_is_refused_and_left_alone() {
    let (dir, clock) = (tempfile::tempdir().unwrap(), TestClock::at(T0));
    let (db, _) = open(dir.path(), options(&clock));
    load(&db, T0, 1);
    assert!(matches!(Db::open(dir.path(), options(&clock), T0), Err(OpenError::Storage(_))), "in use");
    drop(db);
    let tenant = Tenant { uuid: uuid::Uuid::from_u128(1), number: 1 };
    let other = DbOptions { tenant, ..options(&clock) };
    assert!(matches!(Db::open(dir.path(), other, T0), Err(OpenError::ForeignTenant { .. })));
    assert_eq!(total(&open(dir.path(), options(&clock)).0), 40);
}

#[test]
fn malformed_and_oversized_requests_store_nothing() {
    let (dir, clock) = (tempfile::tempdir().unwrap(), TestClock::at(T0));
    let mut small = options(&clock);
    small.limits.max_request_bytes = 10_000;
    small.limits.max_samples_per_request = 50;
    let (db, _) = open(dir.path(), small);
    let before = db.stats();
    let m = labels(&[("__name__", "m")]);
    let request = |count: i64| body(&[(m.clone(), (0..count).map(|at| sample(T0 + at, 1.0)).collect())]);
    let fail = |body: &[u8]| db.append_remote_write(&[], body, T0).unwrap_err();
    assert!(matches!(fail(b"garbage"), AppendError::Malformed(_)));
    assert!(matches!(
        fail(&snap::raw::Encoder::new().compress_vec(b"\x0a\x05abc").unwrap()),
        AppendError::Malformed(_)
    ));
    assert!(matches!(fail(&request(51)), AppendError::TooManySamples { samples: 51, max: 50 }));
    assert!(matches!(fail(&request(2000)), AppendError::TooLarge { .. }));
    assert_eq!(db.stats().wal_bytes, before.wal_bytes);
    assert_eq!(total(&db), 0);
    db.append_remote_write(&[], &request(50), T0).unwrap();
    assert_eq!(total(&db), 50);
}

#[test]
fn the_probe_writes_reads_back_and_notices_a_full_volume() {
    let (dir, clock) = (tempfile::tempdir().unwrap(), TestClock::at(T0));
    let disk = FaultyDisk::default();
    let (db, _) = open(dir.path(), DbOptions { disk: std::sync::Arc::new(disk.clone()), ..options(&clock) });
    db.probe().unwrap();
    disk.set_space(Some(0));
    assert!(db.probe().unwrap_err().is_full());
    disk.set_space(None);
    db.probe().unwrap();
}
