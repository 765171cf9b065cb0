//! Gradients of weight and bias.
//!
//! The weight's gradient is `dw[t, c, o] = Σ_p x[pixel(p, t), c] · dy[p, o]`, for each tap a
//! product of two tall matrices. A tile is a few input channels by a block of output channels;
//! its sums stay in registers over a block of pixels, while for each pixel a few input values are
//! broadcast and multiplied with the block's part of `dy`. That part is first copied to a
//! panel without gaps, for the L1 cache; the input's pixels of the block stay in the L2 cache while
//! all taps pass over them. Taps skip the pixels that would meet padding.
//!
//! A task sums a range of pixels for a range of output channels, for which it has a buffer of its
//! own; the buffers are added in order, and how many there are depends on sizes alone.

use std::ops::Range;

use rayon::prelude::*;

use super::Geometry;
use super::lower::Lowering;
use super::pack::Blocks;
use super::winograd;
use crate::host::{Element, unwritten};
use crate::scratch::Scratch;
use crate::simd::{Vector, multiversion};
use crate::tile::{self, Kernel, Out, TileShape, get, put, tile_shape, with_tile};

/// Pixels of a block, roughly: with two vectors of output channels each, half the L1 cache.
const BLOCK_PIXELS: usize = 128;
/// Bytes between pixels from which on channels are brought together, so many at once, with a gap
/// between pixels that keeps them off the same sets.
const FAR: usize = 1 << 11;
const CHUNK: usize = 384;
const GAP: usize = 16;
/// Tasks to aim for.
const TASKS: usize = 16;

/// How the sums are cut; depends on sizes alone.
struct Cut<'a, T: Element> {
    geo: &'a Geometry,
    x: &'a Lowering,
    data: &'a [T],
    dy: &'a [T],
    /// Columns are the output channels of a group.
    blocks: Blocks,
    lanes: usize,
    /// Pixel blocks: each some rows of an image, or some whole images.
    rows: usize,
    images: usize,
    pixel_blocks: usize,
    /// Channels that are passed over before the next ones.
    chunk: usize,
    /// Whether they are copied from their pixels first.
    gather: bool,
    /// Parts that the pixel blocks and the column blocks are cut into.
    pixel_parts: usize,
    column_parts: usize,
    /// Buffers `[pixel part][group][block][tap][channel][column of the block]`.
    sums: Out<T>,
    /// Elements of all groups' sums.
    len: usize,
}

pub fn weight_gradient<T: Element>(geo: &Geometry, x: &[T], dy: &[T]) -> Vec<T> {
    if winograd::fits(geo) {
        return winograd::weight_gradient(geo, x, dy);
    }
    let shape = tile_shape::<T>();
    let lowering = Lowering::new(geo);
    let (x, data) = (&lowering, &*lowering.data(geo, x));
    let go = geo.co / geo.groups;
    let blocks = Blocks::new(go, shape);
    let images = (BLOCK_PIXELS / (geo.oh * geo.ow)).clamp(1, geo.n);
    let rows = (BLOCK_PIXELS / geo.ow).clamp(1, geo.oh);
    let rows = geo.oh.div_ceil(geo.oh.div_ceil(rows)); // of equal height
    let pixel_blocks = geo.n.div_ceil(images) * geo.oh.div_ceil(rows);
    let len = geo.groups * x.taps.len() * x.channels.len() * blocks.padded();
    let (pixel_parts, column_parts) =
        parts(TASKS, geo.groups, pixel_blocks, blocks.count(), len, data.len());
    let mut sums = Scratch::new(pixel_parts * len);
    // Pixels far apart waste the cache's sets, unless their channels are brought together.
    let far = x.pixel * size_of::<T>() >= FAR && (geo.groups > 1 || x.taps.len() == 1);
    let cut = Cut {
        geo,
        chunk: if far { x.channels.len().min(CHUNK) } else { x.channels.len() },
        gather: far,
        x,
        data,
        dy,
        blocks,
        lanes: shape.lanes,
        rows,
        images,
        pixel_blocks,
        pixel_parts,
        column_parts,
        sums: Out::new(&mut sums),
        len,
    };
    (0..pixel_parts * geo.groups * column_parts).into_par_iter().for_each(|task| {
        // SAFETY: each task has another part of the pixels, group or part of the columns.
        unsafe { tile::run(&cut, task) }
    });
    finish(&cut, &sums, shape)
}

