//! Classic histograms: buckets as series with a label `le`.

use std::collections::HashMap;
use std::sync::Arc;

use ers_model::Labels;

use crate::annotations::Repair;
use crate::ast::{Call, Node};
use crate::engine::QueryError;
use crate::functions::FunctionId;
use crate::printer::format_float;

use super::column::{ABSENT, Column, ScalarColumn, is_absent, with_label};
use super::labels::string_arg;
use super::{Evaluation, Grid};

const BUCKET_LABEL: &str = "le";
/// Relative difference of neighbouring counts that counts as rounding.
const SMALL_DELTA: f64 = 1e-12;

#[derive(Clone, Copy, Debug)]
struct Bucket {
    upper: f64,
    count: f64,
}

/// The buckets of one histogram: upper bounds, and the columns that count.
struct Histogram {
    labels: Arc<Labels>,
    buckets: Vec<(f64, Column)>,
}

impl Evaluation<'_> {
    pub(super) fn histogram_function(&mut self, call: &Call, grid: Grid) -> Result<Vec<Column>, QueryError> {
        match call.function.id {
            FunctionId::HistogramFraction => {
                let (lower, upper) = (self.scalar(&call.args[0], grid)?, self.scalar(&call.args[1], grid)?);
                let histograms = self.histograms(&call.args[2], grid)?;
                self.charge_columns(histograms.len(), grid)?;
                Ok(histograms
                    .iter()
                    .map(|histogram| {
                        evaluate(histogram, grid, |step, buckets| fraction(lower.at(step), upper.at(step), buckets))
                    })
                    .collect())
            }
            FunctionId::HistogramQuantile => {
                let quantile = self.scalar(&call.args[0], grid)?;
                self.check_quantiles(&quantile, &call.args[0], grid);
                let histograms = self.histograms(&call.args[1], grid)?;
                self.charge_columns(histograms.len(), grid)?;
                Ok(histograms
                    .iter()
                    .map(|histogram| self.quantiles(histogram, &quantile, &call.args[1], grid))
                    .collect())
            }
            _ => {
                let label = string_arg(&call.args[1])?;
                let mut quantiles = Vec::new();
                for arg in &call.args[2..] {
                    let quantile = self.scalar(arg, grid)?;
                    self.check_quantiles(&quantile, arg, grid);
                    quantiles.push(quantile);
                }
                let histograms = self.histograms(&call.args[0], grid)?;
                self.charge_columns(histograms.len().saturating_mul(quantiles.len()), grid)?;
                let mut columns = Vec::new();
                for quantile in &quantiles {
                    let value = open_metrics_float(quantile.at(0));
                    for histogram in &histograms {
                        let mut column = self.quantiles(histogram, quantile, &call.args[0], grid);
                        column.labels = Arc::new(with_label(&column.labels, &label, &value));
                        columns.push(column);
                    }
                }
                Ok(columns)
            }
        }
    }

    fn check_quantiles(&mut self, quantile: &ScalarColumn, arg: &Node, grid: Grid) {
        let steps = if matches!(quantile, ScalarColumn::Constant(_)) { 1 } else { grid.count };
        for value in (0..steps).map(|step| quantile.at(step)).filter(|value| !(0.0..=1.0).contains(value)) {
            self.annotations.invalid_quantile(value, arg.span);
        }
    }

    /// Series of one histogram differ in `le` only.
    fn histograms(&mut self, arg: &Node, grid: Grid) -> Result<Vec<Histogram>, QueryError> {
        let columns = self.vector(arg, grid)?;
        let mut by_labels: HashMap<Labels, usize> = HashMap::new();
        let mut histograms: Vec<Histogram> = Vec::new();
        for column in columns {
            let written = column.labels.get(BUCKET_LABEL).unwrap_or("");
            let Some(upper) = parse_bound(written) else {
                let name = column.labels.metric_name().unwrap_or("");
                self.annotations.bad_bucket_label(name, written, arg.span);
                continue;
            };
            let labels = column.labels.filtered(|name| name != BUCKET_LABEL);
            let at = match by_labels.get(&labels) {
                Some(at) => *at,
                None => {
                    histograms.push(Histogram { labels: Arc::new(labels.clone()), buckets: Vec::new() });
                    by_labels.insert(labels, histograms.len() - 1);
                    histograms.len() - 1
                }
            };
            histograms[at].buckets.push((upper, column));
        }
        for histogram in &mut histograms {
            histogram.buckets.sort_by(|(left, _), (right, _)| left.total_cmp(right));
        }
        Ok(histograms)
    }

    fn quantiles(&mut self, histogram: &Histogram, quantile: &ScalarColumn, arg: &Node, grid: Grid) -> Column {
        let mut repairs: Option<Repair> = None;
        let column = evaluate(histogram, grid, |step, buckets| {
            let (value, repair) = bucket_quantile(quantile.at(step), buckets);
            if let Some((min_bucket, max_bucket, max_difference)) = repair {
                let time = grid.time(step);
                let mut all = repairs.unwrap_or(Repair {
                    min_time: time,
                    max_time: time,
                    min_bucket,
                    max_bucket,
                    max_difference,
                    samples: 0,
                });
                all.min_time = all.min_time.min(time);
                all.max_time = all.max_time.max(time);
                all.min_bucket = all.min_bucket.min(min_bucket);
                all.max_bucket = all.max_bucket.max(max_bucket);
                all.max_difference = all.max_difference.max(max_difference);
                all.samples += 1;
                repairs = Some(all);
            }
            value
        });
        if let Some(repair) = repairs {
            let name = histogram.labels.metric_name().unwrap_or("");
            self.annotations.forced_monotonicity(name, arg.span, repair);
        }
        column
    }
}

