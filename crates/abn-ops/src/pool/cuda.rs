//! Pooling on a GPU.

use candle_core::{DType, Tensor};

use super::windows::{Axis, Windows};
use crate::Result;
use crate::cuda::{Arg, Grid, Of, launch, unwritten};

/// `struct Windows` of the kernels.
fn words(windows: &Windows) -> [u64; 11] {
    let axis = |axis: &Axis| {
        let [kernel, stride, padding] =
            axis.sliding.map_or([0; 3], |config| [config.kernel, config.stride, config.padding]);
        [axis.windows.len(), axis.inputs.len(), kernel, stride, padding].map(|size| size as u64)
    };
    let mut words = [windows.channels as u64; 11];
    words[..5].copy_from_slice(&axis(&windows.rows));
    words[5..10].copy_from_slice(&axis(&windows.columns));
    words
}

/// With the pixels of the maxima, if they are asked for.
pub fn max(
    op: &'static str,
    x: &Tensor,
    windows: &Windows,
    winners: bool,
) -> Result<(Tensor, Option<Tensor>)> {
    let y = unwritten(x, x.dtype(), windows.output_shape())?;
    let winners = winners.then(|| unwritten(x, DType::U32, windows.output_shape())).transpose()?;
    let (count, words) = (y.elem_count(), words(windows));
    let args = [
        Arg::read(x),
        Arg::write(&y),
        Arg::or_null(winners.as_ref(), |winners| Arg::Out(Of::Index, winners)),
        Arg::Size(count),
        Arg::Words(&words),
    ];
    launch(op, "max_pool", x, Grid::each(count), &args)?;
    Ok((y, winners))
}

pub fn max_backward(
    op: &'static str,
    dy: &Tensor,
    winners: &Tensor,
    windows: &Windows,
) -> Result<Tensor> {
    let dx = unwritten(dy, dy.dtype(), windows.input_shape())?;
    let (count, words) = (dx.elem_count(), words(windows));
    let args = [
        Arg::read(dy),
        Arg::In(Of::Index, winners),
        Arg::write(&dx),
        Arg::Size(count),
        Arg::Words(&words),
    ];
    launch(op, "max_pool_gradient", dy, Grid::each(count), &args)?;
    Ok(dx)
}

pub fn mean(op: &'static str, x: &Tensor, windows: &Windows) -> Result<Tensor> {
    let y = unwritten(x, x.dtype(), windows.output_shape())?;
    let (count, words) = (y.elem_count(), words(windows));
    let args = [Arg::read(x), Arg::write(&y), Arg::Size(count), Arg::Words(&words)];
    launch(op, "mean_pool", x, Grid::each(count), &args)?;
    Ok(y)
}

pub fn mean_backward(op: &'static str, dy: &Tensor, windows: &Windows) -> Result<Tensor> {
    let dx = unwritten(dy, dy.dtype(), windows.input_shape())?;
    let (count, words) = (dx.elem_count(), words(windows));
    let args = [Arg::read(dy), Arg::write(&dx), Arg::Size(count), Arg::Words(&words)];
    launch(op, "mean_pool_gradient", dy, Grid::each(count), &args)?;
    Ok(dx)
}
