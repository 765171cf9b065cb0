//! Weights in the order the kernels read them.

use rayon::prelude::*;

use crate::host::Element;
use crate::scratch::Scratch;
use crate::tile::TileShape;

/// Which element of the weight tensor multiplies what.
pub struct WeightMap {
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
    /// Whether neighbouring channels are further apart in memory than neighbouring columns.
    pub channels_apart: bool,
}

/// Destination channels in blocks as wide as a tile: all of two vectors, but the last may be one.
#[derive(Clone, Copy)]
pub struct Blocks {
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
pub struct Packed<T> {
    data: Scratch<T>,
    pub blocks: Blocks,
    pub taps: usize,
    pub channels: usize,
    /// Channels of a chunk (the last may have fewer).
    pub chunk: usize,
}

/// Bytes of a block's chunk of weights: it stays in the L1 cache while pixels pass by.
const CHUNK_BYTES: usize = 18 << 10;

impl<T: Element> Packed<T> {
    pub fn new(map: &WeightMap, weight: &[T], shape: TileShape) -> Self {
        let blocks = Blocks::new(map.columns, shape);
        let (taps, channels) = (map.taps.len(), map.channels.len());
        let row_bytes = 2 * shape.lanes * size_of::<T>();
        let chunks = (taps * channels * row_bytes).div_ceil(CHUNK_BYTES).clamp(1, channels);
        let chunk = channels.div_ceil(chunks);
        let group_len = taps * channels * blocks.padded();
        let mut data = Scratch::new(map.groups * group_len);
        let mut parts = Vec::with_capacity(map.groups * blocks.count());
        let mut rest = &mut *data;
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

/// Channels whose weights are read together where they are neighbours in memory.
const TOGETHER: usize = 16;

fn pack_block<T: Element>(
    map: &WeightMap,
    weight: &[T],
    columns: usize,
    width: usize,
    chunk: usize,
    out: &mut [T],
) {
    let taps = map.taps.len();
    // A column's weights lie together in the forward pass, a channel's in the backward pass: read
    // what lies together at once, for the columns' distance may be a bad one for the cache.
    let together = if map.channels_apart { 1 } else { TOGETHER };
    for start in (0..map.channels.len()).step_by(chunk) {
        let channels = chunk.min(map.channels.len() - start);
        let out = &mut out[start * taps * width..][..channels * taps * width];
        for first in (0..channels).step_by(together) {
            let some = first..channels.min(first + together);
            for column in 0..columns {
                let from = &weight[column * map.column_step..];
                for c in some.clone() {
                    let from = &from[map.channels[start + c]..];
                    for (t, &tap) in map.taps.iter().enumerate() {
                        out[(t * channels + c) * width + column] = from[tap];
                    }
                }
            }
        }
        if columns < width {
            out.chunks_exact_mut(width).for_each(|row| row[columns..].fill(T::zero()));
        }
    }
}
