//! Rows copied in and out on a GPU.

use candle_core::{Shape, Tensor};

use crate::Result;
use crate::cuda::{Arg, Grid, launch, packed, unwritten};

/// Some columns of a matrix.
#[derive(Clone, Copy)]
pub struct Columns {
    /// Columns of the matrix.
    pub width: usize,
    /// The first of them.
    pub start: usize,
}

/// Copies `count` columns to others.
pub fn copy(
    op: &'static str,
    (x, from): (&Tensor, Columns),
    (y, to): (&Tensor, Columns),
    count: usize,
) -> Result<()> {
    if count == 0 {
        return Ok(());
    }
    let rows = x.elem_count() / from.width;
    let lanes = 16 / x.dtype().size_in_bytes();
    let sizes = [count, from.width, from.start, to.width, to.start];
    let packs = packed(&[x, y]) && sizes.iter().all(|size| size.is_multiple_of(lanes));
    let threads = rows * if packs { count / lanes } else { count };
    let mut args = vec![Arg::read(x), Arg::write(y), Arg::Size(rows)];
    args.extend(sizes.map(Arg::Size));
    args.push(Arg::Flag(packs));
    launch(op, "copy_columns", x, Grid::each(threads), &args)
}

/// Row by row, the parts' rows one after the other.
pub fn join(op: &'static str, parts: &[Tensor], widths: &[usize], shape: Shape) -> Result<Tensor> {
    let y = unwritten(&parts[0], parts[0].dtype(), shape)?;
    let width = widths.iter().sum();
    let mut start = 0;
    for (part, &count) in parts.iter().zip(widths) {
        let from = Columns { width: count, start: 0 };
        copy(op, (part, from), (&y, Columns { width, start }), count)?;
        start += count;
    }
    Ok(y)
}

/// The gradient of each part that has one, in a tensor of its own.
pub fn split(
    op: &'static str,
    dy: &Tensor,
    rest: &[usize],
    widths: &[usize],
    tracked: &[bool],
) -> Result<Vec<Option<Tensor>>> {
    let width = widths.iter().sum();
    let mut start = 0;
    let mut parts = Vec::with_capacity(widths.len());
    for (&count, &tracked) in widths.iter().zip(tracked) {
        parts.push(if tracked {
            let part = unwritten(dy, dy.dtype(), [rest, &[count]].concat())?;
            let to = Columns { width: count, start: 0 };
            copy(op, (dy, Columns { width, start }), (&part, to), count)?;
            Some(part)
        } else {
            None
        });
        start += count;
    }
    Ok(parts)
}
