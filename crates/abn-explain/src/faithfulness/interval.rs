//! A mean and how far it can be trusted.

/// The 97.5 % point of the standard normal distribution.
const Z: f64 = 1.959_963_984_540_054;

/// A mean over images with its 95 % confidence interval.
///
/// The interval is the normal one, mean ± 1.96 · s / √n, s the deviation of the sample: it tells
/// what other images would give, not what another training would.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Mean {
    /// The mean; 0 of nothing.
    pub mean: f64,
    /// Half of the interval's width; 0 for fewer than two values.
    pub half_width: f64,
    /// Number of values.
    pub count: usize,
}

impl Mean {
    /// Of these values.
    pub fn of(values: &[f64]) -> Self {
        let count = values.len();
        let mean = values.iter().sum::<f64>() / count.max(1) as f64;
        let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
        let half_width = match count {
            0 | 1 => 0.0,
            _ => Z * (squares / (count - 1) as f64 / count as f64).sqrt(),
        };
        Self { mean, half_width, count }
    }

    /// Of a share: how many are true. The interval is Wilson's, lower and upper end, which holds near
    /// 0 and 1, where the normal one does not.
    pub fn share(hits: &[bool]) -> (Self, (f64, f64)) {
        let values: Vec<_> = hits.iter().map(|&hit| f64::from(u8::from(hit))).collect();
        let mean = Self::of(&values);
        let n = mean.count.max(1) as f64;
        let centre = (mean.mean + Z * Z / (2.0 * n)) / (1.0 + Z * Z / n);
        let spread = mean.mean * (1.0 - mean.mean) / n + Z * Z / (4.0 * n * n);
        let half_width = Z * spread.sqrt() / (1.0 + Z * Z / n);
        (mean, ((centre - half_width).max(0.0), (centre + half_width).min(1.0)))
    }
}
