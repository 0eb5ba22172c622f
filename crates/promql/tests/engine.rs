//! Limits, interruption, enforced matchers, and answers that do not depend on how they are computed.

// Helpers of tests are tests too, which clippy's settings do not see outside of test functions.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use ers_model::{Labels, STALE_NAN};
use ers_promql::{
    Engine, LabelMatcher, MatchOp, QueryError, QueryValue, Select, SeriesData, SeriesSource, SourceError, Stop, parse,
};

const STEP: i64 = 15_000;
const SAMPLES: i64 = 400;

/// Counters with resets, gauges, gaps and stale markers.
struct Fleet {
    series: Vec<SeriesData>,
}

impl Fleet {
    fn new(hosts: usize) -> Self {
        let aligned: Arc<[i64]> = (0..SAMPLES).map(|at| at * STEP).collect();
        let mut series = Vec::new();
        for host in 0..hosts {
            let name = host.to_string();
            let labels = |metric: &str| {
                Arc::new(Labels::from_pairs([
                    ("__name__", metric),
                    ("host", &name),
                    ("zone", if host % 3 == 0 { "a" } else { "b" }),
                ]))
            };
            let noise = |at: i64| ((at * 7919 + host as i64 * 104_729) % 1000) as f64;
            let counter = (0..SAMPLES).map(|at| (at % (90 + host as i64)) as f64 * 3.3 + noise(at) / 1e3).collect();
            series.push(SeriesData { labels: labels("requests_total"), timestamps: aligned.clone(), values: counter });
            let gauge = (0..SAMPLES).map(|at| if at % 97 == 96 { STALE_NAN } else { noise(at) * 0.1 }).collect();
            series.push(SeriesData { labels: labels("load"), timestamps: aligned.clone(), values: gauge });
            let gaps: Vec<i64> = (0..SAMPLES).filter(|at| at % 50 > host as i64 % 40).collect();
            series.push(SeriesData {
                labels: labels("memory"),
                timestamps: gaps.iter().map(|at| at * STEP + host as i64).collect(),
                values: gaps.iter().map(|at| 1e9 + noise(*at)).collect(),
            });
        }
        Fleet { series }
    }
}

impl SeriesSource for Fleet {
    fn select(&self, select: &Select<'_>) -> Result<Vec<SeriesData>, SourceError> {
        let mut found = Vec::new();
        let mut count = 0;
        for one in &self.series {
            if !select.matchers.iter().all(|matcher| matcher.matches_labels(&one.labels)) {
                continue;
            }
            let from = one.timestamps.partition_point(|time| *time < select.range.start_ms);
            let to = one.timestamps.partition_point(|time| *time <= select.range.end_ms).max(from);
            count += to - from;
            if count > select.max_samples {
                return Err(SourceError::TooManySamples);
            }
            // Whole columns of times are shared, as a store does.
            let whole = to - from == one.timestamps.len();
            let timestamps = if whole { one.timestamps.clone() } else { one.timestamps[from..to].into() };
            found.push(SeriesData { labels: one.labels.clone(), timestamps, values: one.values[from..to].to_vec() });
        }
        Ok(found)
    }
}

const QUERIES: [&str; 24] = [
    "load",
    "load offset 1m",
    "rate(requests_total[5m])",
    "sum by (zone) (rate(requests_total[2m]))",
    "increase(requests_total[10m]) / on (host) load",
    "avg_over_time(load[20m])",
    "sum_over_time(memory[20m])",
    "max_over_time(load[10m]) - min_over_time(load[10m])",
    "stddev_over_time(memory[5m])",
    "quantile_over_time(0.9, load[10m])",
    "deriv(memory[10m])",
    "irate(requests_total[1m])",
    "changes(load[10m]) + resets(requests_total[40m])",
    "predict_linear(memory[10m], 60)",
    "avg(load) > 40",
    "count_values without (host) (\"v\", round(load, 20))",
    "quantile by (zone) (0.3, memory)",
    "load and on (host) memory > 1e9",
    "load or memory",
    "load unless on (host) (memory % 2 > 1)",
    "max_over_time(sum by (zone) (load)[10m:1m])",
    "timestamp(memory)",
    "absent(memory{host=\"39\"})",
    "sum(load * on (host) group_left (zone) memory)",
];

/// Times, values and labels of a range query, with values as bits.
fn bits(engine: &Engine, source: &Fleet, query: &str, start: i64, end: i64, step: i64) -> Vec<(String, i64, u64)> {
    let expr = parse(query).unwrap();
    let result = engine.range(&expr, source, start, end, step).unwrap_or_else(|error| panic!("{query}: {error}"));
    let QueryValue::Matrix(matrix) = result.value else { panic!("{query} gave no matrix") };
    let points = matrix.iter().flat_map(|series| {
        let labels = series.labels.to_string();
        series.floats.iter().map(move |point| (labels.clone(), point.timestamp_ms, point.value.to_bits()))
    });
    points.collect()
}

