//! The transforms of Winograd's F(2×2, 3×3), on vectors of channels.

use super::super::finish::Finish;
use super::{PLACES, Place, Tiling};
use crate::host::Element;
use crate::simd::Vector;
use crate::tile::{Out, get, put};

/// `Bᵀ d B`, a tile of inputs to its 16 places.
///
/// # Safety
/// The processor has `V`'s instructions.
#[inline(always)]
unsafe fn input<V: Vector>(d: [V; PLACES]) -> [V; PLACES] {
    #[inline(always)]
    unsafe fn line<V: Vector>(d: [V; 4]) -> [V; 4] {
        // SAFETY: the caller's promise.
        unsafe { [d[0].sub(d[2]), d[1].add(d[2]), d[2].sub(d[1]), d[1].sub(d[3])] }
    }
    // SAFETY: the caller's promise.
    unsafe { both(d, |d| line(d)) }
}

/// A transform of four, along the columns and then the rows of a tile.
#[inline(always)]
fn both<V: Vector>(d: [V; PLACES], line: impl Fn([V; 4]) -> [V; 4]) -> [V; PLACES] {
    let mut t = d;
    for j in 0..4 {
        let column = line([d[j], d[4 + j], d[8 + j], d[12 + j]]);
        for i in 0..4 {
            t[4 * i + j] = column[i];
        }
    }
    for i in 0..4 {
        let row = line([t[4 * i], t[4 * i + 1], t[4 * i + 2], t[4 * i + 3]]);
        t[4 * i..4 * i + 4].copy_from_slice(&row);
    }
    t
}

/// `Aᵀ m A`, the 16 places to a tile of results.
///
/// # Safety
/// The processor has `V`'s instructions.
#[inline(always)]
unsafe fn output<V: Vector>(m: [V; PLACES]) -> [V; 4] {
    #[inline(always)]
    unsafe fn line<V: Vector>(m: [V; 4]) -> [V; 2] {
        // SAFETY: the caller's promise.
        unsafe { [m[0].add(m[1]).add(m[2]), m[1].sub(m[2]).sub(m[3])] }
    }
    // SAFETY: the caller's promise.
    unsafe {
        let mut t = [[m[0]; 2]; 4];
        for j in 0..4 {
            t[j] = line([m[j], m[4 + j], m[8 + j], m[12 + j]]);
        }
        let top = line([t[0][0], t[1][0], t[2][0], t[3][0]]);
        let bottom = line([t[0][1], t[1][1], t[2][1], t[3][1]]);
        [top[0], top[1], bottom[0], bottom[1]]
    }
}

/// `A y Aᵀ`, a tile of the results' gradients to the 16 places: [`output`] the other way round.
///
/// # Safety
/// The processor has `V`'s instructions.
#[inline(always)]
unsafe fn output_adjoint<V: Vector>(y: [V; 4]) -> [V; PLACES] {
    #[inline(always)]
    unsafe fn line<V: Vector>(a: V, b: V) -> [V; 4] {
        // SAFETY: the caller's promise.
        unsafe { [a, a.add(b), a.sub(b), V::splat(V::Elem::of(0.0)).sub(b)] }
    }
    // SAFETY: the caller's promise.
    unsafe {
        let (left, right) = (line(y[0], y[2]), line(y[1], y[3]));
        let mut places = [y[0]; PLACES];
        for i in 0..4 {
            places[4 * i..4 * i + 4].copy_from_slice(&line(left[i], right[i]));
        }
        places
    }
}

/// A feature map as the transforms read it.
#[derive(Clone, Copy)]
pub(super) struct Source<T> {
    /// At the first channel that is read.
    pub data: *const T,
    /// Elements of a pixel.
    pub pixel: usize,
    /// Channels that are read.
    pub channels: usize,
}

// SAFETY: only read through, while what it points to is borrowed.
unsafe impl<T: Sync> Send for Source<T> {}
// SAFETY: as above.
unsafe impl<T: Sync> Sync for Source<T> {}

/// Transforms a 4×4 tile of inputs, padding as zeros: place p of channel c goes to
/// `to[p · step + c]`, zeros in the channels that fill up the last vector.
///
/// # Safety
/// The source has the tiling's pixels, `to` has room, and the processor has `V`'s instructions.
#[inline(always)]
pub(super) unsafe fn input_tile<V: Vector>(
    tiling: &Tiling,
    from: Source<V::Elem>,
    at: Place,
    to: *mut V::Elem,
    step: usize,
) {
    let zero = V::Elem::of(0.0);
    let mut pixels = [std::ptr::null(); PLACES];
    for (i, line) in pixels.chunks_exact_mut(4).enumerate() {
        let row = (at.row + i).wrapping_sub(tiling.padding);
        for (j, pixel) in line.iter_mut().enumerate() {
            let column = (at.column + j).wrapping_sub(tiling.padding);
            if row < tiling.h && column < tiling.w {
                let number = (at.image * tiling.h + row) * tiling.w + column;
                // SAFETY: the pixel is in the image.
                *pixel = unsafe { from.data.add(number * from.pixel) };
            }
        }
    }
    let inside = pixels.iter().all(|pixel| !pixel.is_null());
    for start in (0..from.channels).step_by(V::LANES) {
        let count = V::LANES.min(from.channels - start);
        // SAFETY: the caller's promise; pixels that are not null have all channels.
        unsafe {
            let mut d = [V::splat(zero); PLACES];
            if inside && count == V::LANES {
                for p in 0..PLACES {
                    d[p] = V::load(pixels[p].add(start));
                }
            } else {
                for p in 0..PLACES {
                    if !pixels[p].is_null() {
                        [d[p]] = get::<V, 1>(pixels[p].add(start), count);
                    }
                }
            }
            let places = input(d);
            for p in 0..PLACES {
                places[p].store(to.add(p * step + start));
            }
        }
    }
}

