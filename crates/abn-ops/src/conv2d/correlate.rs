//! The kernel of the forward pass and of the input's gradient.
//!
//! Both are sums over taps and channels, `dst[p] = Σ_t Σ_c src[pixel(p, t), c] · weight[t, c]`,
//! where a table says which source pixel tap `t` of destination pixel `p` meets. A tile is a few
//! destination pixels by a block of destination channels; its sums stay in registers, while for
//! each tap and channel one element of each pixel is broadcast and multiplied with the block's
//! weights. The table makes tiles independent of rows and borders: padding is a row of zeros that
//! is shared by all pixels.

use std::ops::Range;

use rayon::prelude::*;

use super::finish::Finish;
use super::pack::Packed;
use crate::host::Element;
use crate::scratch::Scratch;
use crate::simd::Vector;
use crate::tile::{self, Kernel, Out, TileShape, get, put, with_tile};

/// Which pixels meet: the same for each image of a batch.
pub(super) struct Table {
    /// Number of the source pixel in its image, `[tile][tap][row of the tile]`; -1: padding.
    source: Vec<i32>,
    /// Number of each destination pixel in its image.
    target: Vec<u32>,
    taps: usize,
    rows: usize,
}

impl Table {
    /// `source(pixel, tap)` gives the pixel that the tap of the pixel meets, if not padding.
    pub fn new<P: Copy>(
        shape: TileShape,
        taps: usize,
        pixels: &[P],
        target: impl Fn(P) -> usize,
        source: impl Fn(P, usize) -> Option<usize>,
    ) -> Self {
        let mut table = Vec::with_capacity(pixels.len().next_multiple_of(shape.rows) * taps);
        for tile in pixels.chunks(shape.rows) {
            for tap in 0..taps {
                table.extend(tile.iter().map(|&p| source(p, tap).map_or(-1, |at| at as i32)));
                table.resize(table.len() + shape.rows - tile.len(), -1);
            }
        }
        let target = pixels.iter().map(|&p| target(p) as u32).collect();
        Self { source: table, target, taps, rows: shape.rows }
    }

    /// Destination pixels of an image.
    pub fn pixels(&self) -> usize {
        self.target.len()
    }

    fn tiles(&self) -> usize {
        self.target.len().div_ceil(self.rows)
    }

    /// Numbers of the source pixels that some tiles meet, and of those between them.
    fn span(&self, tiles: Range<usize>) -> Range<usize> {
        let step = self.taps * self.rows;
        let met = self.source[tiles.start * step..tiles.end * step].iter().filter(|&&at| at >= 0);
        let (first, last) =
            met.fold((i32::MAX, -1), |(first, last), &at| (first.min(at), last.max(at)));
        (first.min(last + 1) as usize)..(last + 1) as usize
    }
}

/// One correlation over a batch.
pub(super) struct Correlation<'a, T> {
    pub table: &'a Table,
    pub weights: &'a Packed<T>,
    pub finish: &'a Finish<'a, T>,
    pub src: &'a [T],
    /// Pixels of an image.
    pub src_image: usize,
    /// Elements of a pixel, of all groups.
    pub src_pixel: usize,
    pub dst: Out<T>,
    pub dst_image: usize,
    pub dst_pixel: usize,
    /// Destination pixels of the whole batch; the last image may have fewer than the table.
    pub pixels: usize,
    pub groups: usize,
    /// Destination channels of a group.
    pub columns: usize,
}

/// How a correlation is cut into tasks. Any cut gives the same bytes: each destination element is
/// one chain of sums.
struct Cut<'a, T> {
    work: &'a Correlation<'a, T>,
    zeros: Vec<T>,
    /// Whether a task copies its group's channels of the pixels it meets first.
    gather: bool,
    /// Images of a task, and tasks that make the batch.
    images: usize,
    per_batch: usize,
    /// Tiles of a task, and tasks that make an image.
    tiles: usize,
    per_image: usize,
    /// Blocks of a task, and tasks that make a group.
    blocks: usize,
    per_group: usize,
}

/// Bytes of source pixels a task goes through for each block of weights: they stay in the L2 cache.
const SOURCE_BYTES: usize = 192 << 10;
/// Bytes between pixels from which on a group's channels are brought together.
const GATHER_STEP: usize = 1 << 10;
/// Multiply-adds below which a task is not worth another thread's attention.
const SMALL_TASK: usize = 1 << 20;
/// Tasks to aim for.
const TASKS: usize = 16;

