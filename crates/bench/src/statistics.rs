//! Percentiles of runs, and what many runs say together.

/// One run's median and 99th percentile, in the unit of its figure.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sample {
    /// Median.
    pub p50: f64,
    /// 99th percentile.
    pub p99: f64,
}

impl Sample {
    /// From single durations; `unit` is how many nanoseconds the figure's unit has. `None` without any.
    pub fn of_nanoseconds(mut all: Vec<u64>, unit: f64) -> Option<Self> {
        all.sort_unstable();
        let at = |share| Some(*nearest_rank(&all, share)? as f64 / unit);
        Some(Self { p50: at(0.5)?, p99: at(0.99)? })
    }
}

/// What the runs of one case say together.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Summary {
    /// Median of the medians: one disturbed run does not move it.
    pub p50: f64,
    /// Median of the 99th percentiles.
    pub p99: f64,
    /// Lowest median.
    pub low: f64,
    /// Highest median.
    pub high: f64,
}

impl Summary {
    /// `None` without any run.
    pub fn of(runs: &[Sample]) -> Option<Self> {
        let sorted = |value: fn(&Sample) -> f64| {
            let mut values: Vec<f64> = runs.iter().map(value).collect();
            values.sort_by(f64::total_cmp);
            values
        };
        let (medians, tails) = (sorted(|run| run.p50), sorted(|run| run.p99));
        Some(Self {
            p50: *nearest_rank(&medians, 0.5)?,
            p99: *nearest_rank(&tails, 0.5)?,
            low: *medians.first()?,
            high: *medians.last()?,
        })
    }

    /// When each run is one number: percentiles over the runs themselves.
    pub fn of_single_values(values: impl IntoIterator<Item = f64>, more_is_better: bool) -> Option<Self> {
        let mut values: Vec<f64> = values.into_iter().collect();
        values.sort_by(f64::total_cmp);
        let tail = if more_is_better { 0.01 } else { 0.99 };
        Some(Self {
            p50: *nearest_rank(&values, 0.5)?,
            p99: *nearest_rank(&values, tail)?,
            low: *values.first()?,
            high: *values.last()?,
        })
    }
}

/// The smallest value that at least `share` of all values do not exceed.
fn nearest_rank<T>(sorted: &[T], share: f64) -> Option<&T> {
    let rank = (share * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.max(1) - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_values_that_were_measured() {
        let all = (1..=200).rev().map(|micros| micros * 1_000).collect();
        assert_eq!(Sample::of_nanoseconds(all, 1_000.0), Some(Sample { p50: 100.0, p99: 198.0 }));
        assert_eq!(Sample::of_nanoseconds(vec![7], 1.0), Some(Sample { p50: 7.0, p99: 7.0 }));
        assert_eq!(Sample::of_nanoseconds(vec![], 1.0), None);
    }

    #[test]
    fn one_disturbed_run_shows_in_the_spread_and_not_in_the_figure() {
        let run = |p50| Sample { p50, p99: p50 + 1.0 };
        let summary = Summary::of(&[run(10.0), run(90.0), run(11.0)]).unwrap();
        assert_eq!(summary, Summary { p50: 11.0, p99: 12.0, low: 10.0, high: 90.0 });
    }

    #[test]
    fn the_tail_of_a_throughput_is_its_slow_end() {
        let summary = Summary::of_single_values([3.0, 1.0, 2.0], true).unwrap();
        assert_eq!((summary.p50, summary.p99), (2.0, 1.0));
    }
}
