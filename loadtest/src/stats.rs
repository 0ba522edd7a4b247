//! Of many measurements, the one that counts.

use std::time::Duration;

/// The smallest of `samples` that `percent` of them do not exceed (the nearest rank). `None` of none.
pub(crate) fn percentile(samples: &[f64], percent: f64) -> Option<f64> {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    let rank = (percent / 100.0 * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.clamp(1, sorted.len().max(1)) - 1).copied()
}

/// The 50th percentile.
pub(crate) fn median(samples: &[f64]) -> Option<f64> {
    percentile(samples, 50.0)
}

/// What the second number grows by for each unit of the first: a line of least squares. `None` of fewer than two.
pub(crate) fn slope(points: &[(f64, f64)]) -> Option<f64> {
    let count = points.len() as f64;
    let mean = |of: fn(&(f64, f64)) -> f64| points.iter().map(of).sum::<f64>() / count;
    let (mean_x, mean_y) = (mean(|point| point.0), mean(|point| point.1));
    let spread: f64 = points.iter().map(|(x, _)| (x - mean_x).powi(2)).sum();
    let together: f64 = points.iter().map(|(x, y)| (x - mean_x) * (y - mean_y)).sum();
    (points.len() > 1 && spread > 0.0).then(|| together / spread)
}

/// `duration` in milliseconds.
pub(crate) fn ms(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1_000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percentile_is_one_of_the_samples_by_its_rank() {
        let hundred: Vec<f64> = (1..=100).rev().map(f64::from).collect();
        let of = |percent| percentile(&hundred, percent);
        assert_eq!((of(50.0), of(95.0), of(99.0)), (Some(50.0), Some(95.0), Some(99.0)));
        assert_eq!((of(0.0), of(100.0)), (Some(1.0), Some(100.0)));
    }

    #[test]
    fn few_samples_have_percentiles_too_and_none_has_none() {
        assert_eq!(percentile(&[3.0, 1.0, 2.0], 99.0), Some(3.0));
        assert_eq!(median(&[3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(&[4.0, 1.0]), Some(1.0));
        assert_eq!(median(&[]), None);
    }

    #[test]
    fn a_slope_is_that_of_the_line_through_the_points() {
        assert_eq!(slope(&[(1.0, 10.0), (2.0, 12.0), (3.0, 14.0)]), Some(2.0));
        assert_eq!(slope(&[(1.0, 3.0), (3.0, 3.0)]), Some(0.0));
        assert_eq!((slope(&[(1.0, 1.0)]), slope(&[])), (None, None));
    }

    proptest::proptest! {
        #[test]
        fn no_percentile_is_below_a_lower_one(samples in proptest::collection::vec(-1e6..1e6_f64, 1..50), a in 0.0..100.0_f64, b in 0.0..100.0_f64) {
            let (low, high) = (a.min(b), a.max(b));
            proptest::prop_assert!(percentile(&samples, low) <= percentile(&samples, high));
        }
    }
}
