//! `rate`, `increase`, `delta`, `irate`, `idelta`.

use super::super::windows::{Frame, Windows};
use super::Series;

/// Indices of samples below the one before them.
fn resets_before(values: &[f64]) -> Vec<u32> {
    (1..values.len()).filter(|at| values[*at] < values[at - 1]).map(|at| at as u32).collect()
}

/// Prometheus' extrapolation: to the ends of the range where samples lie close to them, else by half of the mean distance
/// between samples; a counter never below zero.
pub(super) fn extrapolated(
    series: &Series<'_>,
    frame: &Frame,
    windows: &Windows,
    counter: bool,
    per_second: bool,
    out: &mut [f64],
) {
    let Series { timestamps, values } = *series;
    // Most counters are never reset, so that this list is short, and each window looks only at its own part.
    let resets = if counter { resets_before(values) } else { Vec::new() };
    let (mut first_reset, mut next_reset) = (0, 0);
    let range_seconds = frame.range as f64 / 1000.0;
    for (step, into) in out.iter_mut().enumerate() {
        let (from, to) = windows.get(step);
        if to - from < 2 {
            continue;
        }
        let last = to - 1;
        let mut result = values[last] - values[from];
        while next_reset < resets.len() && resets[next_reset] as usize <= last {
            next_reset += 1;
        }
        while first_reset < next_reset && resets[first_reset] as usize <= from {
            first_reset += 1;
        }
        for reset in &resets[first_reset..next_reset] {
            result += values[*reset as usize - 1];
        }
        let mut to_start = (timestamps[from] - frame.start(step)) as f64 / 1000.0;
        let mut to_end = (frame.end(step) - timestamps[last]) as f64 / 1000.0;
        let sampled = (timestamps[last] - timestamps[from]) as f64 / 1000.0;
        let between = sampled / (last - from) as f64;
        let threshold = between * 1.1;
        if to_start >= threshold {
            to_start = between / 2.0;
        }
        if counter && result > 0.0 && values[from] >= 0.0 {
            let to_zero = sampled * (values[from] / result);
            if to_zero < to_start {
                to_start = to_zero;
            }
        }
        if to_end >= threshold {
            to_end = between / 2.0;
        }
        let mut factor = if sampled == 0.0 { 1.0 } else { (sampled + to_start + to_end) / sampled };
        if per_second {
            factor /= range_seconds;
        }
        *into = result * factor;
    }
}

/// From the last two samples only.
pub(super) fn instant(series: &Series<'_>, windows: &Windows, rate: bool, out: &mut [f64]) {
    let Series { timestamps, values } = *series;
    for (step, into) in out.iter_mut().enumerate() {
        let (from, to) = windows.get(step);
        if to - from < 2 {
            continue;
        }
        let (before, now) = (to - 2, to - 1);
        let elapsed = timestamps[now] - timestamps[before];
        if elapsed == 0 {
            continue;
        }
        let reset = rate && values[now] < values[before];
        let difference = if reset { values[now] } else { values[now] - values[before] };
        *into = if rate { difference / (elapsed as f64 / 1000.0) } else { difference };
    }
}
