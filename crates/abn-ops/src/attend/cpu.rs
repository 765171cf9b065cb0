//! CPU kernels of the attention mechanism.

use candle_core::{Shape, Tensor};
use rayon::prelude::*;

use crate::Result;
use crate::host::{Element, tensor, unwritten, update};
use crate::parallel::CHUNK;
use crate::simd::multiversion;

multiversion! {
    fn forward_rows<T>(y: &mut [T], g: &[T], map: &[T], offset: T) {
        let channels = y.len() / map.len();
        let rows = y.chunks_exact_mut(channels).zip(g.chunks_exact(channels));
        for ((y, g), &m) in rows.zip(map) {
            let weight = offset + m;
            for (y, &g) in y.iter_mut().zip(g) {
                *y = g * weight;
            }
        }
    }
}

multiversion! {
    /// `grad` becomes the feature map's gradient; `d_map` may be empty.
    fn backward_rows<T>(grad: &mut [T], d_map: &mut [T], g: &[T], map: &[T], offset: T) {
        const LANES: usize = 16;
        let channels = grad.len() / map.len();
        if !d_map.is_empty() {
            let rows = grad.chunks_exact(channels).zip(g.chunks_exact(channels));
            for ((grad, g), d) in rows.zip(d_map) {
                let mut lanes = [T::zero(); LANES];
                let (mut grad, mut g) = (grad.chunks_exact(LANES), g.chunks_exact(LANES));
                for (grad, g) in grad.by_ref().zip(g.by_ref()) {
                    for i in 0..LANES {
                        lanes[i] += grad[i] * g[i];
                    }
                }
                let mut sum: T = lanes.into_iter().sum();
                for (&grad, &g) in grad.remainder().iter().zip(g.remainder()) {
                    sum += grad * g;
                }
                *d = sum;
            }
        }
        for (grad, &m) in grad.chunks_exact_mut(channels).zip(map) {
            let weight = offset + m;
            for grad in grad {
                *grad *= weight;
            }
        }
    }
}

/// Pixels a task handles.
fn rows(channels: usize) -> usize {
    (CHUNK / channels).max(1)
}

pub fn forward<T: Element>(g: &[T], map: &[T], offset: f64, shape: &Shape) -> Result<Tensor> {
    // SAFETY: each chunk is written whole.
    let mut y = unsafe { unwritten::<T>(g.len()) };
    if !y.is_empty() {
        let channels = g.len() / map.len();
        let rows = rows(channels);
        (y.par_chunks_mut(rows * channels), g.par_chunks(rows * channels), map.par_chunks(rows))
            .into_par_iter()
            .for_each(|(y, g, map)| forward_rows(y, g, map, T::of(offset)));
    }
    tensor(y, shape.clone())
}

/// Turns `grad` into the feature map's gradient and gives the map's, if its shape is given.
pub fn backward<T: Element>(
    grad: &Tensor,
    g: &[T],
    map: &[T],
    offset: f64,
    map_shape: Option<&Shape>,
) -> Result<Option<Tensor>> {
    let wanted = if map_shape.is_some() { map.len() } else { 0 };
    // SAFETY: each chunk is written whole.
    let mut d_map = unsafe { unwritten::<T>(wanted) };
    update::<T>("attend", grad, |grad| {
        if grad.is_empty() {
            return;
        }
        let channels = g.len() / map.len();
        let rows = rows(channels);
        let tasks = (
            grad.par_chunks_mut(rows * channels),
            g.par_chunks(rows * channels),
            map.par_chunks(rows),
        );
        if wanted == 0 {
            tasks.into_par_iter().for_each(|(grad, g, map)| {
                backward_rows(grad, &mut [], g, map, T::of(offset));
            });
        } else {
            tasks.into_par_iter().zip(d_map.par_chunks_mut(rows)).for_each(
                |((grad, g, map), d_map)| backward_rows(grad, d_map, g, map, T::of(offset)),
            );
        }
    })?;
    map_shape.map(|shape| tensor(d_map, shape.clone())).transpose()
}
