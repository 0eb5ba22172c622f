//! Reads series from the source, and looks up samples at steps and in ranges.

use std::sync::Arc;

use ers_model::{TimeRange, is_stale};
use rayon::prelude::*;

use crate::ast::{At, Expr, MatrixSelector, RangeExtension, Subquery, Timing, VectorSelector};
use crate::engine::QueryError;
use crate::source::{LabelMatcher, SampleWindows, Select, SeriesData, SourceError};

use super::column::{ABSENT, Column, RawSeries, is_absent};
use super::windows::Frame;
use super::{Evaluation, Grid, Value, extended};

/// From so many series on, work is shared among threads.
const PARALLEL_SERIES: usize = 200;
/// Series that one thread takes at a time.
const CHUNK_SERIES: usize = 64;

/// What was read for selectors that occur more than once.
#[derive(Default)]
pub(super) struct Fetched {
    repeated: Vec<Vec<LabelMatcher>>,
    read: Vec<Read>,
}

struct Read {
    matchers: Vec<LabelMatcher>,
    range: TimeRange,
    windows: Option<SampleWindows>,
    series: Arc<Vec<SeriesData>>,
}

impl Fetched {
    pub fn new(expr: &Expr) -> Self {
        let selectors = expr.selectors();
        let mut repeated: Vec<Vec<LabelMatcher>> = Vec::new();
        for (at, selector) in selectors.iter().enumerate() {
            if selectors[..at].iter().any(|earlier| earlier.matchers == selector.matchers)
                && !repeated.contains(&selector.matchers)
            {
                repeated.push(selector.matchers.clone());
            }
        }
        Fetched { repeated, read: Vec::new() }
    }
}

