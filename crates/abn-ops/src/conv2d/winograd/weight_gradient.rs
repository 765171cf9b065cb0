//! The weight's gradient.

use std::ops::Range;

use rayon::prelude::*;

use super::super::Geometry;
use super::super::pack::Blocks;
use super::super::weight_gradient::{add, parts, share};
use super::product::product;
use super::transform::{Source, gradient_tile, input_tile, weight_adjoint};
use super::{GAP, PLACES, Tiling};
use crate::host::{Element, unwritten};
use crate::scratch::Scratch;
use crate::simd::Vector;
use crate::tile::{self, Kernel, Out, tile_shape, with_tile};

/// Tasks to aim for.
const TASKS: usize = 8;

/// How the sums are cut; depends on sizes alone.
struct Work<'a, T> {
    geo: &'a Geometry,
    tiling: Tiling,
    x: &'a [T],
    dy: &'a [T],
    /// Columns are the output channels of a group.
    blocks: Blocks,
    lanes: usize,
    /// Input channels of a group, and those with what fills up the last vector.
    channels: usize,
    row: usize,
    /// Tiles of a block.
    block: usize,
    /// Parts that the tiles' blocks and the column blocks are cut into.
    tile_parts: usize,
    column_parts: usize,
    /// Buffers `[tile part][group][block][place][channel][column of the block]`.
    sums: Out<T>,
    /// Elements of all groups' sums.
    len: usize,
}

pub fn weight_gradient<T: Element>(geo: &Geometry, x: &[T], dy: &[T]) -> Vec<T> {
    let shape = tile_shape::<T>();
    let tiling = Tiling::new(geo.n, (geo.h, geo.w), geo.padding);
    let (channels, go) = (geo.ci / geo.groups, geo.co / geo.groups);
    let blocks = Blocks::new(go, shape);
    let row = channels.next_multiple_of(shape.lanes);
    let block = tiling.block(PLACES * row * size_of::<T>(), TASKS.div_ceil(geo.groups));
    let len = geo.groups * PLACES * channels * blocks.padded();
    let tile_blocks = tiling.count().div_ceil(block);
    let (tile_parts, column_parts) =
        parts(TASKS, geo.groups, tile_blocks, blocks.count(), len, PLACES / 4 * x.len());
    let mut sums = Scratch::new(tile_parts * len);
    let work = Work {
        geo,
        tiling,
        x,
        dy,
        blocks,
        lanes: shape.lanes,
        channels,
        row,
        block,
        tile_parts,
        column_parts,
        sums: Out::new(&mut sums),
        len,
    };
    (0..tile_parts * geo.groups * column_parts).into_par_iter().for_each(|task| {
        // SAFETY: each task has another part of the tiles, group or part of the columns.
        unsafe { tile::run(&work, task) }
    });
    finish(&work, &sums)
}

impl<T> Work<'_, T> {
    /// Where a block's sums begin.
    fn sums_at(&self, part: usize, group: usize, b: usize) -> usize {
        let columns = group * self.blocks.padded() + self.blocks.start(b);
        part * self.len + PLACES * self.channels * columns
    }

    /// Elements of a block's sums.
    fn sums_len(&self, b: usize) -> usize {
        PLACES * self.channels * self.blocks.vectors(b) * self.lanes
    }
}

