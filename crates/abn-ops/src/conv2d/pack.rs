//! Weights in the order the kernels read them.

use rayon::prelude::*;

use super::isa::TileShape;
use crate::host::{Element, unwritten};

/// Which element of the weight tensor multiplies what.
pub(super) struct WeightMap {
    /// Groups, and elements from one group's weights to the next's.
    pub groups: usize,
    pub group_step: usize,
    /// Destination channels of a group, and elements from one to the next.
    pub columns: usize,
    pub column_step: usize,
    /// Position of each tap.
    pub taps: Vec<usize>,
    /// Position of each source channel of a tap.
    pub channels: Vec<usize>,
}

/// Destination channels in blocks as wide as a tile: all of two vectors, but the last may be one.
#[derive(Clone, Copy)]
pub(super) struct Blocks {
    columns: usize,
    lanes: usize,
}

impl Blocks {
    pub fn new(columns: usize, shape: TileShape) -> Self {
        Self { columns, lanes: shape.lanes }
    }

    pub fn count(self) -> usize {
        self.columns.div_ceil(2 * self.lanes)
    }

    /// First column of block `b`.
    pub fn start(self, b: usize) -> usize {
        2 * self.lanes * b
    }

    /// Columns of block `b` that exist.
    pub fn width(self, b: usize) -> usize {
        (self.columns - self.start(b)).min(2 * self.lanes)
    }

    /// Vectors of block `b`.
    pub fn vectors(self, b: usize) -> usize {
        if self.width(b) <= self.lanes { 1 } else { 2 }
    }

    /// Columns of all blocks, those that fill up the last included.
    pub fn padded(self) -> usize {
        self.columns.next_multiple_of(self.lanes)
    }
}

/// Packed weights, `[group][block][chunk][tap][channel of the chunk][column of the block]`, zeros
/// in columns that do not exist.
pub(super) struct Packed<T> {
    data: Vec<T>,
    pub blocks: Blocks,
    pub taps: usize,
    pub channels: usize,
    /// Channels of a chunk (the last may have fewer).
    pub chunk: usize,
}

/// Bytes of a block's chunk of weights: with the pixels that pass by, it stays in the L2 cache.
const CHUNK_BYTES: usize = 256 << 10;

impl<T: Element> Packed<T> {
    pub fn new(map: &WeightMap, weight: &[T], shape: TileShape) -> Self {
        let blocks = Blocks::new(map.columns, shape);
        let (taps, channels) = (map.taps.len(), map.channels.len());
        let row_bytes = 2 * shape.lanes * size_of::<T>();
        let chunks = (taps * channels * row_bytes).div_ceil(CHUNK_BYTES).clamp(1, channels);
        let chunk = channels.div_ceil(chunks);
        let group_len = taps * channels * blocks.padded();
        // SAFETY: `pack_block` writes every element of its part.
        let mut data = unsafe { unwritten::<T>(map.groups * group_len) };
        let mut parts = Vec::with_capacity(map.groups * blocks.count());
        let mut rest = data.as_mut_slice();
        for group in 0..map.groups {
            for b in 0..blocks.count() {
                let width = blocks.vectors(b) * shape.lanes;
                let (part, after) = rest.split_at_mut(taps * channels * width);
                rest = after;
                parts.push((group, b, width, part));
            }
        }
        let small = (1 << 14) / (taps * channels * 2 * shape.lanes + 1);
        parts.into_par_iter().with_min_len(small + 1).for_each(|(group, b, width, part)| {
            let from = group * map.group_step + blocks.start(b) * map.column_step;
            pack_block(map, &weight[from..], blocks.width(b), width, chunk, part);
        });
        Self { data, blocks, taps, channels, chunk }
    }

    /// The weights of a block's chunk that starts at channel `start`.
    #[inline(always)]
    pub fn block(&self, group: usize, b: usize, start: usize) -> *const T {
        let row = self.taps * self.channels;
        let width = self.blocks.vectors(b) * self.blocks.lanes;
        let at = row * (group * self.blocks.padded() + self.blocks.start(b));
        self.data[at + start * self.taps * width..].as_ptr()
    }
}

fn pack_block<T: Element>(
    map: &WeightMap,
    weight: &[T],
    columns: usize,
    width: usize,
    chunk: usize,
    out: &mut [T],
) {
    let taps = map.taps.len();
    for (c, &channel) in map.channels.iter().enumerate() {
        let (start, inside) = (c / chunk * chunk, c % chunk);
        let channels = chunk.min(map.channels.len() - start);
        for (t, &tap) in map.taps.iter().enumerate() {
            let at = (start * taps + t * channels + inside) * width;
            let (row, padding) = out[at..at + width].split_at_mut(columns);
            let from = &weight[channel + tap..];
            for (j, out) in row.iter_mut().enumerate() {
                *out = from[j * map.column_step];
            }
            padding.fill(T::zero());
        }
    }
}