impl Evaluation<'_> {
    /// Series in the order of their labels, so that answers do not depend on the source.
    fn fetch(
        &mut self,
        matchers: &[LabelMatcher],
        range: TimeRange,
        windows: Option<SampleWindows>,
    ) -> Result<Arc<Vec<SeriesData>>, QueryError> {
        self.check_interrupt()?;
        let known = self
            .fetched
            .read
            .iter()
            .find(|read| read.range == range && read.windows == windows && read.matchers.as_slice() == matchers);
        if let Some(read) = known {
            return Ok(read.series.clone());
        }
        let max_samples = self.engine.max_samples.saturating_sub(self.samples);
        let all: Vec<LabelMatcher>;
        let asked = if self.enforced.is_empty() {
            matchers
        } else {
            all = matchers.iter().chain(self.enforced).cloned().collect();
            &all
        };
        let select = Select { matchers: asked, range, max_samples, windows };
        let mut series = self.source.select(&select).map_err(|error| match error {
            SourceError::TooManySamples => QueryError::TooManySamples,
            other => QueryError::Source(other),
        })?;
        if !series.is_sorted_by(|left, right| left.labels <= right.labels) {
            series.sort_by(|left, right| left.labels.cmp(&right.labels));
        }
        let series = Arc::new(series);
        if self.fetched.repeated.iter().any(|of| of.as_slice() == matchers) {
            self.charge(series.iter().map(|one| one.values.len()).sum())?;
            self.fetched.read.push(Read { matchers: matchers.to_vec(), range, windows, series: series.clone() });
        }
        Ok(series)
    }

    pub(super) fn at(&self, timing: &Timing) -> Option<i64> {
        timing.at.map(|at| match at {
            At::Timestamp(millis) => millis,
            At::Start => self.start,
            At::End => self.end,
        })
    }

    /// The frame of an instant selector: each window is what the lookback reaches.
    pub(super) fn lookback_frame(&self, selector: &VectorSelector, grid: Grid) -> Result<Frame, QueryError> {
        let offset = self.offset(selector.timing.offset.as_ref())?;
        Ok(Frame {
            grid,
            range: self.engine.lookback_ms,
            offset,
            at: self.at(&selector.timing),
            lookback: self.engine.lookback_ms,
        })
    }

    /// All series with what they have in the frame, widened at both ends.
    pub(super) fn fetch_frame(
        &mut self,
        matchers: &[LabelMatcher],
        frame: &Frame,
        (before, after): (i64, i64),
        last_only: bool,
    ) -> Result<Arc<Vec<SeriesData>>, QueryError> {
        let last = frame.grid.count.saturating_sub(1);
        let start_ms = frame.start(0).saturating_sub(before).saturating_add(1);
        let end_ms = frame.end(last).saturating_add(after);
        let length_ms = frame.range.saturating_add(before).saturating_add(after);
        let sparse = last > 0 && frame.at.is_none() && (last_only || length_ms < frame.grid.step);
        let windows = sparse.then(|| SampleWindows {
            first_end_ms: frame.end(0).saturating_add(after),
            step_ms: frame.grid.step,
            length_ms,
            count: frame.grid.count,
            last_only,
        });
        self.fetch(matchers, TimeRange { start_ms, end_ms }, windows)
    }

    pub(super) fn instant_selector(
        &mut self,
        selector: &VectorSelector,
        grid: Grid,
    ) -> Result<Vec<Column>, QueryError> {
        let frame = self.lookback_frame(selector, grid)?;
        if selector.extension == Some(RangeExtension::Smoothed) {
            return self.smoothed_selector(selector, &frame);
        }
        let series = self.fetch_frame(&selector.matchers, &frame, (0, 0), true)?;
        self.charge_columns(series.len(), grid)?;
        let column = |one: &SeriesData| {
            let mut values = vec![ABSENT; grid.count];
            look_up(&one.timestamps, &one.values, &frame, |step, sample| values[step] = one.values[sample]);
            Column { labels: one.labels.clone(), drop_name: false, values }
        };
        Ok(self.per_series(&series, column)?.into_iter().filter(|column| !column.is_empty()).collect())
    }

    /// Applies a pure function to each series, on several threads when there are many; the order stays.
    pub(super) fn per_series<S: Sync, R: Send>(
        &self,
        series: &[S],
        call: impl Fn(&S) -> R + Sync,
    ) -> Result<Vec<R>, QueryError> {
        self.per_series_with(series, |(): &mut (), one| call(one))
    }

    /// As [`Self::per_series`], with something that neighbouring series share.
    pub(super) fn per_series_with<C: Default, S: Sync, R: Send>(
        &self,
        series: &[S],
        call: impl Fn(&mut C, &S) -> R + Sync,
    ) -> Result<Vec<R>, QueryError> {
        let run = |chunk: &[S]| {
            self.check_interrupt()?;
            let mut shared = C::default();
            Ok(chunk.iter().map(|one| call(&mut shared, one)).collect())
        };
        if series.len() < PARALLEL_SERIES {
            return run(series);
        }
        let parts: Vec<Result<Vec<R>, QueryError>> = series.par_chunks(CHUNK_SERIES).map(run).collect();
        let mut all = Vec::with_capacity(series.len());
        for part in parts {
            all.extend(part?);
        }
        Ok(all)
    }

    /// The samples of a range selector at the only step.
    pub(super) fn matrix_selector(
        &mut self,
        matrix: &MatrixSelector,
        grid: Grid,
    ) -> Result<Vec<RawSeries>, QueryError> {
        let frame = self.range_frame(matrix, grid)?;
        let (before, after) = self.widening(matrix.selector.extension);
        let mut found = self.raw_series(&matrix.selector, &frame, before, after)?;
        let (start, end) = (frame.start(0), frame.end(0));
        if matrix.selector.extension.is_some() {
            let smoothed = matrix.selector.extension == Some(RangeExtension::Smoothed);
            found = found.into_iter().filter_map(|raw| extended::bounded(raw, start, end, smoothed)).collect();
        }
        Ok(found)
    }

    pub(super) fn range_frame(&self, matrix: &MatrixSelector, grid: Grid) -> Result<Frame, QueryError> {
        let range = self.length(&matrix.range)?;
        let offset = self.offset(matrix.selector.timing.offset.as_ref())?;
        Ok(Frame { grid, range, offset, at: self.at(&matrix.selector.timing), lookback: self.engine.lookback_ms })
    }

    /// How far an extended range reads before and after itself.
    pub(super) fn widening(&self, extension: Option<RangeExtension>) -> (i64, i64) {
        match extension {
            None => (0, 0),
            Some(RangeExtension::Anchored) => (self.engine.lookback_ms, 0),
            Some(RangeExtension::Smoothed) => (self.engine.lookback_ms, self.engine.lookback_ms),
        }
    }

    /// All samples of a range selector over all steps, without stale markers.
    pub(super) fn raw_series(
        &mut self,
        selector: &VectorSelector,
        frame: &Frame,
        before: i64,
        after: i64,
    ) -> Result<Vec<RawSeries>, QueryError> {
        let series = self.fetch_frame(&selector.matchers, frame, (before, after), false)?;
        self.charge(series.iter().map(|one| one.values.len()).sum())?;
        // A selector that occurs once gives its samples away; a shared one must be copied.
        let owned = Arc::try_unwrap(series).unwrap_or_else(|shared| shared.as_ref().clone());
        Ok(owned.into_iter().map(without_stale).filter(|raw| !raw.values.is_empty()).collect())
    }

    pub(super) fn subquery(&mut self, subquery: &Subquery, grid: Grid) -> Result<Vec<RawSeries>, QueryError> {
        let frame = self.subquery_frame(subquery, grid)?;
        let step = match &subquery.step {
            Some(step) => self.length(step)?,
            None => self.engine.default_subquery_step_ms,
        };
        // Steps are multiples of the resolution, so that the same query later meets the same points.
        let step = step.max(1);
        let first = frame.start(0);
        let mut start = step * (first / step);
        if start <= first {
            start += step;
        }
        let inner = Grid::new(start, frame.end(grid.count.saturating_sub(1)), step);
        self.charge(inner.count)?;
        let value = self.eval(&subquery.expr, inner)?;
        self.release(inner.count);
        let Value::Vector(columns) = value else { return Ok(Vec::new()) };
        let times: Arc<[i64]> = inner.times().collect();
        Ok(columns.into_iter().map(|column| points(column, &times)).filter(|raw| !raw.values.is_empty()).collect())
    }

    pub(super) fn subquery_frame(&self, subquery: &Subquery, grid: Grid) -> Result<Frame, QueryError> {
        let range = self.length(&subquery.range)?;
        let offset = self.offset(subquery.timing.offset.as_ref())?;
        Ok(Frame { grid, range, offset, at: self.at(&subquery.timing), lookback: self.engine.lookback_ms })
    }
}

