//! The change of layout on a GPU.

use candle_core::{Shape, Tensor};

use crate::Result;
use crate::cuda::{Arg, Grid, launch, unwritten};

/// (n, rows, columns) to (n, columns, rows).
pub fn transpose(
    op: &'static str,
    x: &Tensor,
    [n, rows, columns]: [usize; 3],
    shape: Shape,
) -> Result<Tensor> {
    let y = unwritten(x, x.dtype(), shape)?;
    let blocks = [rows.div_ceil(32) * columns.div_ceil(32), n, 1];
    let args = [Arg::read(x), Arg::write(&y), Arg::Size(rows), Arg::Size(columns)];
    launch(op, "transpose", x, Grid { blocks, threads: [32, 8] }, &args)?;
    Ok(y)
}
