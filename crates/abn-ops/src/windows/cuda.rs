//! Windows on a GPU.

use candle_core::Tensor;

use super::OP;
use crate::Result;
use crate::cuda::{Arg, Grid, Of, launch};

pub fn cut(images: &Tensor, windows: &Tensor, levels: &Tensor, output: &Tensor) -> Result<()> {
    let (count, rows, columns, channels) = images.dims4()?;
    let (_, _, height, width) = output.dims4()?;
    let elements = output.elem_count();
    let tensors = [
        Arg::In(Of::Byte, images),
        Arg::In(Of::Index, windows),
        Arg::read(levels),
        Arg::write(output),
    ];
    let sizes = [elements, height, width, count, rows, columns, channels].map(Arg::Size);
    launch(OP, "cut_windows", output, Grid::each(elements), &[&tensors[..], &sizes].concat())
}
