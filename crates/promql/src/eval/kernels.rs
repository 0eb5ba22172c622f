//! Functions of one series over windows. Each fills one value per step, without allocating per step.

mod over_time;
mod rate;
mod regression;

use super::column::ScalarColumn;
use super::quantile;
use super::windows::{Frame, Windows};

pub(crate) use over_time::Extremes;

pub(crate) enum Kernel {
    Extrapolate { counter: bool, per_second: bool },
    Instant { rate: bool },
    Sum,
    Avg,
    Extreme { largest: bool, time: bool },
    Count,
    Present,
    First,
    Last,
    FirstTime,
    LastTime,
    Changes,
    Resets,
    Variance { root: bool },
    Deriv,
    Predict(ScalarColumn),
    Mad,
    Quantile(ScalarColumn),
    Smoothing { smoothing: ScalarColumn, trend: ScalarColumn },
}

/// Samples of one series, in time order, without stale markers.
pub(crate) struct Series<'a> {
    pub timestamps: &'a [i64],
    pub values: &'a [f64],
}

/// Below so many samples per window on average, looking at each is cheaper than an index over all of them.
const DIRECT_WINDOW: usize = 16;

pub(crate) fn run(kernel: &Kernel, series: &Series<'_>, frame: &Frame, windows: &Windows, out: &mut [f64]) {
    let Series { timestamps, values } = *series;
    let direct = windows.total() <= DIRECT_WINDOW * out.len();
    match kernel {
        Kernel::Extrapolate { counter, per_second } => {
            rate::extrapolated(series, frame, windows, *counter, *per_second, out);
        }
        Kernel::Instant { rate } => rate::instant(series, windows, *rate, out),
        Kernel::Sum => over_time::sums(values, windows, direct, out),
        Kernel::Avg => over_time::means(values, windows, direct, out),
        Kernel::Extreme { largest, time } => {
            Extremes { largest: *largest, last_of_equal: *time }.run(values, windows, direct, |step, at| {
                out[step] = if *time { timestamps[at] as f64 / 1000.0 } else { values[at] };
            });
        }
        Kernel::Count => each(windows, out, |from, to| (to - from) as f64),
        Kernel::Present => each(windows, out, |_, _| 1.0),
        Kernel::First => each(windows, out, |from, _| values[from]),
        Kernel::Last => each(windows, out, |_, to| values[to - 1]),
        Kernel::FirstTime => each(windows, out, |from, _| timestamps[from] as f64 / 1000.0),
        Kernel::LastTime => each(windows, out, |_, to| timestamps[to - 1] as f64 / 1000.0),
        Kernel::Changes => {
            let changed = |before: f64, now: f64| before != now && !(before.is_nan() && now.is_nan());
            over_time::count_pairs(values, windows, changed, out);
        }
        Kernel::Resets => over_time::count_pairs(values, windows, |before, now| now < before, out),
        Kernel::Variance { root } => each(windows, out, |from, to| {
            let variance = over_time::variance(&values[from..to]);
            if *root { variance.sqrt() } else { variance }
        }),
        Kernel::Deriv => {
            for (step, into) in out.iter_mut().enumerate() {
                let (from, to) = windows.get(step);
                if to - from >= 2 {
                    *into = regression::line(&timestamps[from..to], &values[from..to], timestamps[from]).slope;
                }
            }
        }
        Kernel::Predict(ahead) => {
            for (step, into) in out.iter_mut().enumerate() {
                let (from, to) = windows.get(step);
                if to - from >= 2 {
                    let now = frame.grid.time(step);
                    let line = regression::line(&timestamps[from..to], &values[from..to], now);
                    *into = line.slope * ahead.at(step) + line.intercept;
                }
            }
        }
        Kernel::Mad => {
            let mut sorted = Vec::new();
            each(windows, out, |from, to| quantile::mad(&values[from..to], &mut sorted));
        }
        Kernel::Quantile(of) => {
            let mut sorted = Vec::new();
            for (step, into) in out.iter_mut().enumerate() {
                let (from, to) = windows.get(step);
                if to > from {
                    sorted.clear();
                    sorted.extend_from_slice(&values[from..to]);
                    *into = quantile::quantile(of.at(step), &mut sorted);
                }
            }
        }
        Kernel::Smoothing { smoothing, trend } => {
            for (step, into) in out.iter_mut().enumerate() {
                let (from, to) = windows.get(step);
                if to - from >= 2 {
                    *into = regression::smoothed(&values[from..to], smoothing.at(step), trend.at(step));
                }
            }
        }
    }
}

/// Calls for each window that holds a sample.
fn each(windows: &Windows, out: &mut [f64], mut call: impl FnMut(usize, usize) -> f64) {
    for (step, into) in out.iter_mut().enumerate() {
        let (from, to) = windows.get(step);
        if to > from {
            *into = call(from, to);
        }
    }
}
