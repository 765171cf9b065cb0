//! CPU kernel of the change of layout.

use candle_core::{Shape, Tensor};
use rayon::prelude::*;

use crate::Result;
use crate::host::{Element, tensor, unwritten};

/// Side of the tiles that are transposed at once: a tile's lines, read and written, fit the
/// first-level cache.
const TILE: usize = 32;

/// (n, rows, columns) to (n, columns, rows).
pub fn transpose<T: Element>(
    x: &[T],
    [_, rows, columns]: [usize; 3],
    shape: Shape,
) -> Result<Tensor> {
    // SAFETY: the tiles cover every element.
    let mut y = unsafe { unwritten::<T>(x.len()) };
    if !x.is_empty() {
        let size = rows * columns;
        y.par_chunks_mut(size).zip(x.par_chunks(size)).for_each(|(y, x)| {
            for r0 in (0..rows).step_by(TILE) {
                for c0 in (0..columns).step_by(TILE) {
                    tile(y, x, rows, columns, r0, c0);
                }
            }
        });
    }
    tensor(y, shape)
}

fn tile<T: Element>(y: &mut [T], x: &[T], rows: usize, columns: usize, r0: usize, c0: usize) {
    let r1 = (r0 + TILE).min(rows);
    for c in c0..(c0 + TILE).min(columns) {
        for (r, y) in (r0..r1).zip(&mut y[c * rows + r0..c * rows + r1]) {
            *y = x[r * columns + c];
        }
    }
}
