//! Forward pass and input gradient.

use rayon::prelude::*;

use super::super::Geometry;
use super::super::finish::Finish;
use super::super::pack::{Blocks, WeightMap};
use super::product::product;
use super::transform::{Source, Target, input_tile, output_tile, weight};
use super::{GAP, PLACES, Tiling};
use crate::host::{Element, unwritten};
use crate::scratch::Scratch;
use crate::simd::{Vector, multiversion};
use crate::tile::{self, Kernel, Out, tile_shape, with_tile};

/// Tasks to aim for.
const TASKS: usize = 8;

pub fn forward_weights<T: Element>(geo: &Geometry, weight: &[T]) -> Weights<T> {
    let (gi, go) = (geo.ci / geo.groups, geo.co / geo.groups);
    let map = WeightMap {
        groups: geo.groups,
        group_step: go * gi * 9,
        columns: go,
        column_step: gi * 9,
        taps: (0..9).collect(),
        channels: (0..gi).map(|c| c * 9).collect(),
        channels_apart: false,
    };
    Weights::new(&map, weight)
}

pub fn forward<T: Element>(
    geo: &Geometry,
    x: &[T],
    weights: &Weights<T>,
    finish: &Finish<'_, T>,
) -> Vec<T> {
    correlate(Tiling::new(geo.n, (geo.h, geo.w), geo.padding), x, weights, finish)
}

pub fn input_gradient<T: Element>(geo: &Geometry, weight: &[T], dy: &[T]) -> Vec<T> {
    let (gi, go) = (geo.ci / geo.groups, geo.co / geo.groups);
    let map = WeightMap {
        groups: geo.groups,
        group_step: go * gi * 9,
        columns: gi,
        column_step: 9,
        taps: (0..9).rev().collect(),
        channels: (0..go).map(|c| c * gi * 9).collect(),
        channels_apart: true,
    };
    let tiling = Tiling::new(geo.n, (geo.oh, geo.ow), 2 - geo.padding);
    correlate(tiling, dy, &Weights::new(&map, weight), &Finish::bias(None))
}

fn correlate<T: Element>(
    tiling: Tiling,
    src: &[T],
    weights: &Weights<T>,
    finish: &Finish<'_, T>,
) -> Vec<T> {
    let Weights { groups, columns, channels, .. } = *weights;
    let row = channels.next_multiple_of(weights.lanes);
    let pixel = groups * columns;
    // SAFETY: the tiles cover every result, so every element is written.
    let mut dst = unsafe { unwritten(tiling.images * tiling.oh * tiling.ow * pixel) };
    let block = tiling.block(PLACES * row * size_of::<T>(), TASKS.div_ceil(groups));
    let work = Work {
        tiling,
        weights,
        finish,
        src,
        src_pixel: groups * channels,
        channels,
        row,
        dst: Out::new(&mut dst),
        dst_pixel: pixel,
        columns,
        block,
    };
    (0..groups * work.blocks()).into_par_iter().for_each(|task| {
        // SAFETY: each task has another group or block of tiles; sizes are the tiling's.
        unsafe { tile::run(&work, task) }
    });
    dst
}

/// Transformed weights `[group][block][place][channel][column of the block]`, zeros in columns that
/// do not exist.
pub struct Weights<T> {
    data: Scratch<T>,
    blocks: Blocks,
    groups: usize,
    /// Source and destination channels of a group.
    channels: usize,
    columns: usize,
    lanes: usize,
}

impl<T: Element> Weights<T> {
    fn new(map: &WeightMap, weight: &[T]) -> Self {
        let shape = tile_shape::<T>();
        let blocks = Blocks::new(map.columns, shape);
        let (channels, lanes) = (map.channels.len(), shape.lanes);
        let mut data = Scratch::new(map.groups * PLACES * channels * blocks.padded());
        let groups = data.par_chunks_mut(PLACES * channels * blocks.padded()).enumerate();
        groups.for_each(|(group, data)| {
            let parts = data.par_chunks_mut(PLACES * channels * 2 * lanes).enumerate();
            parts.for_each(|(b, part)| {
                let from = &weight[group * map.group_step + blocks.start(b) * map.column_step..];
                let columns = [blocks.width(b), blocks.vectors(b) * lanes, map.column_step];
                block_weights(map, from, columns, part);
            });
        });
        Self { data, blocks, groups: map.groups, channels, columns: map.columns, lanes }
    }

