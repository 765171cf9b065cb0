//! Per-channel coefficients laid out so that few channels are as fast as many.

use crate::host::Element;

/// Elements after which the channels repeat and a pass over memory starts over: a multiple of the
/// channels and, unless that is long, of the widest vectors, and at least [`SHORTEST`].
///
/// Loops over memory go by periods: with 1 or 10 channels they are as long as with 128, so
/// additions to a row of running sums do not wait for each other.
pub fn period(channels: usize) -> usize {
    const SHORTEST: usize = 128;
    const LONGEST: usize = 1024;
    const LANES: usize = 32;
    let aligned = channels * (LANES >> channels.trailing_zeros().min(LANES.trailing_zeros()));
    let base = if aligned <= LONGEST { aligned } else { channels };
    base * SHORTEST.div_ceil(base)
}

/// The coefficients repeated to a period.
pub fn repeat<T: Element>(coefficients: &[f64]) -> Vec<T> {
    let period = period(coefficients.len());
    coefficients.iter().cycle().take(period).map(|&v| T::of(v)).collect()
}

/// Sums over the repetitions within a period.
pub fn fold<T: Element>(period: &[T], sums: &mut [f64]) {
    for row in period.chunks_exact(sums.len()) {
        for (sum, v) in sums.iter_mut().zip(row) {
            *sum += v.wide();
        }
    }
}

/// Elements of a task: whole rows, about 128 KiB of f32, so that a second read comes from the
/// second-level cache.
pub fn chunk(channels: usize) -> usize {
    (crate::parallel::CHUNK * 2 / channels).max(32) * channels
}
