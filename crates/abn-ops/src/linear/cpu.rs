//! The three matrix products of a fully connected layer.
//!
//! The weight may be hundreds of megabytes and the batch small, so the weight is read once, in long
//! pieces, and never rearranged as a whole. The forward pass takes dot products of rows
//! ([`forward`]); both gradients are sums of rows with factors ([`sum_rows`]).

use rayon::prelude::*;

use super::Sizes;
use crate::conv2d::cpu;
use crate::host::{Element, unwritten};
use crate::scratch::Scratch;
use crate::simd::Vector;
use crate::tile::{self, Kernel, Out, get, put, with_tile};

pub fn forward<T: Element>(s: Sizes, x: &[T], weight: &[T], bias: Option<&[T]>) -> Vec<T> {
    // SAFETY: the tasks have every output of every sample.
    let mut y = unsafe { unwritten(s.n * s.o) };
    let product = Dots { s, x, weight, bias, y: Out::new(&mut y) };
    let small = SMALL_TASK.div_ceil(s.n * s.i * OUTPUTS);
    (0..s.o.div_ceil(OUTPUTS)).into_par_iter().with_min_len(small).for_each(|task| {
        // SAFETY: each task has other outputs.
        unsafe { tile::run(&product, task) }
    });
    y
}

pub fn input_gradient<T: Element>(s: Sizes, weight: &[T], dy: &[T]) -> Vec<T> {
    sum_rows(s.n, s.i, s.o, Factors { data: dy, row: s.o, term: 1 }, weight)
}

pub fn weight_gradient<T: Element>(s: Sizes, x: &[T], dy: &[T]) -> Vec<T> {
    sum_rows(s.o, s.i, s.n, Factors { data: dy, row: 1, term: s.o }, x)
}

pub fn bias_gradient<T: Element>(s: Sizes, dy: &[T]) -> Vec<T> {
    cpu::bias_gradient(s.o, dy)
}

/// Outputs of a task.
const OUTPUTS: usize = 48;
/// Multiply-adds below which a task is not worth another thread's attention.
const SMALL_TASK: usize = 1 << 18;

/// `y[n, o] = bias[o] + x[n] · weight[o]`: a tile is a few outputs by two samples, its sums are
/// vectors over the features.
struct Dots<'a, T> {
    s: Sizes,
    x: &'a [T],
    weight: &'a [T],
    bias: Option<&'a [T]>,
    y: Out<T>,
}

impl<T: Element> Kernel<T> for Dots<'_, T> {
    #[inline(always)]
    unsafe fn run<V: Vector<Elem = T>, const MR: usize>(&self, task: usize) {
        let Sizes { n, i, o } = self.s;
        let outputs = task * OUTPUTS..o.min((task + 1) * OUTPUTS);
        // The samples' features of a chunk stay in the L2 cache.
        let chunk = ((192 << 10) / (n * size_of::<T>())).clamp(256, 2048) / 16 * 16;
        for start in (0..i).step_by(chunk) {
            let features = start..i.min(start + chunk);
            for first in outputs.clone().step_by(MR) {
                let rows = MR.min(outputs.end - first);
                for sample in (0..n).step_by(2) {
                    let samples = 2.min(n - sample);
                    // SAFETY: the features of these rows and samples exist, and the outputs
                    // are this task's.
                    unsafe {
                        with_tile!(rows, MR, samples, dots::<V>(self, &features, first, sample))
                    }
                }
            }
        }
    }
}

/// Adds the products over some features to the outputs `first..first + MR` of `NS` samples.
///
/// # Safety
/// They exist and no other task has them; the processor has `V`'s instructions.
#[inline(always)]
unsafe fn dots<V: Vector, const MR: usize, const NS: usize>(
    work: &Dots<V::Elem>,
    features: &std::ops::Range<usize>,
    first: usize,
    sample: usize,
) {
    let Sizes { i, o, .. } = work.s;
    let weight = work.weight[first * i + features.start..].as_ptr();
    let x = work.x[sample * i + features.start..].as_ptr();
    let whole = features.len() / V::LANES * V::LANES;
    // SAFETY: the caller's promise.
    unsafe {
        let mut sums = [[V::splat(V::Elem::of(0.0)); NS]; MR];
        for at in (0..whole).step_by(V::LANES) {
            let mut values = [V::splat(V::Elem::of(0.0)); NS];
            for s in 0..NS {
                values[s] = V::load(x.add(s * i + at));
            }
            for r in 0..MR {
                let w = V::load(weight.add(r * i + at));
                for s in 0..NS {
                    sums[r][s] = w.mul_add(values[s], sums[r][s]);
                }
            }
        }
        for s in 0..NS {
            for r in 0..MR {
                let mut lanes = [V::Elem::of(0.0); 16];
                sums[r][s].store(lanes.as_mut_ptr());
                let mut sum = lanes.iter().copied().sum::<V::Elem>();
                for at in whole..features.len() {
                    sum += *x.add(s * i + at) * *weight.add(r * i + at);
                }
                let to = work.y.at((sample + s) * o + first + r);
                let before = match (features.start, work.bias) {
                    (0, Some(bias)) => bias[first + r],
                    (0, None) => V::Elem::of(0.0),
                    _ => *to,
                };
                *to = before + sum;
            }
        }
    }
}