/// Into how many parts to cut pixels and columns: at least `tasks` tasks if there is so much, at the
/// least cost in memory passes. Each part of the pixels costs passes over the sums, each
/// part of the columns one over the input.
pub(super) fn parts(
    tasks: usize,
    groups: usize,
    pixels: usize,
    blocks: usize,
    sums: usize,
    input: usize,
) -> (usize, usize) {
    let candidates = (1..=tasks.min(blocks)).map(|columns| {
        let pixel_parts = tasks.div_ceil(groups * columns).min(pixels);
        (pixel_parts, columns)
    });
    let cost = |&(pixel_parts, columns): &(usize, usize)| {
        let missing = tasks.saturating_sub(pixel_parts * columns * groups);
        (missing, 3 * pixel_parts * sums + columns * input)
    };
    candidates.min_by_key(cost).unwrap_or((1, 1))
}

/// Part `part` of `0..all` in `parts`.
pub(super) fn share(all: usize, parts: usize, part: usize) -> Range<usize> {
    all * part / parts..all * (part + 1) / parts
}

impl<T: Element> Kernel<T> for Cut<'_, T> {
    #[inline(always)]
    unsafe fn run<V: Vector<Elem = T>, const MR: usize>(&self, task: usize) {
        let (geo, x) = (self.geo, self.x);
        let (task, column_part) = (task / self.column_parts, task % self.column_parts);
        let (pixel_part, group) = (task / geo.groups, task % geo.groups);
        let column_blocks = share(self.blocks.count(), self.column_parts, column_part);
        let (taps, channels) = (x.taps.len(), x.channels.len());
        let row_blocks = geo.oh.div_ceil(self.rows);
        let group_start = group * taps * channels * self.blocks.padded();
        let sums_at =
            |b: usize| pixel_part * self.len + group_start + taps * channels * self.blocks.start(b);
        for b in column_blocks.clone() {
            let len = taps * channels * self.blocks.vectors(b) * self.lanes;
            // SAFETY: this block of this part is this task's.
            unsafe { std::slice::from_raw_parts_mut(self.sums.at(sums_at(b)), len) }
                .fill(T::zero());
        }
        let mut panel = Scratch::new(self.images * self.rows * geo.ow * 2 * V::LANES);
        let mut copy = Scratch::new(self.copy_len());
        for block in share(self.pixel_blocks, self.pixel_parts, pixel_part) {
            let first = block / row_blocks * self.images;
            let images = first..geo.n.min(first + self.images);
            let top = block % row_blocks * self.rows;
            let rows = top..geo.oh.min(top + self.rows);
            for start in (0..channels).step_by(self.chunk) {
                let chunk = start..channels.min(start + self.chunk);
                let input = if self.gather {
                    self.copy_input(&mut copy, &images, &rows, group * channels, &chunk)
                } else {
                    Input {
                        data: &self.data[first * x.h * x.w * x.pixel + group * channels + start..],
                        pixel: x.pixel,
                        top: 0,
                        h: x.h,
                    }
                };
                for b in column_blocks.clone() {
                    let column = group * (geo.co / geo.groups) + self.blocks.start(b);
                    let (width, vectors) = (self.blocks.width(b), self.blocks.vectors(b));
                    let lanes = vectors * V::LANES;
                    let whole = width == geo.co && width == lanes; // `dy` has no gaps as it is
                    let dy = if whole {
                        self.dy[(first * geo.oh + top) * geo.ow * lanes..].as_ptr()
                    } else {
                        let pixels = rows.len() * geo.ow;
                        for (image, to) in images.clone().zip(panel.chunks_mut(pixels * lanes)) {
                            let pixel = (image * geo.oh + rows.start) * geo.ow;
                            let from = self.dy[pixel * geo.co + column..].as_ptr();
                            let to = to.as_mut_ptr();
                            // SAFETY: these pixels have `width` channels here, and the panel has
                            // room for the pixels of a block.
                            unsafe {
                                with_tile!(
                                    1,
                                    1,
                                    vectors,
                                    pack::<V>(from, geo.co, width, pixels, to)
                                );
                            }
                        }
                        panel.as_ptr()
                    };
                    let panel_rows = if whole { geo.oh } else { rows.len() };
                    for (t, tap) in x.taps.iter().enumerate() {
                        let i = meeting(geo, x, tap.row, x.h, &rows);
                        let j = meeting(geo, x, tap.column, x.w, &(0..geo.ow));
                        if i.is_empty() || j.is_empty() {
                            continue;
                        }
                        let row = i.start * geo.stride + tap.row - x.padding - input.top;
                        let left = j.start * geo.stride + tap.column - x.padding;
                        let mut span = Span {
                            images: images.len(),
                            rows: i.len(),
                            columns: j.len(),
                            x: input.data[(row * x.w + left) * input.pixel..].as_ptr(),
                            x_image: input.h * x.w * input.pixel,
                            x_row: geo.stride * x.w * input.pixel,
                            x_pixel: geo.stride * input.pixel,
                            // SAFETY: the panel has all pixels of the block.
                            dy: unsafe { dy.add(((i.start - top) * geo.ow + j.start) * lanes) },
                            dy_image: panel_rows * geo.ow * lanes,
                            dy_row: geo.ow * lanes,
                        };
                        span.join(lanes);
                        for c in chunk.clone().step_by(MR) {
                            let count = MR.min(chunk.end - c);
                            // SAFETY: the sums are this task's; `span` stays inside `x` and `dy`.
                            unsafe {
                                let sums = self.sums.at(sums_at(b) + (t * channels + c) * lanes);
                                with_tile!(count, MR, vectors, tile::<V>(&span, c - start, sums));
                            }
                        }
                    }
                }
            }
        }
    }
}