#[test]
fn any_number_of_threads_gives_the_same_bits() {
    let (engine, source) = (Engine::default(), Fleet::new(240));
    for query in QUERIES {
        let run = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            // Several steps on the same threads: nothing of one query may be left for the next.
            let steps = [60_000, 45_000, 300_000];
            pool.install(|| steps.map(|step| bits(&engine, &source, query, 0, SAMPLES * STEP, step)))
        };
        let one = run(1);
        assert!(one.iter().all(|answer| !answer.is_empty()), "{query}");
        assert_eq!(one, run(3), "{query}");
    }
}

#[test]
fn a_range_query_says_at_each_step_what_an_instant_query_says() {
    let (engine, source) = (Engine::default(), Fleet::new(12));
    for query in QUERIES {
        let expr = parse(query).unwrap();
        let over = bits(&engine, &source, query, 600_000, 4_200_000, 300_000);
        for step in 0..=12 {
            let at = 600_000 + step * 300_000;
            let QueryValue::Vector { samples, .. } = engine.instant(&expr, &source, at).unwrap().value else {
                panic!("{query} gave no vector")
            };
            let mut now: Vec<(String, f64)> =
                samples.iter().map(|sample| (sample.labels.to_string(), sample.value)).collect();
            now.sort_by(|left, right| left.0.cmp(&right.0));
            let mut then: Vec<(String, f64)> = over
                .iter()
                .filter(|(_, time, _)| *time == at)
                .map(|(labels, _, value)| (labels.clone(), f64::from_bits(*value)))
                .collect();
            then.sort_by(|left, right| left.0.cmp(&right.0));
            assert_eq!(now.len(), then.len(), "{query} at {at}");
            for (now, then) in now.iter().zip(&then) {
                assert_eq!(now.0, then.0, "{query} at {at}");
                let near = (now.1 - then.1).abs() <= now.1.abs().max(1.0) * 1e-12 || now.1.is_nan() && then.1.is_nan();
                assert!(near, "{query} at {at}: {now:?} {then:?}");
            }
        }
    }
}

#[test]
fn a_query_over_its_limit_of_samples_fails() {
    let source = Fleet::new(20);
    let engine = Engine { max_samples: 1000, ..Engine::default() };
    let limited = |query: &str| engine.range(&parse(query).unwrap(), &source, 0, 6_000_000, 15_000);
    for query in
        ["load", "rate(requests_total[5m])", "sum(load)", "vector(1)[1y:1ms]", "max_over_time(vector(1)[10y:1ms])"]
    {
        if query.ends_with(']') {
            let result = engine.instant(&parse(query).unwrap(), &source, 0);
            assert!(matches!(result, Err(QueryError::TooManySamples)), "{query}: {result:?}");
            continue;
        }
        let result = limited(query);
        assert!(matches!(result, Err(QueryError::TooManySamples)), "{query}: {result:?}");
    }
    let message = QueryError::TooManySamples.to_string();
    assert_eq!(message, "query processing would load too many samples into memory in query execution");
    assert!(engine.instant(&parse("sum(load)").unwrap(), &source, 60_000).is_ok());
}

#[test]
fn a_running_query_can_be_stopped() {
    let source = Fleet::new(20);
    for (stop, message) in [
        (Stop::Timeout, "query timed out in expression evaluation"),
        (Stop::Cancelled, "query was canceled in expression evaluation"),
    ] {
        let asked = Arc::new(AtomicUsize::new(0));
        let counter = asked.clone();
        let interrupt = move || (counter.fetch_add(1, Ordering::Relaxed) >= 3).then_some(stop);
        let engine = Engine { interrupt: Some(Arc::new(interrupt)), ..Engine::default() };
        let result =
            engine.range(&parse("sum(rate(requests_total[5m])) + sum(load)").unwrap(), &source, 0, 600_000, 15_000);
        assert_eq!(result.unwrap_err().to_string(), message);
        assert_eq!(asked.load(Ordering::Relaxed), 4);
    }
}

