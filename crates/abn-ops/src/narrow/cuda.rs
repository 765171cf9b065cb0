//! A part of each row, and back, on a GPU.

use candle_core::{Shape, Tensor};

use crate::Result;
use crate::concat::cuda::{Columns, copy};
use crate::cuda::{Arg, Grid, launch, unwritten};

/// `len` elements from `start` on, of each row of `row`.
pub fn part(
    op: &'static str,
    x: &Tensor,
    [row, start, len]: [usize; 3],
    shape: Shape,
) -> Result<Tensor> {
    let y = unwritten(x, x.dtype(), shape)?;
    let to = Columns { width: len, start: 0 };
    copy(op, (x, Columns { width: row, start }), (&y, to), len)?;
    Ok(y)
}

/// Rows of `row` elements that are zero but for `len` from `start` on.
pub fn pad(
    op: &'static str,
    dy: &Tensor,
    [row, start, len]: [usize; 3],
    shape: Shape,
) -> Result<Tensor> {
    let dx = unwritten(dy, dy.dtype(), shape)?;
    let count = dx.elem_count();
    let sizes = [count, row, start, len].map(Arg::Size);
    let args = [&[Arg::read(dy), Arg::write(&dx)][..], &sizes].concat();
    launch(op, "pad_columns", dy, Grid::each(count), &args)?;
    Ok(dx)
}