/// Calls for each step with the buckets that have a value there, in order of their bounds.
fn evaluate(histogram: &Histogram, grid: Grid, mut call: impl FnMut(usize, &mut Vec<Bucket>) -> f64) -> Column {
    let mut values = vec![ABSENT; grid.count];
    let mut buckets = Vec::with_capacity(histogram.buckets.len());
    for (step, into) in values.iter_mut().enumerate() {
        buckets.clear();
        for (upper, column) in &histogram.buckets {
            let count = column.values[step];
            if !is_absent(count) {
                buckets.push(Bucket { upper: *upper, count });
            }
        }
        if !buckets.is_empty() {
            *into = call(step, &mut buckets);
        }
    }
    Column { labels: histogram.labels.clone(), drop_name: true, values }
}

/// A bound as Go reads numbers.
fn parse_bound(text: &str) -> Option<f64> {
    match text.to_ascii_lowercase().as_str() {
        "+inf" | "inf" | "infinity" | "+infinity" => Some(f64::INFINITY),
        "-inf" | "-infinity" => Some(f64::NEG_INFINITY),
        _ => text.parse().ok(),
    }
}

fn open_metrics_float(value: f64) -> String {
    let text = format_float(value);
    if value.is_finite() && !text.contains(['.', 'e']) { format!("{text}.0") } else { text }
}

/// Adds up buckets that have the same bound.
fn coalesce(buckets: &mut Vec<Bucket>) {
    buckets.dedup_by(|later, earlier| {
        let same = later.upper == earlier.upper;
        if same {
            earlier.count += later.count;
        }
        same
    });
}

/// Counts must not fall towards larger bounds. Small differences are taken for rounding and removed in silence;
/// larger falls are raised too, and reported as the bounds between which they were, and the largest of them.
fn repair(buckets: &mut [Bucket]) -> Option<(f64, f64, f64)> {
    let (mut lowest, mut highest, mut largest) = (f64::INFINITY, f64::NEG_INFINITY, 0.0f64);
    let mut forced = false;
    let first = buckets.first()?;
    let mut before = first.count;
    for bucket in buckets.iter_mut().skip(1) {
        let now = bucket.count;
        if now == before {
            continue;
        }
        if nearly_equal(before, now) {
            bucket.count = before;
        } else if now < before {
            bucket.count = before;
            forced = true;
            lowest = lowest.min(bucket.upper);
            highest = highest.max(bucket.upper);
            largest = largest.max(before - now);
        } else {
            before = now;
        }
    }
    forced.then_some((lowest, highest, largest))
}

