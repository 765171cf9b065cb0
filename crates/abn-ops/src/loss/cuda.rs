//! Softmax and the losses on a GPU.

use candle_core::{DType, Tensor};

use crate::cuda::{Arg, Grid, Of, launch, unwritten, unwritten_like, wide};
use crate::{Result, Tracked};

/// Rows handled by 32 threads each.
fn by_rows(rows: usize) -> Grid {
    Grid { blocks: [rows.div_ceil(8), 1, 1], threads: [32, 8] }
}

/// The mean of the losses, in f32 or f64.
fn mean(op: &'static str, losses: &Tensor, like: &Tensor) -> Result<Tensor> {
    let y = unwritten(like, wide(op, like.dtype())?, ())?;
    let count = losses.elem_count();
    let args = [
        Arg::In(Of::Double, losses),
        Arg::write_wide(&y),
        Arg::Size(count),
        Arg::Size(1),
        Arg::Real(1.0 / count as f64),
    ];
    // One column, whose rows all threads of one block add up.
    launch(op, "fold_columns", like, Grid { blocks: [1, 1, 1], threads: [1, 256] }, &args)?;
    Ok(y)
}

pub fn cross_entropy(
    op: &'static str,
    logits: &Tracked,
    x: Tensor,
    labels: Tensor,
    smoothing: f64,
) -> Result<Tracked> {
    let (n, k) = x.dims2()?;
    let losses = unwritten(&x, DType::F64, n)?;
    let sizes = [Arg::Size(n), Arg::Size(k), Arg::Real(smoothing)];
    let tensors = [Arg::read(&x), Arg::In(Of::Index, &labels), Arg::Out(Of::Double, &losses)];
    launch(op, "cross_entropy", &x, by_rows(n), &[tensors, sizes].concat())?;
    let loss = mean(op, &losses, &x)?;
    Ok(Tracked::from_op(loss, &[logits], move |grad| {
        let dx = unwritten_like(&x)?;
        let tensors =
            [Arg::read(&x), Arg::In(Of::Index, &labels), Arg::read_wide(&grad), Arg::write(&dx)];
        let args = [&tensors[..], &sizes].concat();
        launch(op, "cross_entropy_gradient", &x, by_rows(n), &args)?;
        Ok(vec![Some(dx)])
    }))
}

/// The targets are of the losses' type.
pub fn bce(op: &'static str, logits: &Tracked, x: Tensor, targets: Tensor) -> Result<Tracked> {
    let losses = unwritten(&x, DType::F64, x.elem_count())?;
    let count = x.elem_count();
    let args =
        [Arg::read(&x), Arg::read_wide(&targets), Arg::Out(Of::Double, &losses), Arg::Size(count)];
    launch(op, "bce", &x, Grid::each(count), &args)?;
    let loss = mean(op, &losses, &x)?;
    Ok(Tracked::from_op(loss, &[logits], move |grad| {
        let dx = unwritten_like(&x)?;
        let args = [
            Arg::read(&x),
            Arg::read_wide(&targets),
            Arg::read_wide(&grad),
            Arg::write(&dx),
            Arg::Size(count),
        ];
        launch(op, "bce_gradient", &x, Grid::each(count), &args)?;
        Ok(vec![Some(dx)])
    }))
}

pub fn softmax(op: &'static str, x: &Tensor, k: usize) -> Result<Tensor> {
    let y = unwritten_like(x)?;
    let rows = x.elem_count() / k.max(1);
    let args = [Arg::read(x), Arg::write(&y), Arg::Size(rows), Arg::Size(k)];
    launch(op, "softmax", x, by_rows(rows), &args)?;
    Ok(y)
}
