//! The modifiers `anchored` and `smoothed`: ranges that look at samples beyond their ends instead of extrapolating.

use crate::ast::{RangeExtension, VectorSelector};
use crate::engine::QueryError;

use super::Evaluation;
use super::column::{ABSENT, Column, RawSeries};
use super::kernels::Kernel;
use super::windows::Frame;

/// Linear between two samples. A counter that fell is taken to have started anew from zero.
fn interpolate(raw: &RawSeries, left: usize, right: usize, at: i64, counter: bool) -> f64 {
    let (mut from, to) = (raw.values[left], raw.values[right]);
    if counter && to < from {
        from = 0.0;
    }
    let (start, end) = (raw.timestamps[left], raw.timestamps[right]);
    from + (to - from) * (at - start) as f64 / (end - start) as f64
}

/// Samples that a range uses, as indices into the series, and the values at its ends.
struct Bounds {
    first: usize,
    last: usize,
    left: f64,
    right: f64,
}

/// `from..to` are the samples of the widened range.
fn bounds(
    raw: &RawSeries,
    from: usize,
    to: usize,
    start: i64,
    end: i64,
    smoothed: bool,
    counter: bool,
) -> Option<Bounds> {
    if to <= from {
        return None;
    }
    let times = &raw.timestamps;
    let mut last = to - 1;
    let first = (from + times[from..last].partition_point(|time| *time <= start)).saturating_sub(1).max(from);
    if smoothed {
        last = from + times[from..last].partition_point(|time| *time < end);
    }
    if times[last] <= start || (smoothed && times[first] > end) {
        return None;
    }
    let left = if smoothed && times[first] < start {
        interpolate(raw, first, first + 1, start, counter)
    } else {
        raw.values[first]
    };
    let right = if smoothed && last > from && times[last] > end {
        interpolate(raw, last - 1, last, end, counter)
    } else {
        raw.values[last]
    };
    Some(Bounds { first, last, left, right })
}

/// Sum of what was lost at resets between the ends.
fn lost_at_resets(raw: &RawSeries, bounds: &Bounds, start: i64, end: i64) -> f64 {
    let from = if raw.timestamps[bounds.first] <= start { bounds.first + 1 } else { bounds.first };
    let to = if raw.timestamps[bounds.last] >= end { bounds.last } else { bounds.last + 1 };
    let (mut lost, mut before) = (0.0, bounds.left);
    let inner = raw.values.get(from..to.max(from)).unwrap_or(&[]);
    for value in inner.iter().chain(std::iter::once(&bounds.right)) {
        if *value < before {
            lost += before;
        }
        before = *value;
    }
    lost
}

/// Runs a kernel over an extended range, one value per step.
pub(super) fn run(kernel: &Kernel, raw: &RawSeries, frame: &Frame, extension: RangeExtension) -> Vec<f64> {
    let smoothed = extension == RangeExtension::Smoothed;
    let mut out = vec![ABSENT; frame.grid.count];
    for (step, into) in out.iter_mut().enumerate() {
        let (start, end) = (frame.start(step), frame.end(step));
        // The series was read with the lookback on both sides; what lies beyond the reach of this step must not count.
        let (from, to) = reach(raw, start, end, smoothed, frame.lookback);
        match kernel {
            Kernel::Extrapolate { counter, per_second } => {
                let Some(bounds) = bounds(raw, from, to, start, end, smoothed, *counter) else { continue };
                let mut result = bounds.right - bounds.left;
                if *counter {
                    result += lost_at_resets(raw, &bounds, start, end);
                }
                *into = if *per_second { result / (frame.range as f64 / 1000.0) } else { result };
            }
            Kernel::Changes | Kernel::Resets => {
                let resets = matches!(kernel, Kernel::Resets);
                if let Some(count) = count_pairs(&raw.timestamps[..to], &raw.values[..to], from, start, resets) {
                    *into = count;
                }
            }
            _ => {}
        }
    }
    out
}

fn reach(raw: &RawSeries, start: i64, end: i64, smoothed: bool, lookback: i64) -> (usize, usize) {
    let from = raw.timestamps.partition_point(|time| *time <= start - lookback);
    let until = if smoothed { end + lookback } else { end };
    (from, raw.timestamps.partition_point(|time| *time <= until).max(from))
}

/// Changes or resets from the last sample at or before the start of the range on.
fn count_pairs(times: &[i64], values: &[f64], from: usize, start: i64, resets: bool) -> Option<f64> {
    let inside = from + times[from..].partition_point(|time| *time <= start);
    if inside >= times.len() {
        return None;
    }
    let first = if inside > from { inside - 1 } else { inside };
    let differs = |pair: &&[f64]| {
        if resets { pair[1] < pair[0] } else { pair[0] != pair[1] && !(pair[0].is_nan() && pair[1].is_nan()) }
    };
    Some(values[first..].windows(2).filter(differs).count() as f64)
}

/// A range vector's samples with values at both ends of the range; none when the range holds nothing.
pub(super) fn bounded(raw: RawSeries, start: i64, end: i64, smoothed: bool) -> Option<RawSeries> {
    let bounds = bounds(&raw, 0, raw.values.len(), start, end, smoothed, false)?;
    let from = if raw.timestamps[bounds.first] <= start { bounds.first + 1 } else { bounds.first };
    let to = if raw.timestamps[bounds.last] >= end { bounds.last } else { bounds.last + 1 };
    let (mut timestamps, mut values) = (vec![start], vec![bounds.left]);
    timestamps.extend_from_slice(raw.timestamps.get(from..to.max(from)).unwrap_or(&[]));
    values.extend_from_slice(raw.values.get(from..to.max(from)).unwrap_or(&[]));
    timestamps.push(end);
    values.push(bounds.right);
    Some(RawSeries { labels: raw.labels, drop_name: raw.drop_name, timestamps: timestamps.into(), values })
}

impl Evaluation<'_> {
    /// An instant selector whose values lie on the line between the samples around each step.
    pub(super) fn smoothed_selector(
        &mut self,
        selector: &VectorSelector,
        frame: &Frame,
    ) -> Result<Vec<Column>, QueryError> {
        let lookback = self.engine.lookback_ms;
        let series = self.raw_series(selector, frame, 0, lookback)?;
        self.charge_columns(series.len(), frame.grid)?;
        let columns = self.per_series(&series, |raw| {
            let values = (0..frame.grid.count).map(|step| smoothed_value(raw, frame.end(step), lookback)).collect();
            Column { labels: raw.labels.clone(), drop_name: false, values }
        })?;
        self.release(series.iter().map(|raw| raw.values.len()).sum());
        Ok(columns.into_iter().filter(|column| !column.is_empty()).collect())
    }
}

fn smoothed_value(raw: &RawSeries, at: i64, lookback: i64) -> f64 {
    let next = raw.timestamps.partition_point(|time| *time < at);
    let reachable =
        |index: &usize| raw.timestamps.get(*index).is_some_and(|time| *time > at - lookback && *time <= at + lookback);
    let after = Some(next).filter(reachable);
    let before = next.checked_sub(1).filter(reachable);
    match (before, after) {
        (_, Some(after)) if raw.timestamps[after] == at => raw.values[after],
        (Some(before), Some(after)) => interpolate(raw, before, after, at, false),
        (Some(before), None) => raw.values[before],
        (None, _) => ABSENT,
    }
}