impl<T: Element> Kernel<T> for Work<'_, T> {
    #[inline(always)]
    unsafe fn run<V: Vector<Elem = T>, const MR: usize>(&self, task: usize) {
        let geo = self.geo;
        let (task, column_part) = (task / self.column_parts, task % self.column_parts);
        let (part, group) = (task / geo.groups, task % geo.groups);
        let column_blocks: Range<usize> =
            share(self.blocks.count(), self.column_parts, column_part);
        for b in column_blocks.clone() {
            // SAFETY: this block of this part is this task's.
            let sums = unsafe {
                let start = self.sums.at(self.sums_at(part, group, b));
                std::slice::from_raw_parts_mut(start, self.sums_len(b))
            };
            sums.fill(T::zero());
        }
        let input_step = self.block * self.row + GAP;
        let gradient_step = self.block * 2 * V::LANES + GAP;
        let mut input = Scratch::new(PLACES * input_step);
        let mut gradient = Scratch::new(PLACES * gradient_step);
        let x = Source {
            data: self.x[group * self.channels..].as_ptr(),
            pixel: geo.ci,
            channels: self.channels,
        };
        let all = self.tiling.count();
        for block in share(all.div_ceil(self.block), self.tile_parts, part) {
            let first = block * self.block;
            let tiles = self.block.min(all - first);
            for t in 0..tiles {
                let at = self.tiling.place(first + t);
                let to = input[t * self.row..].as_mut_ptr();
                // SAFETY: the tile is the tiling's, and the buffer has `block` rows for a place.
                unsafe { input_tile::<V>(&self.tiling, x, at, to, input_step) }
            }
            for b in column_blocks.clone() {
                let vectors = self.blocks.vectors(b);
                let lanes = vectors * V::LANES;
                let column = group * (geo.co / geo.groups) + self.blocks.start(b);
                let channels = self.blocks.width(b);
                let dy = Source { data: self.dy[column..].as_ptr(), pixel: geo.co, channels };
                for t in 0..tiles {
                    let at = self.tiling.place(first + t);
                    let to = gradient[t * lanes..].as_mut_ptr();
                    // SAFETY: as above.
                    unsafe {
                        with_tile!(
                            1,
                            1,
                            vectors,
                            gradient_tile::<V>(&self.tiling, dy, at, to, gradient_step)
                        );
                    }
                }
                let sums_at = self.sums_at(part, group, b);
                for p in 0..PLACES {
                    for c in (0..self.channels).step_by(MR) {
                        let rows = MR.min(self.channels - c);
                        let x = input[p * input_step + c..].as_ptr();
                        let w = gradient[p * gradient_step..].as_ptr();
                        let steps = [1, self.row];
                        // SAFETY: the sums are this task's; the buffers have `tiles` rows.
                        unsafe {
                            let to = self.sums.at(sums_at + (p * self.channels + c) * lanes);
                            with_tile!(
                                rows,
                                MR,
                                vectors,
                                product::<V>(x, steps, w, tiles, to, true)
                            );
                        }
                    }
                }
            }
        }
    }
}

/// Adds the parts' sums and brings them back to taps, in the order of the weight tensor.
fn finish<T: Element>(work: &Work<'_, T>, sums: &[T]) -> Vec<T> {
    let (geo, channels) = (work.geo, work.channels);
    let go = geo.co / geo.groups;
    // SAFETY: every weight is some block's, so every element is written.
    let mut dw = unsafe { unwritten::<T>(geo.co * channels * 9) };
    let groups = dw.par_chunks_mut(go * channels * 9).enumerate();
    let blocks = groups.flat_map(|(group, dw)| {
        let blocks = dw.par_chunks_mut(2 * work.lanes * channels * 9).enumerate();
        blocks.map(move |(b, dw)| (group, b, dw))
    });
    blocks.for_each(|(group, b, dw)| {
        let lanes = work.blocks.vectors(b) * work.lanes;
        let part = |part| &sums[work.sums_at(part, group, b)..][..work.sums_len(b)];
        let mut total = part(0).to_vec();
        (1..work.tile_parts).for_each(|k| add(&mut total, part(k)));
        for (o, dw) in dw.chunks_exact_mut(channels * 9).enumerate() {
            for (c, dw) in dw.chunks_exact_mut(9).enumerate() {
                let place = |p: usize| total[(p * channels + c) * lanes + o];
                dw.copy_from_slice(&weight_adjoint(std::array::from_fn(place)));
            }
        }
    });
    dw
}