fn nearly_equal(left: f64, right: f64) -> bool {
    let smallest_normal = f64::MIN_POSITIVE;
    let difference = (left - right).abs();
    let size = left.abs() + right.abs();
    if left == 0.0 || right == 0.0 || size < smallest_normal {
        return difference < SMALL_DELTA * smallest_normal;
    }
    difference / size.min(f64::MAX) < SMALL_DELTA
}

/// The value below which that part of the observations lies, linear within a bucket; and what had to be repaired.
/// The lowest bucket starts at 0 when its bound is positive. In the highest bucket its lower bound is the answer.
fn bucket_quantile(quantile: f64, buckets: &mut Vec<Bucket>) -> (f64, Option<(f64, f64, f64)>) {
    if quantile.is_nan() {
        return (f64::NAN, None);
    }
    if quantile < 0.0 {
        return (f64::NEG_INFINITY, None);
    }
    if quantile > 1.0 {
        return (f64::INFINITY, None);
    }
    if buckets.last().is_none_or(|last| last.upper != f64::INFINITY) {
        return (f64::NAN, None);
    }
    coalesce(buckets);
    let repaired = repair(buckets);
    let last = buckets.len() - 1;
    let observations = buckets[last].count;
    if buckets.len() < 2 || observations == 0.0 {
        return (f64::NAN, repaired);
    }
    let mut rank = quantile * observations;
    let found = first_not_below(&buckets[..last], rank);
    let value = if found == last {
        buckets[last - 1].upper
    } else if found == 0 && buckets[0].upper <= 0.0 {
        buckets[0].upper
    } else {
        let mut start = 0.0;
        let mut count = buckets[found].count;
        if found > 0 {
            start = buckets[found - 1].upper;
            count -= buckets[found - 1].count;
            rank -= buckets[found - 1].count;
        }
        start + (buckets[found].upper - start) * (rank / count)
    };
    (value, repaired)
}

/// As Go's `sort.Search`, which also fixes what happens with NaN counts.
fn first_not_below(buckets: &[Bucket], rank: f64) -> usize {
    let (mut low, mut high) = (0, buckets.len());
    while low < high {
        let middle = usize::midpoint(low, high);
        if buckets[middle].count >= rank {
            high = middle;
        } else {
            low = middle + 1;
        }
    }
    low
}

/// The part of the observations between two values.
fn fraction(lower: f64, upper: f64, buckets: &mut Vec<Bucket>) -> f64 {
    if buckets.last().is_none_or(|last| last.upper != f64::INFINITY) {
        return f64::NAN;
    }
    coalesce(buckets);
    let count = buckets[buckets.len() - 1].count;
    if count == 0.0 || lower.is_nan() || upper.is_nan() {
        return f64::NAN;
    }
    if lower >= upper {
        return 0.0;
    }
    let rank = |value: f64| rank_of(value, buckets).filter(|rank| *rank <= count).unwrap_or(count);
    (rank(upper) - rank(lower)) / count
}

/// Observations up to a value; none when it lies beyond all buckets.
fn rank_of(value: f64, buckets: &[Bucket]) -> Option<f64> {
    let mut rank = 0.0;
    let mut start = if buckets[0].upper <= 0.0 { f64::NEG_INFINITY } else { 0.0 };
    for bucket in buckets {
        if start >= value {
            return Some(rank);
        }
        if bucket.upper > value {
            // A bucket without a lower end can't be divided.
            if start == f64::NEG_INFINITY {
                return Some(bucket.count);
            }
            return Some(rank + (bucket.count - rank) * (value - start) / (bucket.upper - start));
        }
        rank = bucket.count;
        start = bucket.upper;
    }
    None
}
