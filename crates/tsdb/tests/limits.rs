//! Over a limit, the guilty is named and everyone else goes on.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

mod common;

use common::{T0, TestClock, everything, labels, open, options, sample, send};
use ers_model::Labels;
use ers_tsdb::{DbOptions, LimitKind, Limits};
use ers_wire::remote_write::Encoder;

fn limited(clock: &TestClock) -> DbOptions {
    let limits = Limits {
        max_active_series: 10,
        max_labels_per_series: 5,
        max_label_name_bytes: 10,
        max_label_value_bytes: 20,
        ..Limits::default()
    };
    DbOptions { limits, ..options(clock) }
}

fn numbered(metric: &str, number: usize) -> Labels {
    labels(&[("__name__", metric), ("n", &number.to_string())])
}

#[test]
fn beyond_the_series_limit_known_series_go_on_and_new_ones_are_refused() {
    let (dir, clock) = (tempfile::tempdir().unwrap(), TestClock::at(T0));
    let (db, _) = open(dir.path(), limited(&clock));
    let first: Vec<_> = (0..8).map(|number| (numbered("good", number), vec![sample(T0, 1.0)])).collect();
    assert_eq!(send(&db, &first, T0).limit, None);
    let mut bomb: Vec<_> = (0..1000).map(|number| (numbered("bomb", number), vec![sample(T0 + 1, 1.0)])).collect();
    bomb.extend((0..8).map(|number| (numbered("good", number), vec![sample(T0 + 1, 2.0)])));
    let outcome = send(&db, &bomb, T0 + 1);
    assert_eq!((outcome.accepted, outcome.refused_samples, outcome.refused_series), (10, 998, 998));
    let limit = outcome.limit.unwrap();
    assert_eq!((limit.what, limit.metric.as_str(), limit.limit), (LimitKind::ActiveSeries, "bomb", 10));
    assert_eq!(limit.to_string(), r#"series of metric "bomb" refused: max_active_series (limit 10, found 11)"#);
    let before = everything(&db);
    assert_eq!(before.len(), 10);
    let stats = db.stats();
    assert_eq!((stats.active_series, stats.series_refused_total, stats.samples_refused_total), (10, 998, 998));
    assert_eq!(stats.top_metrics, [("good".to_owned(), 8), ("bomb".to_owned(), 2)]);
    drop(db);
    let (db, _) = open(dir.path(), limited(&clock));
    assert_eq!(everything(&db), before, "what was refused does not come back with the log");
}

#[test]
fn a_lower_limit_after_a_restart_loses_nothing_that_was_acknowledged() {
    let (dir, clock) = (tempfile::tempdir().unwrap(), TestClock::at(T0));
    let (db, _) = open(dir.path(), options(&clock));
    let many: Vec<_> = (0..50).map(|number| (numbered("m", number), vec![sample(T0, 1.0)])).collect();
    send(&db, &many, T0);
    drop(db);
    let (db, _) = open(dir.path(), limited(&clock));
    assert_eq!(everything(&db).len(), 50);
}

#[test]
fn series_that_ended_make_room() {
    let (dir, clock) = (tempfile::tempdir().unwrap(), TestClock::at(T0));
    let (db, _) = open(dir.path(), limited(&clock));
    let batch = |from: usize| {
        (from..from + 10).map(|number| (numbered("m", number), vec![sample(T0, 1.0)])).collect::<Vec<_>>()
    };
    assert_eq!(send(&db, &batch(0), T0).accepted, 10);
    assert_eq!(send(&db, &batch(10), T0).accepted, 0);
    db.flush_all(T0).unwrap();
    assert_eq!(send(&db, &batch(10), T0).accepted, 10);
    assert_eq!(everything(&db).len(), 20);
}

#[track_caller]
fn check_refused(pairs: &[(&str, &str)], what: LimitKind, label: Option<&str>, found: usize) {
    let (dir, clock) = (tempfile::tempdir().unwrap(), TestClock::at(T0));
    let (db, _) = open(dir.path(), limited(&clock));
    let mut encoder = Encoder::default();
    encoder.push_series(pairs.iter().copied(), &[sample(T0, 1.0)]);
    encoder.push_series([("__name__", "fine")].into_iter(), &[sample(T0, 1.0)]);
    let outcome = db.append_remote_write(&[], &encoder.finish(), T0).unwrap();
    assert_eq!((outcome.accepted, outcome.refused_samples), (1, 1));
    let limit = outcome.limit.unwrap();
    assert_eq!((limit.what, limit.label.as_deref(), limit.found), (what, label, found));
    assert_eq!(everything(&db).len(), 1);
}

#[test]
fn labels_over_their_limits_are_refused_by_name() {
    let name = ("__name__", "m");
    check_refused(
        &[name, ("a", "1"), ("b", "1"), ("c", "1"), ("d", "1"), ("e", "1")],
        LimitKind::LabelsPerSeries,
        None,
        6,
    );
    check_refused(&[name, ("a2345678901", "1")], LimitKind::LabelNameBytes, Some("a2345678901"), 11);
    check_refused(&[name, ("a", &"x".repeat(21))], LimitKind::LabelValueBytes, Some("a"), 21);
    check_refused(&[("a", "1")], LimitKind::InvalidLabels, Some("__name__"), 0);
    check_refused(&[name, ("a", "1"), ("a", "2")], LimitKind::InvalidLabels, Some("a"), 2);
    check_refused(&[("", "x"), name], LimitKind::InvalidLabels, Some(""), 0);
}