    #[inline(always)]
    fn place(&self, group: usize, b: usize, place: usize) -> *const T {
        let width = self.blocks.vectors(b) * self.lanes;
        let columns = group * self.blocks.padded() + self.blocks.start(b);
        self.data[self.channels * (columns * PLACES + place * width)..].as_ptr()
    }
}

/// Columns that are transformed together.
const TOGETHER: usize = 16;

multiversion! {
    /// One block, for `[columns that exist, columns, elements from one to the next]`.
    fn block_weights<T>(map: &WeightMap, from: &[T], columns: [usize; 3], to: &mut [T]) {
        let [exist, width, step] = columns;
        let channels = map.channels.len();
        for (c, &channel) in map.channels.iter().enumerate() {
            for start in (0..width).step_by(TOGETHER) {
                let mut taps = [[T::zero(); TOGETHER]; 9];
                for k in 0..TOGETHER.min(exist.saturating_sub(start)) {
                    let from = &from[channel + (start + k) * step..][..9];
                    for (tap, &at) in taps.iter_mut().zip(&map.taps) {
                        tap[k] = from[at];
                    }
                }
                let count = TOGETHER.min(width - start);
                for (p, place) in weight(&taps).iter().enumerate() {
                    let to = &mut to[(p * channels + c) * width + start..][..count];
                    to.copy_from_slice(&place[..count]);
                }
            }
        }
    }
}

struct Work<'a, T> {
    tiling: Tiling,
    weights: &'a Weights<T>,
    finish: &'a Finish<'a, T>,
    src: &'a [T],
    /// Elements of a pixel, of all groups; channels of a group, and those with what fills up the
    /// last vector.
    src_pixel: usize,
    channels: usize,
    row: usize,
    dst: Out<T>,
    dst_pixel: usize,
    /// Destination channels of a group.
    columns: usize,
    /// Tiles of a task.
    block: usize,
}

impl<T> Work<'_, T> {
    fn blocks(&self) -> usize {
        self.tiling.count().div_ceil(self.block)
    }
}

impl<T: Element> Kernel<T> for Work<'_, T> {
    #[inline(always)]
    unsafe fn run<V: Vector<Elem = T>, const MR: usize>(&self, task: usize) {
        let (group, block) = (task / self.blocks(), task % self.blocks());
        let first = block * self.block;
        let tiles = self.block.min(self.tiling.count() - first);
        let weights = self.weights;
        let input_step = self.block * self.row + GAP;
        let output_step = self.block * 2 * V::LANES + GAP;
        let mut input = Scratch::new(PLACES * input_step);
        let mut output = Scratch::new(PLACES * output_step);
        let src = Source {
            data: self.src[group * self.channels..].as_ptr(),
            pixel: self.src_pixel,
            channels: self.channels,
        };
        for t in 0..tiles {
            let at = self.tiling.place(first + t);
            let to = input[t * self.row..].as_mut_ptr();
            // SAFETY: the tile is the tiling's, and the buffer has `block` rows for each place.
            unsafe { input_tile::<V>(&self.tiling, src, at, to, input_step) }
        }
        for b in 0..weights.blocks.count() {
            let (vectors, start) = (weights.blocks.vectors(b), weights.blocks.start(b));
            let lanes = vectors * V::LANES;
            for p in 0..PLACES {
                let w = weights.place(group, b, p);
                for t in (0..tiles).step_by(MR) {
                    let rows = MR.min(tiles - t);
                    let x = input[p * input_step + t * self.row..].as_ptr();
                    let to = output[p * output_step + t * lanes..].as_mut_ptr();
                    let (steps, depth) = ([self.row, 1], self.channels);
                    // SAFETY: the buffers have `rows` rows here, the weights `depth`.
                    unsafe {
                        with_tile!(rows, MR, vectors, product::<V>(x, steps, w, depth, to, false));
                    }
                }
            }
            let column = group * self.columns + start;
            let channels = weights.blocks.width(b);
            let to = Target { data: self.dst, channel: column, pixel: self.dst_pixel, channels };
            for t in 0..tiles {
                let at = self.tiling.place(first + t);
                let from = output[t * lanes..].as_ptr();
                // SAFETY: no other task has this tile's results of these channels.
                unsafe {
                    with_tile!(
                        1,
                        1,
                        vectors,
                        output_tile::<V>(&self.tiling, from, output_step, self.finish, to, at)
                    );
                }
            }
        }
    }
}
