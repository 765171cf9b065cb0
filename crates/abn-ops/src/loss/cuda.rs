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

/// Where the labels are that go with some logits.
#[derive(Clone)]
struct Labels {
    /// (N), or those of several tasks (N, T).
    all: Tensor,
    task: usize,
    smoothing: f64,
}

impl Labels {
    /// Each sample's loss. One logit of several tasks' is the logistic function's.
    fn losses(&self, op: &'static str, x: &Tensor, losses: &Tensor) -> Result<()> {
        let kernels = ["cross_entropy", "logit_loss"];
        self.launch(op, kernels, x, &[Arg::Out(Of::Double, losses)], None)
    }

    /// The gradient of the losses' mean times a factor.
    fn gradient(&self, op: &'static str, x: &Tensor, grad: &Tensor, factor: f64) -> Result<Tensor> {
        let dx = unwritten_like(x)?;
        let kernels = ["cross_entropy_gradient", "logit_loss_gradient"];
        let tensors = [Arg::read_wide(grad), Arg::write(&dx)];
        self.launch(op, kernels, x, &tensors, Some(Arg::Real(factor)))?;
        Ok(dx)
    }

    fn launch(
        &self,
        op: &'static str,
        [softmax, logit]: [&'static str; 2],
        x: &Tensor,
        tensors: &[Arg<'_>],
        last: Option<Arg<'_>>,
    ) -> Result<()> {
        let (n, k) = x.dims2()?;
        let mut args = vec![Arg::read(x), Arg::In(Of::Index, &self.all)];
        args.extend(tensors);
        args.push(Arg::Size(n));
        let (kernel, grid) = match *self.all.dims() {
            [_, _] if k == 1 => (logit, Grid::each(n)),
            _ => {
                args.extend([Arg::Size(k), Arg::Real(self.smoothing)]);
                (softmax, by_rows(n))
            }
        };
        args.extend([self.all.elem_count() / n, self.task].map(Arg::Size));
        args.extend(last);
        launch(op, kernel, x, grid, &args)
    }
}

pub fn cross_entropy(
    op: &'static str,
    logits: &Tracked,
    x: Tensor,
    labels: Tensor,
    smoothing: f64,
) -> Result<Tracked> {
    let losses = unwritten(&x, DType::F64, x.dims()[0])?;
    let labels = Labels { all: labels, task: 0, smoothing };
    labels.losses(op, &x, &losses)?;
    let loss = mean(op, &losses, 1.0, &x)?;
    Ok(Tracked::from_op(loss, &[logits], move |grad| {
        Ok(vec![Some(labels.gradient(op, &x, &grad, 1.0)?)])
    }))
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
    let (tasks, n) = (xs.len(), labels.dims()[0]);
    let losses = unwritten(&xs[0], DType::F64, (tasks, n))?;
    let labels = Labels { all: labels, task: first, smoothing: 0.0 };
    let of = move |i: usize| Labels { task: first + i, ..labels.clone() };
    for (i, x) in xs.iter().enumerate() {
        of(i).losses(op, x, &losses.narrow(0, i, 1)?)?;
    }
    let loss = mean(op, &losses, factor * tasks as f64, &xs[0])?;
    let inputs: Vec<&Tracked> = logits.iter().collect();
    Ok(Tracked::from_op(loss, &inputs, move |grad| {
        let gradient = |(i, x)| Ok(Some(of(i).gradient(op, x, &grad, factor)?));
        xs.iter().enumerate().map(gradient).collect()
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
