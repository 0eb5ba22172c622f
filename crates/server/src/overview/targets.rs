//! What agents say of what they scrape: the series `up`, `scrape_*` and `ers_target_failure`.

use std::collections::BTreeMap;

use ers_model::{Labels, METRIC_NAME, TimeRange, is_stale};
use ers_promql::{LabelMatcher, MatchOp, SampleWindows, Select, SeriesSource, SourceError};
use serde::Serialize;

/// A series without a sample for so long has ended, as in a query.
const LOOKBACK_MS: i64 = 300_000;
const MAX_SAMPLES: usize = 10_000_000;
const TARGET: &str = "ers_target";

/// One scraped target. What is not known is null.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TargetRow {
    /// Name of the CollectorTarget.
    pub target: String,
    pub job: String,
    pub instance: String,
    pub up: bool,
    pub last_scrape_ms: i64,
    pub scrape_duration_seconds: Option<f64>,
    pub samples: Option<f64>,
    /// Why the last scrape failed.
    pub reason: Option<String>,
}

fn matcher(name: &str, op: MatchOp, value: &str) -> LabelMatcher {
    LabelMatcher::new(name, op, value).expect("only regular expressions can be wrong")
}

/// The series `up` of one CollectorTarget.
pub fn up_of(target: &str) -> Vec<LabelMatcher> {
    vec![matcher(METRIC_NAME, MatchOp::Equal, "up"), matcher(TARGET, MatchOp::Equal, target)]
}

/// The newest sample of each series of one metric that is about a target.
fn newest(
    source: &dyn SeriesSource,
    metric: &str,
    now_ms: i64,
) -> Result<Vec<(std::sync::Arc<Labels>, i64, f64)>, SourceError> {
    let matchers = [matcher(METRIC_NAME, MatchOp::Equal, metric), matcher(TARGET, MatchOp::NotEqual, "")];
    let select = Select {
        matchers: &matchers,
        range: TimeRange { start_ms: now_ms - LOOKBACK_MS + 1, end_ms: now_ms },
        max_samples: MAX_SAMPLES,
        windows: Some(SampleWindows {
            first_end_ms: now_ms,
            step_ms: 1,
            length_ms: LOOKBACK_MS,
            count: 1,
            last_only: true,
        }),
    };
    let series = source.select(&select)?;
    Ok(series
        .into_iter()
        .filter_map(|series| {
            let (at_ms, value) = (*series.timestamps.last()?, *series.values.last()?);
            (!is_stale(value)).then_some((series.labels, at_ms, value))
        })
        .collect())
}

type Key = (String, String, String);

fn key(labels: &Labels) -> Key {
    let text = |name| labels.get(name).unwrap_or_default().to_owned();
    (text(TARGET), text("job"), text("instance"))
}

/// All targets that were scraped lately, in order of target, job and instance.
pub fn read(source: &dyn SeriesSource, now_ms: i64) -> Result<Vec<TargetRow>, SourceError> {
    let mut rows: BTreeMap<Key, TargetRow> = BTreeMap::new();
    for (labels, last_scrape_ms, value) in newest(source, "up", now_ms)? {
        let (target, job, instance) = key(&labels);
        let row = TargetRow {
            target: target.clone(),
            job: job.clone(),
            instance: instance.clone(),
            up: value == 1.0,
            last_scrape_ms,
            scrape_duration_seconds: None,
            samples: None,
            reason: None,
        };
        // Two series of one target (a changed label): the newer one tells.
        let known = rows.entry((target, job, instance)).or_insert_with(|| row.clone());
        if known.last_scrape_ms < last_scrape_ms {
            *known = row;
        }
    }
    for (labels, _, value) in newest(source, "scrape_duration_seconds", now_ms)? {
        if let Some(row) = rows.get_mut(&key(&labels)) {
            row.scrape_duration_seconds = Some(value);
        }
    }
    for (labels, _, value) in newest(source, "scrape_samples_scraped", now_ms)? {
        if let Some(row) = rows.get_mut(&key(&labels)) {
            row.samples = Some(value);
        }
    }
    for (labels, _, value) in newest(source, "ers_target_failure", now_ms)? {
        if let Some(row) = rows.get_mut(&key(&labels)).filter(|row| !row.up && value == 1.0) {
            row.reason = labels.get("reason").map(str::to_owned);
        }
    }
    Ok(rows.into_values().collect())
}
