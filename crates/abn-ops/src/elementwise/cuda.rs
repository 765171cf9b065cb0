//! The elementwise passes on a GPU.

use candle_core::Tensor;

use crate::Result;
use crate::cuda::{Arg, Grid, launch, packed, unwritten_like};

/// Runs a kernel whose arguments end in the number of elements and whether they are packed.
fn map<'a>(
    op: &'static str,
    kernel: &'static str,
    tensors: &[&Tensor],
    args: impl IntoIterator<Item = Arg<'a>>,
    more: &[Arg<'a>],
) -> Result<()> {
    let (like, count) = (tensors[0], tensors[0].elem_count());
    let mut args: Vec<Arg<'_>> = args.into_iter().collect();
    args.push(Arg::Size(count));
    args.extend(more);
    args.push(Arg::Flag(packed(tensors)));
    launch(op, kernel, like, Grid::map(count, like.dtype()), &args)
}

pub fn add(op: &'static str, a: &Tensor, b: &Tensor) -> Result<Tensor> {
    let y = unwritten_like(a)?;
    map(op, "add", &[a, b, &y], [Arg::read(a), Arg::read(b), Arg::write(&y)], &[])?;
    Ok(y)
}

pub fn add_assign(op: &'static str, sum: &Tensor, term: &Tensor) -> Result<()> {
    let args = [Arg::read(sum), Arg::read(term), Arg::write(sum)];
    map(op, "add", &[sum, term], args, &[])
}

pub fn relu(op: &'static str, x: &Tensor) -> Result<Tensor> {
    let y = unwritten_like(x)?;
    map(op, "relu", &[x, &y], [Arg::read(x), Arg::write(&y)], &[])?;
    Ok(y)
}

/// In place.
pub fn relu_backward(op: &'static str, grad: &Tensor, y: &Tensor, guided: bool) -> Result<()> {
    let args = [Arg::write(grad), Arg::read(y)];
    map(op, "relu_backward", &[grad, y], args, &[Arg::Flag(guided)])
}

pub fn sigmoid(op: &'static str, x: &Tensor) -> Result<Tensor> {
    let y = unwritten_like(x)?;
    map(op, "sigmoid", &[x, &y], [Arg::read(x), Arg::write(&y)], &[])?;
    Ok(y)
}

/// In place.
pub fn sigmoid_backward(op: &'static str, grad: &Tensor, y: &Tensor) -> Result<()> {
    map(op, "sigmoid_backward", &[grad, y], [Arg::write(grad), Arg::read(y)], &[])
}
