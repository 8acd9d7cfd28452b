//! A histogram as plain numbers, for metrics.
//!
//! The machine counts in these, so it must neither share them nor read a clock
//! for them; whoever shows them makes a copy.

/// Counts values by the first bound that they do not exceed.
#[derive(Debug, Clone, PartialEq)]
pub struct Histogram {
    bounds: &'static [f64],
    /// One for each bound, and one for what exceeds them all.
    counts: Vec<u64>,
    sum: f64,
}

impl Histogram {
    /// An empty one. `bounds` grow; their unit is that of the values.
    pub fn new(bounds: &'static [f64]) -> Self {
        Self {
            bounds,
            counts: vec![0; bounds.len() + 1],
            sum: 0.0,
        }
    }

    /// Counts one value. What is no number is passed over.
    pub fn observe(&mut self, value: f64) {
        if value.is_nan() {
            return;
        }
        let place = self.bounds.partition_point(|bound| *bound < value);
        if let Some(count) = self.counts.get_mut(place) {
            *count += 1;
            self.sum += value;
        }
    }

    /// How many values were counted.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// The sum of the values.
    pub fn sum(&self) -> f64 {
        self.sum
    }

    /// How many values fell under each bound and above the one before. The last
    /// bound is infinite.
    pub fn buckets(&self) -> Vec<(f64, u64)> {
        let bounds = self.bounds.iter().copied().chain([f64::INFINITY]);
        bounds.zip(self.counts.iter().copied()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_falls_under_the_first_bound_that_it_does_not_exceed() {
        let mut histogram = Histogram::new(&[1.0, 2.0]);
        for value in [0.0, 1.0, 1.5, 2.0, 2.5, 1e9, f64::NAN] {
            histogram.observe(value);
        }
        assert_eq!(
            histogram.buckets(),
            [(1.0, 2), (2.0, 2), (f64::INFINITY, 2)]
        );
        assert_eq!(histogram.count(), 6);
        assert_eq!(histogram.sum(), 7.0 + 1e9);
    }
}