/// A block's input as a task reads it.
struct Input<'a, T> {
    /// From the first row and the chunk's first channel on.
    data: &'a [T],
    /// Elements of a pixel.
    pixel: usize,
    /// The first row's number in its image.
    top: usize,
    /// Rows of an image.
    h: usize,
}

impl<T: Element> Cut<'_, T> {
    /// Rows of an image that the outputs `rows` meet.
    fn input_rows(&self, rows: &Range<usize>) -> Range<usize> {
        let (x, stride) = (self.x, self.geo.stride);
        let reach = x.taps.iter().map(|tap| tap.row).max().unwrap_or(0);
        let end = ((rows.end - 1) * stride + reach + 1).saturating_sub(x.padding).min(x.h);
        (rows.start * stride).saturating_sub(x.padding).min(end)..end
    }

    fn copy_len(&self) -> usize {
        let x = self.x;
        let reach = x.taps.iter().map(|tap| tap.row).max().unwrap_or(0);
        let rows = (self.rows * self.geo.stride + reach).min(x.h);
        if self.gather { self.images * rows * x.w * (self.chunk + GAP) } else { 0 }
    }

    /// Brings a chunk of a group's channels together.
    fn copy_input<'a>(
        &self,
        copy: &'a mut [T],
        images: &Range<usize>,
        rows: &Range<usize>,
        channel: usize,
        chunk: &Range<usize>,
    ) -> Input<'a, T> {
        let x = self.x;
        let rows = self.input_rows(rows);
        let pixel = chunk.len() + GAP;
        let mut to = copy.chunks_exact_mut(pixel);
        for image in images.clone() {
            let start = (image * x.h + rows.start) * x.w * x.pixel + channel + chunk.start;
            let from = self.data[start..].chunks(x.pixel).take(rows.len() * x.w);
            for (from, to) in from.zip(&mut to) {
                to[..chunk.len()].copy_from_slice(&from[..chunk.len()]);
            }
        }
        Input { data: copy, pixel, top: rows.start, h: rows.len() }
    }
}

/// The outputs among `range` for which a tap's input is not padding.
fn meeting(
    geo: &Geometry,
    x: &Lowering,
    tap: usize,
    size: usize,
    range: &Range<usize>,
) -> Range<usize> {
    let start = x.padding.saturating_sub(tap).div_ceil(geo.stride).max(range.start);
    let end = (size + x.padding).saturating_sub(tap).div_ceil(geo.stride).min(range.end);
    start.min(end)..end
}

/// Copies a block of output channels, zeros after the last.
///
/// # Safety
/// `pixels` at distance `step` have `width` elements at `from`, `to` has room for them, and the
/// processor has `V`'s instructions.
#[inline(always)]
unsafe fn pack<V: Vector, const ONE: usize, const NV: usize>(
    from: *const V::Elem,
    step: usize,
    width: usize,
    pixels: usize,
    to: *mut V::Elem,
) {
    let lanes = NV * V::LANES;
    for pixel in 0..pixels {
        // SAFETY: the caller's promise.
        unsafe {
            let row = get::<V, NV>(from.add(pixel * step), width);
            put(row, to.add(pixel * lanes), lanes);
        }
    }
}

/// Pixels that a tap passes over.
struct Span<T> {
    images: usize,
    rows: usize,
    columns: usize,
    x: *const T,
    x_image: usize,
    x_row: usize,
    x_pixel: usize,
    dy: *const T,
    dy_image: usize,
    dy_row: usize,
}

