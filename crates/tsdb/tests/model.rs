//! Any sequence of operations answers like a plain map.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

mod common;

use std::collections::BTreeMap;

use common::{Content, T0, TestClock, content, everything, labels, open, options, sample, send};
use ers_model::TimeRange;
use ers_promql::source::{MatchOp, SampleWindows, Select, SeriesSource};
use ers_tsdb::{Db, DbOptions, HOUR_MS};
use proptest::prelude::*;

#[derive(Clone, Debug)]
enum Op {
    /// Series, start (minutes after T0), step in ms, values.
    Append(u8, i64, i64, Vec<f64>),
    Advance(i64),
    Maintain,
    FlushAll,
    Restart,
    Read(i64, i64),
}

fn value() -> impl Strategy<Value = f64> {
    prop_oneof![
        4 => (-1000_i32..1000).prop_map(|value| f64::from(value) / 4.0),
        1 => any::<u64>().prop_map(f64::from_bits),
        1 => Just(ers_model::STALE_NAN),
    ]
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let append = (
        0_u8..4,
        0_i64..1800,
        prop_oneof![Just(15_000_i64), 1_i64..200_000],
        proptest::collection::vec(value(), 1..200),
    )
        .prop_map(|(series, start, step, values)| Op::Append(series, start, step, values));
    let op = prop_oneof![
        8 => append,
        2 => (1_i64..300).prop_map(Op::Advance),
        2 => Just(Op::Maintain),
        1 => Just(Op::FlushAll),
        1 => Just(Op::Restart),
        3 => (0_i64..2000, 0_i64..600).prop_map(|(start, minutes)| Op::Read(start, minutes)),
    ];
    proptest::collection::vec(op, 1..30)
}

type Model = BTreeMap<String, BTreeMap<i64, u64>>;

fn in_range(model: &Model, range: TimeRange) -> Content {
    model
        .iter()
        .map(|(name, samples)| {
            (
                name.clone(),
                samples.range(range.start_ms..=range.end_ms).map(|(at, bits)| (*at, *bits)).collect::<Vec<_>>(),
            )
        })
        .filter(|(_, samples)| !samples.is_empty())
        .collect()
}

/// Says where two contents differ first, not all of them.
#[track_caller]
fn check_same(found: &Content, expect: &Content, when: &str) {
    for name in expect.keys().chain(found.keys()) {
        let (found, expect) = (found.get(name), expect.get(name));
        let (found, expect) = (found.map_or(&[][..], |samples| samples), expect.map_or(&[][..], |samples| samples));
        if found != expect {
            let at = found
                .iter()
                .zip(expect)
                .position(|(left, right)| left != right)
                .unwrap_or(found.len().min(expect.len()));
            panic!(
                "{when}, {name}: {} samples instead of {}; at {at}: {:?} instead of {:?}",
                found.len(),
                expect.len(),
                found.get(at),
                expect.get(at)
            );
        }
    }
}

/// What a range query over steps sees: of each step the last sample within a minute.
fn check_windows(db: &Db, model: &Model, range: TimeRange) {
    let step_ms = 97_000;
    let count = ((range.end_ms - range.start_ms) / step_ms + 1) as usize;
    let windows = SampleWindows { first_end_ms: range.start_ms, step_ms, length_ms: 60_000, count, last_only: true };
    let wider = TimeRange { start_ms: range.start_ms - 60_000, ..range };
    let select = Select { matchers: &[], range: wider, max_samples: 10_000_000, windows: Some(windows) };
    let answer = db.reader(Vec::new()).select(&select).unwrap();
    let last = |samples: &mut dyn DoubleEndedIterator<Item = (i64, u64)>, end: i64| {
        samples.rev().find(|(at, _)| *at <= end && *at > end - 60_000)
    };
    for (name, samples) in model {
        let series = answer.iter().find(|series| series.labels.to_string() == *name);
        for window in 0..count as i64 {
            let end = range.start_ms + window * step_ms;
            let expect = last(&mut samples.iter().map(|(at, bits)| (*at, *bits)), end);
            let found = series.and_then(|series| {
                let bits = series.values.iter().map(|value| value.to_bits());
                last(&mut series.timestamps.iter().copied().zip(bits).collect::<Vec<_>>().into_iter(), end)
            });
            assert_eq!(found, expect, "{name} at {end}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn reading_gives_what_was_written_first(ops in ops()) {
        let (dir, clock) = (tempfile::tempdir().unwrap(), TestClock::at(T0));
        let mut now = T0 + 30 * HOUR_MS;
        clock.set(now);
        let options = || DbOptions { max_head_samples: 3000, ..options(&clock) };
        let (mut db, _) = open(dir.path(), options());
        let mut model = Model::new();
        for op in ops {
            match op {
                Op::Append(series, start, step, values) => {
                    let series = labels(&[("__name__", "m"), ("s", &series.to_string())]);
                    let samples: Vec<_> = values
                        .iter()
                        .enumerate()
                        .map(|(at, value)| sample(T0 + start * 60_000 + at as i64 * step, *value))
                        .filter(|sample| sample.timestamp_ms <= now)
                        .collect();
                    let held = model.entry(series.to_string()).or_default();
                    for sample in &samples {
                        held.entry(sample.timestamp_ms).or_insert(sample.value.to_bits());
                    }
                    let count = samples.len() as u64;
                    let outcome = send(&db, &[(series, samples)], now);
                    prop_assert_eq!(outcome.accepted + outcome.duplicates + outcome.conflicts, count);
                }
                Op::Advance(minutes) => {
                    now += minutes * 60_000;
                    clock.set(now);
                }
                Op::Maintain => drop(db.maintain(now).unwrap()),
                Op::FlushAll => drop(db.flush_all(now).unwrap()),
                Op::Restart => {
                    drop(db);
                    let (reopened, report) = open(dir.path(), options());
                    prop_assert!(!report.is_damaged());
                    db = reopened;
                }
                Op::Read(start, minutes) => {
                    let start_ms = T0 + start * 60_000;
                    let range = TimeRange { start_ms, end_ms: start_ms + minutes * 60_000 };
                    let matchers = [common::matcher("s", MatchOp::Regex, "[0-9]")];
                    check_same(&content(&db, &matchers, range), &in_range(&model, range), "read");
                    check_windows(&db, &model, range);
                }
            }
        }
        let all = in_range(&model, common::ALWAYS);
        check_same(&everything(&db), &all, "at the end");
        db.flush_all(now).unwrap();
        while db.maintain(now + 72 * HOUR_MS).unwrap().compacted_segments > 0 {}
        check_same(&everything(&db), &all, "merged");
        drop(db);
        check_same(&everything(&open(dir.path(), options()).0), &all, "reopened");
    }
}
