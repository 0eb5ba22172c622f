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
    /// A smaller sum has lost too many bits in the difference: 2^-46 of the largest prefix.
    smallest: f64,
}

impl PrefixSums {
    /// None when a value is not finite, or so large that sums overflow.
    pub fn new(values: &[f64]) -> Option<Self> {
        const LARGEST: f64 = 1e280;
        let mut sums = PrefixSums {
            high: Vec::with_capacity(values.len() + 1),
            low: Vec::with_capacity(values.len() + 1),
            smallest: 0.0,
        };
        let (mut high, mut low) = (0.0f64, 0.0f64);
        let mut largest = 0.0f64;
        sums.high.push(high);
        sums.low.push(low);
        for value in values {
            let (sum, error) = two_sum(high, *value);
            (high, low) = two_sum(sum, low + error);
            let size = high.abs();
            if size.is_nan() || size > LARGEST {
                return None;
            }
            largest = largest.max(size);
            sums.high.push(high);
            sums.low.push(low);
        }
        sums.smallest = largest * (0.5f64).powi(46);
        Some(sums)
    }

    /// The sum of `values[from..to]`; none when a direct sum would be more exact.
    pub fn between(&self, from: usize, to: usize) -> Option<f64> {
        let (sum, error) = two_sum(self.high[to], -self.high[from]);
        let total = sum + (error + (self.low[to] - self.low[from]));
        (total.abs() >= self.smallest).then_some(total)
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
        assert!((mean.mean() / f64::MAX - 1.0).abs() < 1e-15);
    }

    #[test]
    fn prefix_sums_equal_direct_sums() {
        let values: Vec<f64> = (0..1000).map(|at| f64::from(at) * 0.1 - 3.3).collect();
        let sums = PrefixSums::new(&values).unwrap();
        for (from, to) in [(0, 1000), (17, 18), (500, 900)] {
            let mut direct = KahanSum::default();
            values[from..to].iter().for_each(|value| direct.add(*value));
            assert!((sums.between(from, to).unwrap() - direct.total()).abs() <= direct.total().abs() * 1e-15);
        }
    }

    #[test]
    fn prefix_sums_refuse_what_they_would_get_wrong() {
        assert!(PrefixSums::new(&[1.0, f64::NAN]).is_none());
        assert!(PrefixSums::new(&[1.0, f64::INFINITY]).is_none());
        let sums = PrefixSums::new(&[1e30, 1e-30, 1.0]).unwrap();
        assert_eq!((sums.between(1, 2), sums.between(0, 2)), (None, Some(1e30)));
    }
}
