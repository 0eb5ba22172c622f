//! Sums that keep the bits which plain addition loses.

/// Kahan's sum with Neumaier's improvement, step by step as Prometheus does it.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct KahanSum {
    pub sum: f64,
    pub compensation: f64,
}

impl KahanSum {
    pub fn starting(sum: f64) -> Self {
        KahanSum { sum, compensation: 0.0 }
    }

    pub fn add(&mut self, value: f64) {
        let total = self.sum + value;
        if total.is_infinite() {
            self.compensation = 0.0;
        } else if self.sum.abs() >= value.abs() {
            self.compensation += (self.sum - total) + value;
        } else {
            self.compensation += (value - total) + self.sum;
        }
        self.sum = total;
    }

    pub fn total(self) -> f64 {
        self.sum + self.compensation
    }
}

/// The mean: the sum over the count, or, once the sum would overflow, an incremental mean.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mean {
    sum: KahanSum,
    count: f64,
    incremental: bool,
}

impl Mean {
    pub fn starting(value: f64) -> Self {
        Mean { sum: KahanSum::starting(value), count: 1.0, incremental: false }
    }

    pub fn add(&mut self, value: f64) {
        self.count += 1.0;
        if !self.incremental {
            let mut next = self.sum;
            next.add(value);
            if !next.sum.is_infinite() {
                self.sum = next;
                return;
            }
            self.incremental = true;
            self.sum.sum /= self.count - 1.0;
            self.sum.compensation /= self.count - 1.0;
        }
        let weight = (self.count - 1.0) / self.count;
        self.sum.sum *= weight;
        self.sum.compensation *= weight;
        self.sum.add(value / self.count);
    }

    pub fn mean(self) -> f64 {
        if self.incremental { self.sum.total() } else { self.sum.sum / self.count + self.sum.compensation / self.count }
    }
}

/// Prefix sums in double-double arithmetic: a window's sum is a difference of two of them, exact to about 100 bits.
pub(crate) struct PrefixSums {
    high: Vec<f64>,
    low: Vec<f64>,
}

impl PrefixSums {
    pub fn new(values: &[f64]) -> Self {
        let mut sums =
            PrefixSums { high: Vec::with_capacity(values.len() + 1), low: Vec::with_capacity(values.len() + 1) };
        let (mut high, mut low) = (0.0f64, 0.0f64);
        sums.high.push(high);
        sums.low.push(low);
        for value in values {
            let (sum, error) = two_sum(high, *value);
            (high, low) = two_sum(sum, low + error);
            sums.high.push(high);
            sums.low.push(low);
        }
        sums
    }

    /// The sum of `values[from..to]`.
    pub fn between(&self, from: usize, to: usize) -> f64 {
        let (sum, error) = two_sum(self.high[to], -self.high[from]);
        sum + (error + (self.low[to] - self.low[from]))
    }

    /// Whether the values are close enough in size for prefix sums to be as exact as a direct sum.
    pub fn suit(values: &[f64]) -> bool {
        let (mut smallest, mut largest) = (f64::INFINITY, 0.0f64);
        for value in values {
            let size = value.abs();
            if !size.is_finite() {
                return false;
            }
            largest = largest.max(size);
            if size > 0.0 {
                smallest = smallest.min(size);
            }
        }
        // 2^40: 53 of the 106 bits remain for the result.
        largest <= smallest * 1.0e12 && largest < 1.0e280 || largest == 0.0
    }
}

/// Knuth's exact sum: the rounded sum and what rounding took away.
fn two_sum(left: f64, right: f64) -> (f64, f64) {
    let sum = left + right;
    let virtual_right = sum - left;
    let error = (left - (sum - virtual_right)) + (right - virtual_right);
    (sum, error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_values_survive_large_ones() {
        let mut sum = KahanSum::default();
        [2.0, 8.0, 1e100, -1e100].into_iter().for_each(|value| sum.add(value));
        assert_eq!(sum.total(), 10.0);
    }

    #[test]
    fn mean_of_values_near_the_largest_does_not_overflow() {
        let mut mean = Mean::starting(f64::MAX);
        (0..3).for_each(|_| mean.add(f64::MAX));
        assert_eq!(mean.mean(), f64::MAX);
    }

    #[test]
    fn prefix_sums_equal_direct_sums() {
        let values: Vec<f64> = (0..1000).map(|at| f64::from(at) * 0.1 - 3.3).collect();
        assert!(PrefixSums::suit(&values));
        let sums = PrefixSums::new(&values);
        for (from, to) in [(0, 1000), (17, 18), (500, 900)] {
            let mut direct = KahanSum::default();
            values[from..to].iter().for_each(|value| direct.add(*value));
            assert!((sums.between(from, to) - direct.total()).abs() <= direct.total().abs() * 1e-15);
        }
        assert!(!PrefixSums::suit(&[1.0, f64::NAN]));
        assert!(!PrefixSums::suit(&[1.0, 1e100]));
    }
}