/// Calls with each step that has a sample, and the sample's index: the last one in reach, unless it is a stale marker.
pub(super) fn look_up(timestamps: &[i64], values: &[f64], frame: &Frame, mut found: impl FnMut(usize, usize)) {
    let mut next = 0;
    for step in 0..frame.grid.count {
        let end = frame.end(step);
        while next < timestamps.len() && timestamps[next] <= end {
            next += 1;
        }
        let Some(last) = next.checked_sub(1) else { continue };
        if timestamps[last] > end - frame.range && !is_stale(values[last]) {
            found(step, last);
        }
    }
}

fn without_stale(series: SeriesData) -> RawSeries {
    let SeriesData { labels, timestamps, values } = series;
    if !values.iter().any(|value| is_stale(*value)) {
        return RawSeries { labels, drop_name: false, timestamps, values };
    }
    let kept = timestamps.iter().zip(&values).filter(|(_, value)| !is_stale(**value));
    let (timestamps, values): (Vec<i64>, Vec<f64>) = kept.unzip();
    RawSeries { labels, drop_name: false, timestamps: timestamps.into(), values }
}

fn points(column: Column, times: &Arc<[i64]>) -> RawSeries {
    let Column { labels, drop_name, values } = column;
    if !values.iter().any(|value| is_absent(*value)) {
        return RawSeries { labels, drop_name, timestamps: times.clone(), values };
    }
    let kept = times.iter().zip(&values).filter(|(_, value)| !is_absent(**value));
    let (timestamps, values): (Vec<i64>, Vec<f64>) = kept.unzip();
    RawSeries { labels, drop_name, timestamps: timestamps.into(), values }
}
