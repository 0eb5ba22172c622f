//! `*_over_time`, `changes` and `resets`.

use std::collections::VecDeque;

use super::super::kahan::{KahanSum, Mean, PrefixSums};
use super::super::windows::Windows;
use super::each;

pub(super) fn sums(values: &[f64], windows: &Windows, direct: bool, out: &mut [f64]) {
    let prefix = if direct { None } else { PrefixSums::new(values) };
    each(windows, out, |from, to| {
        if let Some(sum) = prefix.as_ref().and_then(|prefix| prefix.between(from, to)) {
            return sum;
        }
        let mut sum = KahanSum::default();
        values[from..to].iter().for_each(|value| sum.add(*value));
        if sum.sum.is_infinite() { sum.sum } else { sum.total() }
    });
}

pub(super) fn means(values: &[f64], windows: &Windows, direct: bool, out: &mut [f64]) {
    let prefix = if direct { None } else { PrefixSums::new(values) };
    each(windows, out, |from, to| {
        if let Some(sum) = prefix.as_ref().and_then(|prefix| prefix.between(from, to)) {
            return sum / (to - from) as f64;
        }
        let mut mean = Mean::starting(values[from]);
        values[from + 1..to].iter().for_each(|value| mean.add(*value));
        mean.mean()
    });
}

/// Welford's variance, with compensated sums.
pub(super) fn variance(values: &[f64]) -> f64 {
    let (mut mean, mut squares) = (KahanSum::default(), KahanSum::default());
    let mut count = 0.0;
    for value in values {
        count += 1.0;
        let delta = value - mean.total();
        mean.add(delta / count);
        squares.add(delta * (value - mean.total()));
    }
    squares.total() / count
}

/// Counts neighbours within each window for which a condition holds.
pub(super) fn count_pairs(values: &[f64], windows: &Windows, holds: impl Fn(f64, f64) -> bool, out: &mut [f64]) {
    // before[i]: pairs (k-1, k) with k <= i.
    let mut before: Vec<u32> = Vec::with_capacity(values.len());
    let mut count = 0;
    for (at, value) in values.iter().enumerate() {
        if at > 0 && holds(values[at - 1], *value) {
            count += 1;
        }
        before.push(count);
    }
    each(windows, out, |from, to| f64::from(before[to - 1] - before[from]));
}

/// The smallest or largest value of each window. NaN counts only where there is nothing else.
pub(crate) struct Extremes {
    pub largest: bool,
    /// Of equal values, report the last rather than the first.
    pub last_of_equal: bool,
}

impl Extremes {
    fn better(&self, new: f64, old: f64) -> bool {
        old.is_nan() || if self.largest { new > old } else { new < old } || (self.last_of_equal && new == old)
    }

    /// Calls with the index of each window's extreme.
    pub fn run(&self, values: &[f64], windows: &Windows, direct: bool, mut found: impl FnMut(usize, usize)) {
        let steps = windows.from.len();
        if direct {
            for step in 0..steps {
                let (from, to) = windows.get(step);
                if to > from {
                    let best = (from + 1..to).fold(
                        from,
                        |best, at| {
                            if self.better(values[at], values[best]) { at } else { best }
                        },
                    );
                    found(step, best);
                }
            }
            return;
        }
        // Indices whose values get worse and worse: the front is the extreme of the window.
        let mut queue: VecDeque<usize> = VecDeque::new();
        let mut next = 0;
        for step in 0..steps {
            let (from, to) = windows.get(step);
            while next < to {
                // What is worse than the new value can never be the extreme again.
                while queue.back().is_some_and(|last| self.better(values[next], values[*last])) {
                    queue.pop_back();
                }
                queue.push_back(next);
                next += 1;
            }
            while queue.front().is_some_and(|first| *first < from) {
                queue.pop_front();
            }
            if to > from
                && let Some(first) = queue.front()
            {
                found(step, *first);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_queue_and_the_direct_search_agree() {
        let values: Vec<f64> =
            (0..300u32).map(|at| if at % 37 == 0 { f64::NAN } else { f64::from((at * 7919) % 23) }).collect();
        let from: Vec<u32> = (0..300).map(|at: u32| at.saturating_sub(40)).collect();
        let windows = Windows { from, to: (0..300).map(|at| at + 1).collect() };
        for largest in [false, true] {
            for last_of_equal in [false, true] {
                let extremes = Extremes { largest, last_of_equal };
                let (mut queue, mut direct) = (Vec::new(), Vec::new());
                extremes.run(&values, &windows, false, |step, at| queue.push((step, values[at].to_bits())));
                extremes.run(&values, &windows, true, |step, at| direct.push((step, values[at].to_bits())));
                assert_eq!(queue, direct);
            }
        }
    }
}