/// The number that term `t` of the sum for row `r` is multiplied with: `data[r·row + t·term]`.
#[derive(Clone, Copy)]
struct Factors<'a, T> {
    data: &'a [T],
    row: usize,
    term: usize,
}

/// Columns and rows of a task; terms that are summed before the next ones.
const COLUMNS: usize = 256;
const ROWS: usize = 192;
const TERMS: usize = 64;
/// Elements between the rows of the copy of terms, which keep them off the same cache sets.
const GAP: usize = 16;

/// `out[r] = Σ_t factor(r, t) · rows[t]` with rows of `width`: a tile is a few rows of the result by
/// two vectors.
fn sum_rows<T: Element>(
    height: usize,
    width: usize,
    terms: usize,
    factors: Factors<T>,
    rows: &[T],
) -> Vec<T> {
    // SAFETY: the tasks have every row and column, and there is at least one term.
    let mut out = unsafe { unwritten(height * width) };
    let sums = Sums { height, width, terms, factors, rows, out: Out::new(&mut out) };
    let tasks = height.div_ceil(ROWS) * width.div_ceil(COLUMNS);
    let small = SMALL_TASK.div_ceil(height.min(ROWS) * width.min(COLUMNS) * terms);
    (0..tasks).into_par_iter().with_min_len(small).for_each(|task| {
        // SAFETY: each task has other rows or columns.
        unsafe { tile::run(&sums, task) }
    });
    out
}

struct Sums<'a, T> {
    height: usize,
    width: usize,
    terms: usize,
    factors: Factors<'a, T>,
    rows: &'a [T],
    out: Out<T>,
}

impl<T: Element> Kernel<T> for Sums<'_, T> {
    #[inline(always)]
    unsafe fn run<V: Vector<Elem = T>, const MR: usize>(&self, task: usize) {
        let parts = self.width.div_ceil(COLUMNS);
        let left = task % parts * COLUMNS;
        let columns = COLUMNS.min(self.width - left);
        let top = task / parts * ROWS;
        let bottom = self.height.min(top + ROWS);
        let step = columns.next_multiple_of(2 * V::LANES) + GAP;
        let mut copy = Scratch::new(TERMS.min(self.terms) * step);
        for start in (0..self.terms).step_by(TERMS) {
            let terms = TERMS.min(self.terms - start);
            // Read in long pieces, a term has its columns for all rows of the task; columns up to
            // a whole tile are numbers that never leave their lanes.
            for (t, copy) in copy.chunks_mut(step).take(terms).enumerate() {
                let from = (start + t) * self.width + left;
                copy[..columns].copy_from_slice(&self.rows[from..from + columns]);
                copy[columns..].fill(T::zero());
            }
            for row in (top..bottom).step_by(MR) {
                let rows = MR.min(bottom - row);
                for column in (0..columns).step_by(2 * V::LANES) {
                    let tile = Tile {
                        factors: &self.factors.data
                            [row * self.factors.row + start * self.factors.term..],
                        row: self.factors.row,
                        term: self.factors.term,
                        terms,
                        source: copy[column..].as_ptr(),
                        step,
                        // SAFETY: the tile starts inside the result.
                        out: unsafe { self.out.at(row * self.width + left + column) },
                        width: self.width,
                        count: (columns - column).min(2 * V::LANES),
                        add: start > 0,
                    };
                    // SAFETY: the tile's rows and columns are this task's.
                    unsafe { with_tile!(rows, MR, 2, sum_tile::<V>(&tile)) }
                }
            }
        }
    }
}

/// One tile of [`Sums`].
struct Tile<'a, T> {
    factors: &'a [T],
    row: usize,
    term: usize,
    terms: usize,
    source: *const T,
    step: usize,
    out: *mut T,
    width: usize,
    /// Columns of the tile that exist.
    count: usize,
    /// Whether to add to what is there.
    add: bool,
}

/// # Safety
/// All pointers reach what the sizes say; the processor has `V`'s instructions.
#[inline(always)]
unsafe fn sum_tile<V: Vector, const MR: usize, const NV: usize>(tile: &Tile<V::Elem>) {
    // SAFETY: the caller's promise.
    unsafe {
        let mut sums = [[V::splat(V::Elem::of(0.0)); NV]; MR];
        if tile.add {
            for r in 0..MR {
                sums[r] = get(tile.out.add(r * tile.width), tile.count);
            }
        }
        let (mut factors, mut source) = (tile.factors.as_ptr(), tile.source);
        for _ in 0..tile.terms {
            let mut values = [V::splat(V::Elem::of(0.0)); NV];
            for v in 0..NV {
                values[v] = V::load(source.add(v * V::LANES));
            }
            for r in 0..MR {
                let factor = V::splat(*factors.add(r * tile.row));
                for v in 0..NV {
                    sums[r][v] = factor.mul_add(values[v], sums[r][v]);
                }
            }
            factors = factors.wrapping_add(tile.term);
            source = source.wrapping_add(tile.step);
        }
        for r in 0..MR {
            put(sums[r], tile.out.add(r * tile.width), tile.count);
        }
    }
}