#[test]
fn enforced_matchers_reach_every_selector() {
    let source = Fleet::new(9);
    let mut expr =
        parse("count(load) + count(rate(requests_total[5m])) + count(max_over_time(memory[5m:1m]))").unwrap();
    assert_eq!(expr.selectors().len(), 3);
    expr.enforce(&[LabelMatcher::new("zone", MatchOp::Equal, "a").unwrap()]);
    let value = Engine::default().instant(&expr, &source, 1_200_000).unwrap().value;
    let QueryValue::Vector { samples, .. } = value else { panic!("no vector") };
    assert_eq!(samples[0].value, 9.0);
    // The selector that info() implies obeys too, and absent() keeps its own labels.
    let mut implied = parse("info(load, {__name__=\"memory\", zone=~\".+\"}) or absent(load{host=\"none\"})").unwrap();
    implied.enforce(&[LabelMatcher::new("zone", MatchOp::Equal, "none").unwrap()]);
    let value = Engine::default().instant(&implied, &source, 1_200_000).unwrap().value;
    let QueryValue::Vector { samples, .. } = value else { panic!("no vector") };
    assert_eq!(samples.iter().map(|sample| sample.labels.to_string()).collect::<Vec<_>>(), ["{host=\"none\"}"]);
    // A selector that asks for another zone finds nothing.
    let mut other = parse("load{zone=\"b\"}").unwrap();
    other.enforce(&[LabelMatcher::new("zone", MatchOp::Equal, "a").unwrap()]);
    let value = Engine::default().instant(&other, &source, 1_200_000).unwrap().value;
    assert!(matches!(value, QueryValue::Vector { samples, .. } if samples.is_empty()));
}

#[test]
fn remarks_name_their_place() {
    let source = Fleet::new(1);
    let expr = parse("1 +\n rate(load[5m])").unwrap();
    let result = Engine::default().instant(&expr, &source, 600_000).unwrap();
    assert_eq!(
        result.infos,
        ["PromQL info: metric might not be a counter, name does not end in _total/_sum/_count/_bucket: \"load\" (2:7)"]
    );
    assert!(result.warnings.is_empty());
}

#[test]
fn range_queries_of_other_types_and_bad_steps_are_refused() {
    let (engine, source) = (Engine::default(), Fleet::new(1));
    for (query, start, end, step, message) in [
        (
            "load[5m]",
            0,
            1,
            1,
            "invalid expression type \"range vector\" for range query, must be Scalar or instant Vector",
        ),
        ("\"a\"", 0, 1, 1, "invalid expression type \"string\" for range query, must be Scalar or instant Vector"),
        ("load", 0, 1, 0, "zero or negative query resolution step widths are not accepted. Try a positive integer"),
        ("load", 2, 1, 1, "end timestamp must not be before start time"),
    ] {
        let error = engine.range(&parse(query).unwrap(), &source, start, end, step).unwrap_err();
        assert_eq!(error.to_string(), message);
    }
}

#[test]
fn the_deepest_queries_fit_on_the_stack() {
    let source = Fleet::new(1);
    let depth = ers_promql::parser::MAX_DEPTH;
    let chain = vec!["load"; depth - 1].join(" + ");
    let nested = format!("{}load{}", "-(".repeat(depth / 3), ")".repeat(depth / 3));
    let calls = format!("{}load{}", "abs(".repeat(depth - 2), ")".repeat(depth - 2));
    let subqueries = (0..40).fold("load".to_owned(), |inner, _| format!("max_over_time({inner}[1m:1m])"));
    // Threads of servers have 2 MiB, in which 400 levels fit at opt-level 1; frames are several times larger without
    // optimisation, which this must survive as well.
    let run = move || {
        for query in [chain, nested, calls, subqueries] {
            let expr = parse(&query).unwrap_or_else(|error| panic!("{error}"));
            assert_eq!(parse(&expr.to_string()).unwrap().to_string(), expr.to_string());
            let result = Engine::default().range(&expr, &source, 600_000, 1_200_000, 60_000);
            assert!(result.is_ok(), "{result:?}");
        }
    };
    std::thread::Builder::new().stack_size(8 << 20).spawn(run).unwrap().join().unwrap();
}

#[test]
fn times_far_from_any_sample_do_not_overflow() {
    let (engine, source) = (Engine::default(), Fleet::new(1));
    let run = |query: &str| engine.instant(&parse(query).unwrap(), &source, 0).map(|result| result.value);
    for query in [
        "load @ 9223372036854775",
        "load @ -9223372036854775 offset 290y",
        "rate(requests_total[290y] offset -290y)",
        "sum_over_time(load[290y:290y] @ 9e15 offset -290y)",
        "vector(1)[290y:290y]",
    ] {
        assert!(run(query).is_ok(), "{query}");
    }
    let load = parse("load").unwrap();
    for time in [i64::MIN, i64::MAX] {
        assert!(engine.instant(&load, &source, time).is_err());
        assert!(engine.range(&load, &source, time, time, 1).is_err());
    }
    let wide = engine.range(&load, &source, -(1 << 53), 1 << 53, 1);
    assert!(matches!(wide, Err(QueryError::TooManySamples)));
}
