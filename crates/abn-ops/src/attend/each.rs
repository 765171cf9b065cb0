//! CPU kernels of one feature map weighted by several maps.

use std::ops::Range;

use rayon::prelude::*;

use crate::host::{Element, unwritten};
use crate::parallel::CHUNK;
use crate::simd::multiversion;

/// The sizes.
#[derive(Clone)]
pub struct Each {
    /// N·H·W
    pub pixels: usize,
    /// C
    pub channels: usize,
    /// T
    pub count: usize,
    /// Which of the T maps.
    pub chosen: Range<usize>,
    pub residual: bool,
}

impl Each {
    /// Pixels a task handles.
    fn rows(&self) -> usize {
        (CHUNK / self.channels.max(1)).max(1)
    }

    fn offset<T: Element>(&self) -> T {
        T::of(if self.residual { 1.0 } else { 0.0 })
    }

    /// (k, pixels, C)
    pub fn forward<T: Element>(&self, g: &[T], maps: &[T]) -> Vec<T> {
        let (channels, rows, offset) = (self.channels, self.rows(), self.offset::<T>());
        // SAFETY: each chunk of each part is written whole.
        let mut y = unsafe { unwritten::<T>(self.chosen.len() * g.len()) };
        if y.is_empty() {
            return y;
        }
        y.par_chunks_mut(g.len()).zip(self.chosen.clone()).for_each(|(y, t)| {
            y.par_chunks_mut(rows * channels)
                .zip(g.par_chunks(rows * channels))
                .zip(maps.par_chunks(rows * self.count))
                .for_each(|((y, g), maps)| {
                    let pixels = y.chunks_exact_mut(channels).zip(g.chunks_exact(channels));
                    for ((y, g), maps) in pixels.zip(maps.chunks_exact(self.count)) {
                        scale(y, g, offset + maps[t]);
                    }
                });
        });
        y
    }

    /// The gradients of the feature map and of all T maps, 0 for those that were not chosen.
    pub fn backward<T: Element>(&self, dy: &[T], g: &[T], maps: &[T]) -> (Vec<T>, Vec<T>) {
        let (channels, rows, offset) = (self.channels, self.rows(), self.offset::<T>());
        let mut d_g = vec![T::zero(); g.len()];
        let mut d_maps = vec![T::zero(); maps.len()];
        if g.is_empty() {
            return (d_g, d_maps);
        }
        (d_g.par_chunks_mut(rows * channels), d_maps.par_chunks_mut(rows * self.count))
            .into_par_iter()
            .enumerate()
            .for_each(|(i, (d_g, d_maps))| {
                let pixels =
                    d_g.chunks_exact_mut(channels).zip(d_maps.chunks_exact_mut(self.count));
                for (pixel, (d_g, d_maps)) in (i * rows..).zip(pixels) {
                    let g = &g[pixel * channels..][..channels];
                    let maps = &maps[pixel * self.count..][..self.count];
                    for (part, t) in self.chosen.clone().enumerate() {
                        let dy = &dy[(part * self.pixels + pixel) * channels..][..channels];
                        d_maps[t] = add_scaled_and_dot(d_g, dy, g, offset + maps[t]);
                    }
                }
            });
        (d_g, d_maps)
    }
}

multiversion! {
    fn scale<T>(y: &mut [T], g: &[T], weight: T) {
        for (y, &g) in y.iter_mut().zip(g) {
            *y = g * weight;
        }
    }
}

multiversion! {
    /// Adds `dy · weight` to `sum`; gives `dy · g`, summed in sixteen lanes.
    fn add_scaled_and_dot<T>(sum: &mut [T], dy: &[T], g: &[T], weight: T) -> T {
        const LANES: usize = 16;
        let mut lanes = [T::zero(); LANES];
        let whole = sum.len() / LANES * LANES;
        let (g, dy) = (&g[..sum.len()], &dy[..sum.len()]);
        for start in (0..whole).step_by(LANES) {
            for i in 0..LANES {
                lanes[i] += dy[start + i] * g[start + i];
                sum[start + i] += dy[start + i] * weight;
            }
        }
        let mut dot: T = lanes.into_iter().sum();
        for i in whole..sum.len() {
            dot += dy[i] * g[i];
            sum[i] += dy[i] * weight;
        }
        dot
    }
}