/// Transforms a 2×2 tile of the results' gradients, zeros beyond the border: place p goes to
/// `to[p · step ..]`, `NV` vectors with zeros after the channels that are read.
///
/// # Safety
/// The source has the tiling's results, `to` has room, and the processor has `V`'s instructions.
#[inline(always)]
pub(super) unsafe fn gradient_tile<V: Vector, const ONE: usize, const NV: usize>(
    tiling: &Tiling,
    from: Source<V::Elem>,
    at: Place,
    to: *mut V::Elem,
    step: usize,
) {
    // SAFETY: the caller's promise; pixels beyond the border are not read.
    unsafe {
        let mut y = [[V::splat(V::Elem::of(0.0)); NV]; 4];
        for (k, y) in y.iter_mut().enumerate() {
            let (row, column) = (at.row + k / 2, at.column + k % 2);
            if row < tiling.oh && column < tiling.ow {
                let number = (at.image * tiling.oh + row) * tiling.ow + column;
                *y = get::<V, NV>(from.data.add(number * from.pixel), from.channels);
            }
        }
        for v in 0..NV {
            let places = output_adjoint([y[0][v], y[1][v], y[2][v], y[3][v]]);
            for p in 0..PLACES {
                places[p].store(to.add(p * step + v * V::LANES));
            }
        }
    }
}

/// A feature map as results are written.
#[derive(Clone, Copy)]
pub(super) struct Target<T> {
    pub data: Out<T>,
    /// Its first channel that is written, and elements of a pixel.
    pub channel: usize,
    pub pixel: usize,
    /// Channels that are written.
    pub channels: usize,
}

/// Transforms 16 places, `from[p · step ..]`, to a 2×2 tile of results, finishes them, and writes
/// those within the border.
///
/// # Safety
/// Target and finish have the tiling's results and channels, and the processor has `V`'s
/// instructions.
#[inline(always)]
pub(super) unsafe fn output_tile<V: Vector, const ONE: usize, const NV: usize>(
    tiling: &Tiling,
    from: *const V::Elem,
    step: usize,
    finish: &Finish<'_, V::Elem>,
    to: Target<V::Elem>,
    at: Place,
) {
    // SAFETY: the caller's promise; pixels beyond the border are not written.
    unsafe {
        let mut y = [[V::splat(V::Elem::of(0.0)); NV]; 4];
        for v in 0..NV {
            let mut m = [V::splat(V::Elem::of(0.0)); PLACES];
            for p in 0..PLACES {
                m[p] = V::load(from.add(p * step + v * V::LANES));
            }
            let tile = output(m);
            for k in 0..4 {
                y[k][v] = tile[k];
            }
        }
        for (k, y) in y.into_iter().enumerate() {
            let (row, column) = (at.row + k / 2, at.column + k % 2);
            if row < tiling.oh && column < tiling.ow {
                let number = (at.image * tiling.oh + row) * tiling.ow + column;
                let at = number * to.pixel + to.channel;
                let y = finish.apply(y, to.channel, at, to.channels);
                put(y, to.data.at(at), to.channels);
            }
        }
    }
}

/// `G g Gᵀ` of nine taps, each `columns` wide.
#[inline(always)]
pub(super) fn weight<T: Element, const N: usize>(g: &[[T; N]; 9]) -> [[T; N]; PLACES] {
    let half = T::of(0.5);
    let mut lines = [[[T::zero(); N]; 3]; 4];
    let mut places = [[T::zero(); N]; PLACES];
    for k in 0..N {
        for j in 0..3 {
            let (a, b, c) = (g[j][k], g[3 + j][k], g[6 + j][k]);
            let sum = a + c;
            lines[0][j][k] = a;
            lines[1][j][k] = (sum + b) * half;
            lines[2][j][k] = (sum - b) * half;
            lines[3][j][k] = c;
        }
        for i in 0..4 {
            let [a, b, c] = [lines[i][0][k], lines[i][1][k], lines[i][2][k]];
            let sum = a + c;
            places[4 * i][k] = a;
            places[4 * i + 1][k] = (sum + b) * half;
            places[4 * i + 2][k] = (sum - b) * half;
            places[4 * i + 3][k] = c;
        }
    }
    places
}

/// `Gᵀ u G`, 16 places to nine taps: [`weight`] the other way round.
#[inline(always)]
pub(super) fn weight_adjoint<T: Element>(u: [T; PLACES]) -> [T; 9] {
    let half = T::of(0.5);
    let line = |u: [T; 4]| {
        let (sum, difference) = ((u[1] + u[2]) * half, (u[1] - u[2]) * half);
        [u[0] + sum, difference, sum + u[3]]
    };
    let mut lines = [[T::zero(); 4]; 3];
    for j in 0..4 {
        let column = line([u[j], u[4 + j], u[8 + j], u[12 + j]]);
        for i in 0..3 {
            lines[i][j] = column[i];
        }
    }
    let mut g = [T::zero(); 9];
    for i in 0..3 {
        g[3 * i..3 * i + 3].copy_from_slice(&line(lines[i]));
    }
    g
}
