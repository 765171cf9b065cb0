//! The loss of several tasks.

use std::ops::Range;

use candle_core::{DType, Tensor};

#[cfg(gpu)]
use super::cuda;
use super::{check_labels, cpu};
use crate::host::{Element, by_dtype, host, on_gpu, tensor};
use crate::{Error, Result, Tracked, cost};

const OP: &str = "task_loss";

/// `factor` times the sum over some tasks of each one's mean loss over the batch, in nats: for one logit
/// binary cross-entropy (label 1 is yes), for several the cross-entropy of their softmax.
///
/// # Shapes
/// `logits` (N, C_t) for each task; `labels` (N, T), u32, in whose columns `tasks` theirs are. Gives a scalar.
///
/// # Errors
/// If a label is none of its task's answers (names the sample), there are no tasks or no samples, or on other
/// shapes or types. Labels that lie on a GPU are not looked at, as in [`softmax_cross_entropy`](crate::softmax_cross_entropy).
pub fn task_loss(
    logits: &[Tracked],
    labels: &Tensor,
    tasks: Range<usize>,
    factor: f64,
) -> Result<Tracked> {
    let (Some(first), &[n, all]) = (logits.first(), labels.dims()) else {
        return Err(Error::shape(OP, "logits, and labels (N, T)", labels.dims()));
    };
    if tasks.len() != logits.len() || tasks.end > all || n == 0 {
        let what = format!("{} tasks' labels of {:?}", logits.len(), [n, all]);
        return Err(Error::config(OP, format!("columns {tasks:?} are not {what}")));
    }
    for logits in logits {
        if !matches!(*logits.dims(), [rows, columns] if rows == n && columns > 0) {
            return Err(Error::shape(OP, format!("logits ({n}, C)"), logits.dims()));
        }
    }
    if labels.dtype() != DType::U32 {
        let what = format!("labels of {:?}; u32 is expected", labels.dtype());
        return Err(Error::Unsupported { op: OP, what });
    }
    if let Some(value) = cost::shape_only((), first.value().dtype(), 0)? {
        return Ok(Tracked::constant(value));
    }
    let xs = logits.iter().map(|x| Ok(x.value().contiguous()?)).collect::<Result<Vec<_>>>()?;
    on_gpu!(&xs[0] => {
        // What lies on the host is looked at there, and the GPU's labels are not waited for.
        if labels.device().is_cpu() {
            columns(labels, tasks.clone(), &xs)?;
        }
        let labels = labels.to_device(xs[0].device())?.contiguous()?;
        cuda::task_loss(OP, logits, xs, labels, tasks.start, factor)
    });
    let labels = columns(labels, tasks, &xs)?;
    by_dtype!(OP, &xs[0], T => on_host::<T>(logits, xs, labels, factor))
}

/// The labels of each of the tasks, all of which are answers to it.
fn columns(labels: &Tensor, tasks: Range<usize>, xs: &[Tensor]) -> Result<Vec<Vec<u32>>> {
    let rows = labels.to_vec2::<u32>()?;
    let column = |(t, x): (usize, &Tensor)| {
        let labels: Vec<u32> = rows.iter().map(|row| row[t]).collect();
        check_labels(OP, &labels, x.dims()[1].max(2)).map(|()| labels)
    };
    tasks.zip(xs).map(column).collect()
}

fn on_host<T: Element>(
    logits: &[Tracked],
    xs: Vec<Tensor>,
    labels: Vec<Vec<u32>>,
    factor: f64,
) -> Result<Tracked> {
    let factor = <T as Element>::of(factor);
    let targets = |labels: &[u32]| -> Vec<T> {
        labels.iter().map(|&label| <T as Element>::of(f64::from(label))).collect()
    };
    let mut sum = T::zero();
    for (x, labels) in xs.iter().zip(&labels) {
        let x = (host::<T>(OP, x)?, x.dims()[1]);
        let loss = match x {
            (x, 1) => cpu::bce(&x, &targets(labels)),
            (x, _) => cpu::cross_entropy(&x, labels, 0.0),
        }?;
        sum += host::<T>(OP, &loss)?[0];
    }
    let inputs: Vec<&Tracked> = logits.iter().collect();
    Ok(Tracked::from_op(tensor(vec![sum * factor], ())?, &inputs, move |grad| {
        let grad = host::<T>(OP, &grad)?[0] * factor;
        let gradient = |(x, labels): (&Tensor, &Vec<u32>)| {
            let (values, shape) = (host::<T>(OP, x)?, x.shape());
            Ok(Some(match x.dims()[1] {
                1 => cpu::bce_backward(&values, &targets(labels), grad, shape),
                _ => cpu::cross_entropy_backward(&values, labels, 0.0, grad, shape),
            }?))
        };
        xs.iter().zip(&labels).map(gradient).collect()
    }))
}
