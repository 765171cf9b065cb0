//! Forward pass and input gradient on the CPU.

use super::correlate::{Correlation, Table};
use super::finish::Finish;
use super::lower::Lowering;
use super::pack::{Packed, WeightMap};
use super::{Geometry, winograd};
use crate::host::{Element, unwritten};
use crate::tile::{Out, tile_shape};

pub use super::weight_gradient::{bias_gradient, weight_gradient};

/// Pixels that are treated as one image where no pixel meets its neighbours.
const POINTWISE_PIXELS: usize = 480; // divides into tiles of 4, 6 and 8

/// Whether images do not matter: every output pixel is made of the input pixel at its place.
fn pointwise(geo: &Geometry) -> bool {
    geo.kh * geo.kw == 1 && geo.stride == 1 && geo.padding == 0
}

/// Weights as the forward pass reads them.
pub enum ForwardWeights<T> {
    Direct(Packed<T>),
    Winograd(winograd::Weights<T>),
}

impl<T: Element> ForwardWeights<T> {
    pub fn new(geo: &Geometry, weight: &[T]) -> Self {
        if winograd::fits(geo) {
            return Self::Winograd(winograd::forward_weights(geo, weight));
        }
        let map = Lowering::new(geo).weight_map(geo);
        Self::Direct(Packed::new(&map, weight, tile_shape::<T>()))
    }
}

/// The name of the order: the same for all convolutions that read a weight alike, but for groups.
pub fn forward_order(geo: &Geometry) -> &'static str {
    match (winograd::fits(geo), Lowering::new(geo).rows) {
        (true, _) => "winograd",
        (_, true) => "rows",
        (_, false) => "taps",
    }
}

pub fn forward<T: Element>(
    geo: &Geometry,
    x: &[T],
    weights: &ForwardWeights<T>,
    finish: &Finish<'_, T>,
) -> Vec<T> {
    let weights = match weights {
        ForwardWeights::Direct(weights) => weights,
        ForwardWeights::Winograd(weights) => return winograd::forward(geo, x, weights, finish),
    };
    let shape = tile_shape::<T>();
    let pixels = geo.n * geo.oh * geo.ow;
    let lowering = Lowering::new(geo);
    let data = lowering.data(geo, x);
    // SAFETY: the table has every output pixel, so `run` writes every element.
    let mut y = unsafe { unwritten(pixels * geo.co) };
    let table = if pointwise(geo) {
        let pixels = (0..pixels.min(POINTWISE_PIXELS)).collect::<Vec<_>>();
        Table::new(shape, 1, &pixels, |p| p, |p, _| Some(p))
    } else {
        let pixels = grid(0..geo.oh, 0..geo.ow, 1);
        let target = |(i, j)| i * geo.ow + j;
        Table::new(shape, lowering.taps.len(), &pixels, target, |(i, j), tap| {
            let tap = lowering.taps[tap];
            let row = (i * geo.stride + tap.row).checked_sub(lowering.padding)?;
            let column = (j * geo.stride + tap.column).checked_sub(lowering.padding)?;
            (row < lowering.h && column < lowering.w).then_some(row * lowering.w + column)
        })
    };
    let per_image = table.pixels();
    let correlation = Correlation {
        table: &table,
        weights,
        finish,
        src: &data,
        src_image: if pointwise(geo) { per_image } else { lowering.h * lowering.w },
        src_pixel: lowering.pixel,
        dst: Out::new(&mut y),
        dst_image: per_image,
        dst_pixel: geo.co,
        pixels,
        groups: geo.groups,
        columns: geo.co / geo.groups,
    };
    // SAFETY: positions are those of `x` and `y` as `Geometry` checked them.
    unsafe { correlation.run() };
    y
}

/// Every `step`-th row and column.
fn grid(
    rows: std::ops::Range<usize>,
    columns: std::ops::Range<usize>,
    step: usize,
) -> Vec<(usize, usize)> {
    rows.step_by(step)
        .flat_map(|row| columns.clone().step_by(step).map(move |column| (row, column)))
        .collect()
}

/// The gradient is a correlation of `dy` with the weights whose channels have changed places.
/// Input pixels that have the same remainder by the stride meet the same taps, so each of these
/// stride² phases is a correlation of its own, without a zero multiplied.
pub fn input_gradient<T: Element>(geo: &Geometry, weight: &[T], dy: &[T]) -> Vec<T> {
    if winograd::fits(geo) {
        return winograd::input_gradient(geo, weight, dy);
    }
    let shape = tile_shape::<T>();
    let pixels = geo.n * geo.h * geo.w;
    // SAFETY: the phases together have every input pixel, so `run` writes every element.
    let mut dx = unsafe { unwritten(pixels * geo.ci) };
    let target = Out::new(&mut dx);
    for row in 0..geo.stride.min(geo.h) {
        for column in 0..geo.stride.min(geo.w) {
            // Taps of an output pixel at input position `row − shift`.
            let meets = |start: usize, shift: usize| {
                (start + geo.padding + geo.stride * shift - shift).is_multiple_of(geo.stride)
            };
            let taps = (0..geo.kh * geo.kw)
                .map(|t| (t / geo.kw * geo.dilation, t % geo.kw * geo.dilation, t))
                .filter(|&(u, v, _)| meets(row, u) && meets(column, v))
                .collect::<Vec<_>>();
            let (gi, go) = (geo.ci / geo.groups, geo.co / geo.groups);
            let area = geo.kh * geo.kw;
            let map = WeightMap {
                groups: geo.groups,
                group_step: go * gi * area,
                columns: gi,
                column_step: area,
                taps: taps.iter().map(|&(_, _, t)| t).collect(),
                channels: (0..go).map(|c| c * gi * area).collect(),
                channels_apart: true,
            };
            let weights = Packed::new(&map, weight, shape);
            let table = if pointwise(geo) {
                let pixels = (0..pixels.min(POINTWISE_PIXELS)).collect::<Vec<_>>();
                Table::new(shape, 1, &pixels, |p| p, |p, _| Some(p))
            } else {
                let pixels = grid(row..geo.h, column..geo.w, geo.stride);
                let target = |(i, j)| i * geo.w + j;
                Table::new(shape, taps.len(), &pixels, target, |(i, j), tap| {
                    let (u, v, _) = taps[tap];
                    let i = (i + geo.padding).checked_sub(u)? / geo.stride;
                    let j = (j + geo.padding).checked_sub(v)? / geo.stride;
                    (i < geo.oh && j < geo.ow).then_some(i * geo.ow + j)
                })
            };
            let per_image = table.pixels();
            let (src_image, dst_image, pixels) = if pointwise(geo) {
                (per_image, per_image, pixels)
            } else {
                (geo.oh * geo.ow, geo.h * geo.w, geo.n * per_image)
            };
            let correlation = Correlation {
                table: &table,
                weights: &weights,
                finish: &Finish::bias(None),
                src: dy,
                src_image,
                src_pixel: geo.co,
                dst: target,
                dst_image,
                dst_pixel: geo.ci,
                pixels,
                groups: geo.groups,
                columns: gi,
            };
            // SAFETY: positions are those of `dy` and `dx` as `Geometry` checked them.
            unsafe { correlation.run() };
        }
    }
    dx
}
