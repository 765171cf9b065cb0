//! The sum of logarithms on a GPU.

use candle_core::{Shape, Tensor};

use crate::Result;
use crate::cuda::{Arg, Grid, launch, unwritten, unwritten_like};

pub fn forward(op: &'static str, x: &Tensor, channels: usize, shape: Shape) -> Result<Tensor> {
    let y = unwritten(x, x.dtype(), shape)?;
    let rows = y.elem_count();
    let args = [Arg::read(x), Arg::write(&y), Arg::Size(rows), Arg::Size(channels)];
    let grid = Grid { blocks: [rows.div_ceil(8), 1, 1], threads: [32, 8] };
    launch(op, "log1p_sum", x, grid, &args)?;
    Ok(y)
}

pub fn backward(op: &'static str, grad: &Tensor, x: &Tensor, channels: usize) -> Result<Tensor> {
    let dx = unwritten_like(x)?;
    let count = x.elem_count();
    let args =
        [Arg::read(grad), Arg::read(x), Arg::write(&dx), Arg::Size(count), Arg::Size(channels)];
    launch(op, "log1p_sum_gradient", x, Grid::each(count), &args)?;
    Ok(dx)
}
