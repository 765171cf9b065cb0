//! Mean and variance of each channel.

use rayon::prelude::*;

use super::pattern::{chunk, fold, period, repeat};
use super::{BatchNorm, OP, shared, values};
use crate::Result;
use crate::across::Across;
use crate::host::{Element, update};
use crate::simd::multiversion;

/// Mean and biased variance of each channel.
pub struct Moments {
    pub mean: Vec<f64>,
    pub var: Vec<f64>,
    /// Values per channel.
    pub count: usize,
}

impl Moments {
    /// Of a batch (…, C), in one pass over memory.
    ///
    /// Each chunk gives its own mean and sum of squares around it, in two passes over the cache;
    /// the chunks are merged in their order in f64 (Chan, Golub and LeVeque 1983). So the result
    /// is accurate for means far from zero, and independent of the number of threads.
    pub fn of_batch<T: Element>(x: &[T], channels: usize) -> Self {
        let chunk = chunk(channels);
        let count = x.len() / channels;
        let mut parts = vec![0.0; x.len().div_ceil(chunk) * 2 * channels];
        if x.len() <= chunk {
            chunk_moments(x, channels, &mut parts);
        } else {
            parts
                .par_chunks_mut(2 * channels)
                .zip(x.par_chunks(chunk))
                .for_each(|(part, x)| chunk_moments(x, channels, part));
        }
        let rows = |i: usize| (x.len() - i * chunk).min(chunk) as f64 / channels as f64;
        let (mut mean, mut var) = (vec![0.0; channels], vec![0.0; channels]);
        for (i, part) in parts.chunks_exact(2 * channels).enumerate() {
            let weight = rows(i) / count as f64;
            for (mean, part) in mean.iter_mut().zip(part) {
                *mean += weight * part;
            }
        }
        for (i, part) in parts.chunks_exact(2 * channels).enumerate() {
            let weight = rows(i) / count as f64;
            let (means, squares) = part.split_at(channels);
            for c in 0..channels {
                let offset = means[c] - mean[c];
                var[c] += squares[c] / count as f64 + weight * offset * offset;
            }
        }
        Self { mean, var, count }
    }

    /// Of whole batches, of each of which this process has the moments of a part: everybody's
    /// counts, sums and sums of squares, added up in f64.
    pub fn of_all(parts: &[Self], across: &dyn Across) -> Result<Vec<Self>> {
        let share = if across.counts() { 1.0 } else { 0.0 };
        let mut sums = Vec::new();
        for Self { mean, var, count } in parts {
            let count = share * *count as f64;
            sums.push(count);
            sums.extend(mean.iter().map(|mean| count * mean));
            sums.extend(mean.iter().zip(var).map(|(mean, var)| count * (var + mean * mean)));
        }
        let sums = shared::sum(sums, across)?;
        let channels = parts.first().map_or(0, |part| part.mean.len());
        let whole = |sums: &[f64]| {
            let (count, (means, squares)) = (sums[0], sums[1..].split_at(channels));
            let mean: Vec<f64> = means.iter().map(|sum| sum / count).collect();
            let square = |(square, mean): (&f64, &f64)| (square / count - mean * mean).max(0.0);
            let var = squares.iter().zip(&mean).map(square).collect();
            Self { mean, var, count: count as usize }
        };
        Ok(sums.chunks_exact(1 + 2 * channels).map(whole).collect())
    }

    /// The running ones.
    pub fn running<T: Element>(bn: &BatchNorm) -> Result<Self> {
        let (mean, var) = (values::<T>(bn.running_mean)?, values::<T>(bn.running_var)?);
        Ok(Self { mean, var, count: 1 })
    }

    /// Moves the running statistics towards these.
    pub fn update_running<T: Element>(&self, bn: &BatchNorm) -> Result<()> {
        let unbiased = self.count as f64 / (self.count as f64 - 1.0);
        let blend = |running: &mut [T], batch: &[f64], factor: f64| {
            for (r, b) in running.iter_mut().zip(batch) {
                *r = T::of((1.0 - bn.momentum) * r.wide() + bn.momentum * factor * b);
            }
        };
        update::<T>(OP, bn.running_mean, |running| blend(running, &self.mean, 1.0))?;
        update::<T>(OP, bn.running_var, |running| blend(running, &self.var, unbiased))
    }
}

/// A chunk's means, then its sums of squares around them.
fn chunk_moments<T: Element>(x: &[T], channels: usize, part: &mut [f64]) {
    let period = period(channels);
    let rows = (x.len() / channels) as f64;
    let (means, squares) = part.split_at_mut(channels);
    let mut lanes = vec![T::zero(); 2 * period];
    sum(x, &mut lanes[..period]);
    fold(&lanes[..period], means);
    means.iter_mut().for_each(|mean| *mean /= rows);
    // What rounding the means to `T` leaves out is small and known: the sum of the deviations.
    let shift = repeat::<T>(means);
    lanes.fill(T::zero());
    let (deviations, square_lanes) = lanes.split_at_mut(period);
    sum_deviations(x, &shift, deviations, square_lanes);
    fold(square_lanes, squares);
    let mut sums = vec![0.0; channels];
    fold(deviations, &mut sums);
    for c in 0..channels {
        means[c] = shift[c].wide() + sums[c] / rows;
        squares[c] -= sums[c] * sums[c] / rows;
    }
}

multiversion! {
    fn sum<T>(x: &[T], sums: &mut [T]) {
        for row in x.chunks(sums.len()) {
            for (sum, &x) in sums.iter_mut().zip(row) {
                *sum += x;
            }
        }
    }
}

multiversion! {
    fn sum_deviations<T>(x: &[T], shift: &[T], deviations: &mut [T], squares: &mut [T]) {
        for row in x.chunks(shift.len()) {
            let lanes = deviations.iter_mut().zip(squares.iter_mut()).zip(shift);
            for (((deviation, square), &shift), &x) in lanes.zip(row) {
                let d = x - shift;
                *deviation += d;
                *square += d * d;
            }
        }
    }
}