impl<'a, T: Element> Cut<'a, T> {
    fn new(work: &'a Correlation<'a, T>) -> Self {
        let (table, weights) = (work.table, work.weights);
        let all_images = work.pixels.div_ceil(table.target.len());
        let (all_tiles, all_blocks) = (table.tiles(), weights.blocks.count());
        let pixel_bytes = weights.channels * size_of::<T>();
        // A group's slices of wide pixels share few of the cache's sets, unless they are brought
        // together.
        let gather =
            work.groups > 1 && weights.taps > 1 && work.src_pixel * size_of::<T>() >= GATHER_STEP;
        // Parts of an image if it is large, several images if they are small.
        let wanted = TASKS.div_ceil(work.groups);
        let image_bytes = work.src_image * pixel_bytes;
        let enough = all_tiles.div_ceil(wanted.div_ceil(all_images)).max(2);
        let fitting = (all_tiles * SOURCE_BYTES / image_bytes).max(2);
        let tiles = fitting.min(enough).min(all_tiles);
        let per_image = all_tiles.div_ceil(tiles);
        let images = (SOURCE_BYTES / image_bytes).min(all_images / wanted).max(1);
        let per_batch = all_images.div_ceil(images);
        let blocks = all_blocks.div_ceil(wanted.div_ceil(per_batch * per_image));
        let per_group = all_blocks.div_ceil(blocks);
        let zeros = vec![T::zero(); weights.channels];
        Self { work, zeros, gather, images, per_batch, tiles, per_image, blocks, per_group }
    }
}

impl<T: Element> Correlation<'_, T> {
    /// Writes every destination pixel of the table, in every image.
    ///
    /// # Safety
    /// The table's positions and all sizes fit `src` and `dst`, and no pixel is its target twice.
    pub unsafe fn run(&self) {
        let weights = self.weights;
        let cut = Cut::new(self);
        let tasks = self.groups * cut.per_group * cut.per_batch * cut.per_image;
        let pixels = cut.images * cut.tiles * self.table.rows;
        let size = pixels * weights.taps * weights.channels * self.columns / cut.per_group;
        (0..tasks).into_par_iter().with_min_len(SMALL_TASK.div_ceil(size + 1)).for_each(|task| {
            // SAFETY: each task has another group, range of blocks, of images or of tiles.
            unsafe { tile::run(&cut, task) }
        });
    }
}

impl<T: Element> Kernel<T> for Cut<'_, T> {
    #[inline(always)]
    unsafe fn run<V: Vector<Elem = T>, const MR: usize>(&self, task: usize) {
        let work = self.work;
        let (table, weights) = (work.table, work.weights);
        // The group first: tasks that follow each other share weights.
        let (task, range) = (task / self.per_image, task % self.per_image);
        let (task, batch) = (task / self.per_batch, task % self.per_batch);
        let (group, part) = (task / self.per_group, task % self.per_group);
        let per_image = table.target.len();
        let first = batch * self.images;
        let images = first..work.pixels.div_ceil(per_image).min(first + self.images);
        let tiles = range * self.tiles..table.tiles().min((range + 1) * self.tiles);
        let from = &work.src[first * work.src_image * work.src_pixel + group * weights.channels..];
        let mut copy;
        let (src, src_image, src_pixel) = if self.gather {
            let span = table.span(tiles.clone());
            let channels = weights.channels;
            copy = Scratch::new(images.len() * span.len() * channels);
            for (image, to) in copy.chunks_exact_mut((span.len() * channels).max(1)).enumerate() {
                let from = &from[(image * work.src_image + span.start) * work.src_pixel..];
                let pixels = from.chunks(work.src_pixel).zip(to.chunks_exact_mut(channels));
                pixels.for_each(|(from, to)| to.copy_from_slice(&from[..channels]));
            }
            // Where the image's pixel 0 would be.
            (copy.as_ptr().wrapping_sub(span.start * channels), span.len(), channels)
        } else {
            (from.as_ptr(), work.src_image, work.src_pixel)
        };
        let blocks = part * self.blocks..weights.blocks.count().min((part + 1) * self.blocks);
        for b in blocks {
            let columns = weights.blocks.width(b);
            let column = group * work.columns + weights.blocks.start(b);
            let vectors = weights.blocks.vectors(b);
            for start in (0..weights.channels).step_by(weights.chunk) {
                let mut job = Job {
                    src,
                    src_pixel,
                    zeros: self.zeros.as_ptr(),
                    table: table.source.as_ptr(),
                    table_rows: MR,
                    taps: table.taps,
                    channels: weights.chunk.min(weights.channels - start),
                    weights: weights.block(group, b, start),
                    first: start == 0,
                    finish: (start + weights.chunk >= weights.channels).then_some(work.finish),
                    channel: column,
                    dst: work.dst,
                    dst_at: 0,
                    dst_pixel: work.dst_pixel,
                    target: table.target.as_ptr(),
                    columns,
                };
                for image in images.clone() {
                    let end = per_image.min(work.pixels - image * per_image);
                    job.src = src.wrapping_add((image - first) * src_image * src_pixel + start);
                    job.dst_at = image * work.dst_image * work.dst_pixel + column;
                    for tile in tiles.clone() {
                        if tile * MR >= end {
                            break;
                        }
                        let rows = MR.min(end - tile * MR);
                        job.table = table.source[tile * table.taps * MR..].as_ptr();
                        job.target = table.target[tile * MR..].as_ptr();
                        // SAFETY: `Correlation::run`'s contract; rows and columns are this task's.
                        unsafe { with_tile!(rows, MR, vectors, tile_job::<V>(&job)) }
                    }
                }
            }
        }
    }
}

