//! The matrix products between the transforms.

use crate::host::Element;
use crate::simd::Vector;
use crate::tile::put;

/// `to[i][..] (+)= Σ_k x[i · row + k · step] · w[k][..]` for `MR` rows i and `NV` vectors, `depth`
/// terms each.
///
/// # Safety
/// All that is named exists, and the processor has `V`'s instructions.
#[inline(always)]
pub(super) unsafe fn product<V: Vector, const MR: usize, const NV: usize>(
    x: *const V::Elem,
    [row, step]: [usize; 2],
    w: *const V::Elem,
    depth: usize,
    to: *mut V::Elem,
    add: bool,
) {
    // SAFETY: the caller's promise.
    unsafe {
        let lanes = NV * V::LANES;
        let mut sums = [[V::splat(V::Elem::of(0.0)); NV]; MR];
        let mut from = [x; MR];
        for i in 0..MR {
            from[i] = x.add(i * row);
        }
        let (mut w, mut at) = (w, 0);
        for _ in 0..depth {
            let mut factors = [V::splat(V::Elem::of(0.0)); NV];
            for v in 0..NV {
                factors[v] = V::load(w.add(v * V::LANES));
            }
            w = w.add(lanes);
            for i in 0..MR {
                let x = V::splat(*from[i].add(at));
                for v in 0..NV {
                    sums[i][v] = x.mul_add(factors[v], sums[i][v]);
                }
            }
            at += step;
        }
        for i in 0..MR {
            let to = to.add(i * lanes);
            if add {
                for v in 0..NV {
                    sums[i][v] = sums[i][v].add(V::load(to.add(v * V::LANES)));
                }
            }
            put(sums[i], to, lanes);
        }
    }
}
