//! `deriv`, `predict_linear` and `double_exponential_smoothing`.

use super::super::kahan::KahanSum;

pub(super) struct Line {
    /// Per second.
    pub slope: f64,
    pub intercept: f64,
}

/// Least squares; the intercept is the value at the given time.
pub(super) fn line(timestamps: &[i64], values: &[f64], intercept_time: i64) -> Line {
    let first = values[0];
    if values.iter().skip(1).all(|value| *value == first) {
        return if first.is_infinite() {
            Line { slope: f64::NAN, intercept: f64::NAN }
        } else {
            Line { slope: 0.0, intercept: first }
        };
    }
    let (mut x_sum, mut y_sum) = (KahanSum::default(), KahanSum::default());
    let (mut xy_sum, mut xx_sum) = (KahanSum::default(), KahanSum::default());
    for (timestamp, y) in timestamps.iter().zip(values) {
        let x = (timestamp - intercept_time) as f64 / 1e3;
        x_sum.add(x);
        y_sum.add(*y);
        xy_sum.add(x * y);
        xx_sum.add(x * x);
    }
    let count = values.len() as f64;
    let (x_sum, y_sum) = (x_sum.total(), y_sum.total());
    let covariance = xy_sum.total() - x_sum * y_sum / count;
    let variance = xx_sum.total() - x_sum * x_sum / count;
    let slope = covariance / variance;
    Line { slope, intercept: y_sum / count - slope * x_sum / count }
}

/// Holt's linear method: <https://en.wikipedia.org/wiki/Exponential_smoothing>.
pub(super) fn smoothed(values: &[f64], smoothing: f64, trend_factor: f64) -> f64 {
    let (mut before, mut level) = (0.0, values[0]);
    let mut trend = values[1] - values[0];
    for (at, value) in values.iter().enumerate().skip(1) {
        if at > 1 {
            trend = trend_factor * (level - before) + (1.0 - trend_factor) * trend;
        }
        let next = smoothing * value + (1.0 - smoothing) * (level + trend);
        (before, level) = (level, next);
    }
    level
}