/// One tile.
struct Job<'a, T> {
    src: *const T,
    src_pixel: usize,
    zeros: *const T,
    table: *const i32,
    table_rows: usize,
    taps: usize,
    channels: usize,
    weights: *const T,
    /// Whether this is the first chunk of channels: there is no sum yet that this is added to.
    first: bool,
    /// After the last chunk.
    finish: Option<&'a Finish<'a, T>>,
    /// First destination channel.
    channel: usize,
    dst: Out<T>,
    dst_at: usize,
    dst_pixel: usize,
    target: *const u32,
    columns: usize,
}

/// Channels of a round of the innermost loop.
const ROUND: usize = 4;

/// Adds `K` channels of the tile's pixels from channel `c` on, times their weights.
///
/// # Safety
/// As [`tile_job`].
#[inline(always)]
unsafe fn add_channels<V: Vector, const MR: usize, const NV: usize, const K: usize>(
    sums: &mut [[V; NV]; MR],
    from: &[*const V::Elem; MR],
    c: usize,
    weights: *const V::Elem,
) {
    // SAFETY: the caller's promise.
    unsafe {
        for k in 0..K {
            let mut w = [V::splat(V::Elem::of(0.0)); NV];
            for v in 0..NV {
                w[v] = V::load(weights.add((k * NV + v) * V::LANES));
            }
            for i in 0..MR {
                let x = V::splat(*from[i].add(c + k));
                for v in 0..NV {
                    sums[i][v] = x.mul_add(w[v], sums[i][v]);
                }
            }
        }
    }
}

/// # Safety
/// All pointers of the job reach what its sizes say; the processor has `V`'s instructions.
#[inline(always)]
unsafe fn tile_job<V: Vector, const MR: usize, const NV: usize>(job: &Job<'_, V::Elem>) {
    // SAFETY: the caller's promise.
    unsafe {
        let mut to = [std::ptr::null_mut(); MR];
        for i in 0..MR {
            to[i] = job.dst.at(job.dst_at + *job.target.add(i) as usize * job.dst_pixel);
        }
        // From zero even where an earlier chunk left its sums: short chains round less (a chain's
        // error grows with the square root of its length).
        let mut sums = [[V::splat(V::Elem::of(0.0)); NV]; MR];
        let mut weights = job.weights;
        for tap in 0..job.taps {
            let table = job.table.add(tap * job.table_rows);
            let mut from = [job.zeros; MR];
            for i in 0..MR {
                let at = *table.add(i);
                from[i] = if at < 0 {
                    job.zeros
                } else {
                    job.src.wrapping_add(at as usize * job.src_pixel)
                };
            }
            // Several channels to a round: so few rounds that the processor foresees the last.
            let rounds = job.channels / ROUND * ROUND;
            for c in (0..rounds).step_by(ROUND) {
                add_channels::<V, MR, NV, ROUND>(&mut sums, &from, c, weights);
                weights = weights.add(ROUND * NV * V::LANES);
            }
            for c in rounds..job.channels {
                add_channels::<V, MR, NV, 1>(&mut sums, &from, c, weights);
                weights = weights.add(NV * V::LANES);
            }
        }
        // A copy, so that only it is indexed by loops too large to unroll: the sums themselves must
        // stay in registers.
        let mut finished = sums;
        let finished = std::hint::black_box(&mut finished);
        for i in 0..MR {
            if !job.first {
                let before = get::<V, NV>(to[i], job.columns);
                for v in 0..NV {
                    finished[i][v] = finished[i][v].add(before[v]);
                }
            }
            if let Some(finish) = job.finish {
                let at = job.dst_at + *job.target.add(i) as usize * job.dst_pixel;
                finished[i] = finish.apply(finished[i], job.channel, at, job.columns);
            }
            put(finished[i], to[i], job.columns);
        }
    }
}
