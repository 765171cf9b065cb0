//! Biases and their gradients: what is the same for every row of a matrix.

use candle_core::{DType, Tensor};

use super::{Arg, Grid, Of, launch, unwritten, wide};
use crate::Result;

/// Adds a bias (C) to each row of `y` (…, C), in place.
pub(crate) fn add_bias(op: &'static str, y: &Tensor, bias: &Tensor) -> Result<()> {
    let count = y.elem_count();
    let args =
        [Arg::write(y), Arg::read_wide(bias), Arg::Size(count), Arg::Size(bias.elem_count())];
    launch(op, "add_bias", y, Grid::each(count), &args)
}

/// The sum over the rows of `x` (…, `columns`), in a fixed order, in f32 or f64.
pub(crate) fn column_sums(op: &'static str, x: &Tensor, columns: usize) -> Result<Tensor> {
    let rows = x.elem_count() / columns;
    let width = columns.next_power_of_two().min(32);
    let height = 256 / width;
    let chunks = rows.div_ceil(height * 8).clamp(1, 256);
    let chunk = rows.div_ceil(chunks).max(1);
    let chunks = rows.div_ceil(chunk);
    let partial = unwritten(x, DType::F64, (chunks, columns))?;
    let blocks = [columns.div_ceil(width), chunks, 1];
    let args = [
        Arg::read(x),
        Arg::Out(Of::Double, &partial),
        Arg::Size(rows),
        Arg::Size(columns),
        Arg::Size(chunk),
    ];
    launch(op, "column_sums", x, Grid { blocks, threads: [width, height] }, &args)?;
    let sums = unwritten(x, wide(op, x.dtype())?, columns)?;
    let args = [
        Arg::In(Of::Double, &partial),
        Arg::write_wide(&sums),
        Arg::Size(chunks),
        Arg::Size(columns),
        Arg::Real(1.0),
    ];
    let grid = Grid { blocks: [columns.div_ceil(8), 1, 1], threads: [8, 32] };
    launch(op, "fold_columns", x, grid, &args)?;
    Ok(sums)
}

/// The same numbers in the type of feature maps like `like`: `x` itself if that is its type.
pub(crate) fn to_element(op: &'static str, x: &Tensor, like: &Tensor) -> Result<Tensor> {
    if x.dtype() == like.dtype() { Ok(x.clone()) } else { convert_to(op, x, like.dtype()) }
}

/// The same numbers in a type of feature maps, of which `x`'s is that of parameters.
pub(crate) fn convert_to(op: &'static str, x: &Tensor, dtype: DType) -> Result<Tensor> {
    let y = unwritten(x, dtype, x.shape())?;
    let args = [Arg::read_wide(x), Arg::write(&y), Arg::Size(x.elem_count())];
    launch(op, "to_element", &y, Grid::each(x.elem_count()), &args)?;
    Ok(y)
}

/// The same numbers in the type of parameters: `x` itself if that is its type.
pub(crate) fn to_wide(op: &'static str, x: Tensor) -> Result<Tensor> {
    let dtype = wide(op, x.dtype())?;
    if x.dtype() == dtype {
        return Ok(x);
    }
    let y = unwritten(&x, dtype, x.shape())?;
    let args = [Arg::read(&x), Arg::write_wide(&y), Arg::Size(x.elem_count())];
    launch(op, "to_wide", &x, Grid::each(x.elem_count()), &args)?;
    Ok(y)
}