impl<T> Span<T> {
    /// Makes one long row of rows, and of images, that follow each other without a gap.
    fn join(&mut self, lanes: usize) {
        if self.x_row == self.columns * self.x_pixel && self.dy_row == self.columns * lanes {
            self.columns *= self.rows;
            self.rows = 1;
            if self.x_image == self.columns * self.x_pixel && self.dy_image == self.columns * lanes
            {
                self.columns *= self.images;
                self.images = 1;
            }
        }
    }
}

/// Adds a tile's products over the span to its sums.
///
/// # Safety
/// The span lies inside its tensors, `MR` channels from `channel` on exist, `sums` has
/// `MR · NV · LANES` elements, and the processor has `V`'s instructions.
#[inline(always)]
unsafe fn tile<V: Vector, const MR: usize, const NV: usize>(
    span: &Span<V::Elem>,
    channel: usize,
    sums: *mut V::Elem,
) {
    // SAFETY: the caller's promise.
    unsafe {
        let lanes = NV * V::LANES;
        let mut acc = [[V::splat(V::Elem::of(0.0)); NV]; MR];
        for image in 0..span.images {
            for row in 0..span.rows {
                let mut x = span.x.add(image * span.x_image + row * span.x_row + channel);
                let mut dy = span.dy.add(image * span.dy_image + row * span.dy_row);
                for _ in 0..span.columns {
                    let mut d = [V::splat(V::Elem::of(0.0)); NV];
                    for v in 0..NV {
                        d[v] = V::load(dy.add(v * V::LANES));
                    }
                    for i in 0..MR {
                        let x = V::splat(*x.add(i));
                        for v in 0..NV {
                            acc[i][v] = x.mul_add(d[v], acc[i][v]);
                        }
                    }
                    x = x.wrapping_add(span.x_pixel);
                    dy = dy.wrapping_add(lanes);
                }
            }
        }
        for i in 0..MR {
            let to = sums.add(i * lanes);
            let mut row = get::<V, NV>(to, lanes);
            for v in 0..NV {
                row[v] = row[v].add(acc[i][v]);
            }
            put(row, to, lanes);
        }
    }
}

/// Adds the parts' sums and brings them into the order of the weight tensor.
fn finish<T: Element>(cut: &Cut<'_, T>, sums: &[T], shape: TileShape) -> Vec<T> {
    let (geo, x) = (cut.geo, cut.x);
    let (go, taps, channels) = (geo.co / geo.groups, x.taps.len(), x.channels.len());
    let per_column = taps * channels; // the weight's elements of one output channel
    // SAFETY: every weight is some tap's and channel's, so every element is written.
    let mut dw = unsafe { unwritten::<T>(geo.co * per_column) };
    let block_len = 2 * shape.lanes * per_column;
    let outputs = dw.par_chunks_mut(go * per_column).enumerate();
    let blocks = outputs.flat_map(|(g, dw)| {
        dw.par_chunks_mut(block_len).enumerate().map(move |(b, dw)| (g, b, dw))
    });
    blocks.for_each(|(g, b, dw)| {
        let lanes = cut.blocks.vectors(b) * shape.lanes;
        let start = per_column * (g * cut.blocks.padded() + cut.blocks.start(b));
        let mut total = sums[start..start + per_column * lanes].to_vec();
        for part in 1..cut.pixel_parts {
            let from = part * cut.len + start;
            add(&mut total, &sums[from..from + per_column * lanes]);
        }
        for (t, tap) in x.taps.iter().enumerate() {
            for (c, channel) in x.channels.iter().enumerate() {
                let row = &total[(t * channels + c) * lanes..][..cut.blocks.width(b)];
                for (o, &sum) in row.iter().enumerate() {
                    dw[o * per_column + channel + tap.weight] = sum;
                }
            }
        }
    });
    dw
}

multiversion! {
    pub(super) fn add<T>(sum: &mut [T], term: &[T]) {
        for (s, &t) in sum.iter_mut().zip(term) {
            *s += t;
        }
    }
}

/// Pixels whose gradients are summed by one task.
const BIAS_PIXELS: usize = 1024;

/// Sum over the pixels of `channels` each.
pub fn bias_gradient<T: Element>(channels: usize, dy: &[T]) -> Vec<T> {
    let parts = dy.par_chunks(BIAS_PIXELS * channels).map(|dy| {
        let mut sum = vec![T::zero(); channels];
        dy.chunks_exact(channels).for_each(|pixel| add(&mut sum, pixel));
        sum
    });
    let parts = parts.collect::<Vec<_>>();
    let mut sum = vec![T::zero(); channels];
    parts.iter().for_each(|part| add(&mut sum, part));
    sum
}
