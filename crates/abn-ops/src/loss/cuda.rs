//! Softmax and the losses on a GPU.

use candle_core::{DType, Tensor};

use crate::cuda::{Arg, Grid, Of, launch, unwritten, unwritten_like, wide};
use crate::{Result, Tracked};

/// Rows handled by 32 threads each.
fn by_rows(rows: usize) -> Grid {
    Grid { blocks: [rows.div_ceil(8), 1, 1], threads: [32, 8] }
}

/// The mean of the losses times a factor, in f32 or f64.
fn mean(op: &'static str, losses: &Tensor, factor: f64, like: &Tensor) -> Result<Tensor> {
    let y = unwritten(like, wide(op, like.dtype())?, ())?;
    let count = losses.elem_count();
    let args = [
        Arg::In(Of::Double, losses),
        Arg::write_wide(&y),
        Arg::Size(count),
        Arg::Size(1),
        Arg::Real(factor / count as f64),
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
    launch(op, "cross_entropy", &x, by_rows(n), &[&tensors[..], &sizes].concat())?;
    let loss = mean(op, &losses, 1.0, &x)?;
    Ok(Tracked::from_op(loss, &[logits], move |grad| {
        let dx = unwritten_like(&x)?;
        let tensors = [Arg::read(&x), Arg::In(Of::Index, &labels), Arg::read_wide(&grad)];
        let args = [&tensors[..], &[Arg::write(&dx)], &sizes].concat();
        launch(op, "cross_entropy_gradient", &x, by_rows(n), &args)?;
        Ok(vec![Some(dx)])
    }))
}

/// Tasks of a kernel's table (`tasks.h`).
pub const TASKS: usize = 96;

/// A kernel's argument that names some tasks: the scores of each, where their gradients go if they do, and the first
/// one's column of the labels.
pub fn task_table<'a>(
    scores: &[&'a Tensor],
    gradients: Option<&'a [Tensor]>,
    first: usize,
) -> Vec<Arg<'a>> {
    let mut table = vec![Arg::Begin];
    for (i, &scores) in scores.iter().enumerate() {
        let gradient = Arg::or_null(gradients.map(|gradients| &gradients[i]), Arg::write);
        let sizes = [scores.dims()[1], first + i].map(Arg::Size);
        table.extend([Arg::read(scores), gradient, sizes[0], sizes[1]]);
    }
    table.push(Arg::End(4 * TASKS));
    table
}

/// As [`super::task_loss`].
pub fn task_loss(
    op: &'static str,
    logits: &[Tracked],
    xs: Vec<Tensor>,
    labels: Tensor,
    first: usize,
    factor: f64,
) -> Result<Tracked> {
    let (tasks, (n, all)) = (xs.len(), labels.dims2()?);
    let sizes = [n, all].map(Arg::Size);
    let grid = move |tasks| Grid { blocks: [n.div_ceil(8), tasks, 1], threads: [32, 8] };
    let losses = unwritten(&xs[0], DType::F64, (tasks, n))?;
    for (some, at) in xs.chunks(TASKS).zip((0..).step_by(TASKS)) {
        let there = losses.narrow(0, at, some.len())?;
        let table = task_table(&some.iter().collect::<Vec<_>>(), None, first + at);
        let tensors = [Arg::In(Of::Index, &labels), Arg::Out(Of::Double, &there)];
        let args = [&table[..], &tensors, &sizes].concat();
        launch(op, "task_losses", &xs[0], grid(some.len()), &args)?;
    }
    let loss = mean(op, &losses, factor * tasks as f64, &xs[0])?;
    let inputs: Vec<&Tracked> = logits.iter().collect();
    Ok(Tracked::from_op(loss, &inputs, move |grad| {
        let dxs = xs.iter().map(unwritten_like).collect::<Result<Vec<_>>>()?;
        for ((some, gradients), at) in
            xs.chunks(TASKS).zip(dxs.chunks(TASKS)).zip((0..).step_by(TASKS))
        {
            let scores: Vec<_> = some.iter().collect();
            let table = task_table(&scores, Some(gradients), first + at);
            let tensors = [Arg::In(Of::Index, &labels), Arg::read_wide(&grad)];
            let args = [&table[..], &tensors, &sizes, &[Arg::Real(factor)]].concat();
            launch(op, "task_gradients", &xs[0], grid(some.len()), &args)?;
        }
        Ok(dxs.into_iter().map(Some).collect())
    }))
}

/// The targets are of the losses' type.
pub fn bce(op: &'static str, logits: &Tracked, x: Tensor, targets: Tensor) -> Result<Tracked> {
    let losses = unwritten(&x, DType::F64, x.elem_count())?;
    let count = x.elem_count();
    let args =
        [Arg::read(&x), Arg::read_wide(&targets), Arg::Out(Of::Double, &losses), Arg::Size(count)];
    launch(op, "bce", &x, Grid::each(count), &args)?;
    let loss = mean(op, &losses, 1.0, &x)?;
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
