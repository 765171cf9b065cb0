//! Whether a difference between two variants is more than chance.

use statrs::distribution::{ContinuousCDF, StudentsT};

/// Two-sided p-value of the paired t-test on two measurements of the same seeds; `None` with fewer
/// than two pairs, or where the differences do not vary at all.
pub fn p_value(ours: &[f64], theirs: &[f64]) -> Option<f64> {
    let differences: Vec<f64> = ours.iter().zip(theirs).map(|(a, b)| a - b).collect();
    let deviation = standard_deviation(&differences).filter(|&s| s > 0.0)?;
    let n = differences.len() as f64;
    let t = mean(&differences) / (deviation / n.sqrt());
    let student = StudentsT::new(0.0, 1.0, n - 1.0).ok()?;
    Some(2.0 * student.cdf(-t.abs()))
}

/// Mean; NaN of nothing.
pub fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

/// Standard deviation of a sample (n − 1 in the denominator); `None` with fewer than two values.
pub fn standard_deviation(values: &[f64]) -> Option<f64> {
    let mean = mean(values);
    let squares: f64 = values.iter().map(|v| (v - mean).powi(2)).sum();
    (values.len() > 1).then(|| (squares / (values.len() - 1) as f64).sqrt())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Expected: `scipy.stats.ttest_rel(a, b).pvalue`.
    #[test]
    fn p_values_are_scipys() {
        let a = [24.1, 23.8, 24.5, 24.0, 23.9];
        let b = [22.9, 23.1, 23.0, 23.4, 22.8];
        assert!((p_value(&a, &b).unwrap() - P_FIVE).abs() < 1e-9, "{:?}", p_value(&a, &b));
        assert!((p_value(&a[..2], &b[..2]).unwrap() - P_TWO).abs() < 1e-9);
    }

    const P_FIVE: f64 = 0.0035204966719229284;
    const P_TWO: f64 = 0.16381736484967577;

    #[test]
    fn too_little_gives_none() {
        assert_eq!(p_value(&[1.0], &[2.0]), None);
        assert_eq!(p_value(&[1.0, 2.0], &[2.0, 3.0]), None, "the same difference twice");
        assert_eq!(standard_deviation(&[3.0]), None);
    }
}
