//! Quantiles of values.

use std::cmp::Ordering;

/// Ascending, NaN first.
pub(crate) fn nan_first(left: f64, right: f64) -> Ordering {
    match (left.is_nan(), right.is_nan()) {
        (true, true) => Ordering::Equal,
        (true, false) => Ordering::Less,
        (false, true) => Ordering::Greater,
        (false, false) => left.partial_cmp(&right).unwrap_or(Ordering::Equal),
    }
}

/// Interpolated linearly between the two nearest values; sorts the values. Outside of 0..=1 the answer is infinite.
pub(crate) fn quantile(of: f64, values: &mut [f64]) -> f64 {
    if values.is_empty() || of.is_nan() {
        return f64::NAN;
    }
    if of < 0.0 {
        return f64::NEG_INFINITY;
    }
    if of > 1.0 {
        return f64::INFINITY;
    }
    values.sort_unstable_by(|left, right| nan_first(*left, *right));
    let last = values.len() - 1;
    let rank = of * last as f64;
    let lower = rank.floor() as usize;
    let upper = (lower + 1).min(last);
    let weight = rank - rank.floor();
    values[lower] * (1.0 - weight) + values[upper] * weight
}

/// The median of the distances from the median; NaN when any value is.
pub(crate) fn mad(values: &[f64], sorted: &mut Vec<f64>) -> f64 {
    if values.iter().any(|value| value.is_nan()) {
        return f64::NAN;
    }
    sorted.clear();
    sorted.extend_from_slice(values);
    let median = quantile(0.5, sorted);
    sorted.iter_mut().for_each(|value| *value = (*value - median).abs());
    quantile(0.5, sorted)
}
