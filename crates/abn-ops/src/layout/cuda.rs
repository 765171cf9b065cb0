//! The changes of layout and number type on a GPU.

use candle_core::{DType, Shape, Tensor};

use crate::Result;
use crate::concat::cuda::{Columns, copy};
use crate::cuda::{Arg, Grid, convert_to, launch, to_wide, unwritten, unwritten_like};

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

/// The same numbers.
pub fn duplicate(x: &Tensor) -> Result<Tensor> {
    let y = unwritten_like(x)?;
    let all = Columns { width: x.elem_count(), start: 0 };
    copy("duplicate", (x, all), (&y, all), x.elem_count())?;
    Ok(y)
}

/// The same numbers, rounded to nearest.
pub fn convert(op: &'static str, x: &Tensor, dtype: DType) -> Result<Tensor> {
    match (x.dtype(), dtype) {
        (DType::F32, DType::BF16) => convert_to(op, &x.contiguous()?, dtype),
        (DType::BF16, DType::F32) => to_wide(op, x.contiguous()?),
        _ => Ok(x.to_dtype(dtype)?),
    }
}
