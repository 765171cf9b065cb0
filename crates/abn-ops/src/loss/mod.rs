//! Softmax, and the losses: cross-entropy of softmax and of the logistic function, from logits.

mod cpu;
#[cfg(gpu)]
pub(crate) mod cuda;
mod tasks;
#[cfg(test)]
mod tests;

pub use tasks::task_loss;

use candle_core::{DType, Tensor};

use crate::host::{by_device, by_dtype, host, on_gpu};
use crate::{Error, Result, Tracked, cost};

/// Mean over the batch of `-log softmax(logits)[label]`, in nats, without overflow.
///
/// # Shapes
/// `logits` (N, K), `labels` (N) in u32, to a scalar. PyTorch: `F.cross_entropy(logits, labels)`.
///
/// # Errors
/// If a label is not below K (the error names the sample), the batch is empty, or on other shapes
/// or types. Labels that lie on a GPU are not looked at, which would wait for it: there, a label that
/// is not below K makes the loss NaN.
pub fn softmax_cross_entropy(logits: &Tracked, labels: &Tensor) -> Result<Tracked> {
    smoothed_softmax_cross_entropy(logits, labels, 0.0)
}

/// [`softmax_cross_entropy`] against targets of which the share `smoothing` is spread evenly over
/// all classes, the label's included: the mean over the batch of `-Σ t·log softmax(logits)` with
/// `t = smoothing / K`, and `1 - smoothing` more at the label.
///
/// With a `smoothing` of 0 it is [`softmax_cross_entropy`], to the bit.
///
/// # Shapes
/// As there. PyTorch: `F.cross_entropy(logits, labels, label_smoothing=smoothing)`.
///
/// # Errors
/// As there, and if `smoothing` is not in 0 to 1.
pub fn smoothed_softmax_cross_entropy(
    logits: &Tracked,
    labels: &Tensor,
    smoothing: f64,
) -> Result<Tracked> {
    const OP: &str = "softmax_cross_entropy";
    if !(0.0..=1.0).contains(&smoothing) {
        return Err(Error::config(OP, format!("label smoothing {smoothing} is not in 0 to 1")));
    }
    let &[n, k] = logits.dims() else {
        return Err(Error::shape(OP, "logits (N, K)", logits.dims()));
    };
    if n == 0 || k == 0 {
        return Err(Error::shape(OP, "at least one sample and one class", logits.dims()));
    }
    if labels.dims() != [n] {
        return Err(Error::shape(OP, format!("{n} labels"), labels.dims()));
    }
    if labels.dtype() != DType::U32 {
        let what = format!("labels of {:?}; u32 is expected", labels.dtype());
        return Err(Error::Unsupported { op: OP, what });
    }
    if let Some(value) = cost::shape_only((), logits.value().dtype(), 0)? {
        return Ok(Tracked::constant(value));
    }
    on_gpu!(logits.value() => {
        // What lies on the host is looked at there. Labels on the GPU are not waited for: one that
        // is out of range makes the loss NaN.
        if labels.device().is_cpu() {
            check_labels(OP, &labels.to_vec1::<u32>()?, k)?;
        }
        let labels = labels.to_device(logits.value().device())?.contiguous()?;
        cuda::cross_entropy(OP, logits, logits.value().contiguous()?, labels, smoothing)
    });
    let labels = labels.to_vec1::<u32>()?;
    check_labels(OP, &labels, k)?;
    let x = logits.value().contiguous()?;
    let loss = by_dtype!(OP, &x, T => cpu::cross_entropy::<T>(&host(OP, &x)?, &labels, smoothing))?;
    Ok(Tracked::from_op(loss, &[logits], move |grad| {
        let dx = by_dtype!(OP, &x, T => {
            let grad = host::<T>(OP, &grad)?[0];
            cpu::cross_entropy_backward(&host(OP, &x)?, &labels, smoothing, grad, x.shape())
        })?;
        Ok(vec![Some(dx)])
    }))
}

fn check_labels(op: &'static str, labels: &[u32], classes: usize) -> Result<()> {
    match labels.iter().position(|&label| label as usize >= classes) {
        Some(sample) => Err(Error::Label { op, sample, label: labels[sample], classes }),
        None => Ok(()),
    }
}

/// Mean over all elements of `-t·log σ(x) - (1-t)·log(1-σ(x))`, in nats, without overflow.
///
/// # Shapes
/// `logits` and `targets` (any one shape; targets in 0..=1), to a scalar.
/// PyTorch: `F.binary_cross_entropy_with_logits(logits, targets)`. Targets get no gradient.
///
/// # Errors
/// If the shapes differ or are empty.
pub fn bce_with_logits(logits: &Tracked, targets: &Tensor) -> Result<Tracked> {
    const OP: &str = "bce_with_logits";
    if logits.dims() != targets.dims() {
        let expected = format!("targets of {:?}", logits.dims());
        return Err(Error::shape(OP, expected, targets.dims()));
    }
    if logits.value().elem_count() == 0 {
        return Err(Error::shape(OP, "at least one element", logits.dims()));
    }
    if let Some(value) = cost::shape_only((), logits.value().dtype(), 0)? {
        return Ok(Tracked::constant(value));
    }
    let (x, t) = (logits.value().contiguous()?, targets.contiguous()?);
    on_gpu!(&x => {
        let t = t.to_dtype(crate::cuda::wide(OP, x.dtype())?)?;
        cuda::bce(OP, logits, x, t)
    });
    let loss = by_dtype!(OP, &x, T => cpu::bce::<T>(&host(OP, &x)?, &host(OP, &t)?))?;
    Ok(Tracked::from_op(loss, &[logits], move |grad| {
        let dx = by_dtype!(OP, &x, T => {
            let grad = host::<T>(OP, &grad)?[0];
            cpu::bce_backward::<T>(&host(OP, &x)?, &host(OP, &t)?, grad, x.shape())
        })?;
        Ok(vec![Some(dx)])
    }))
}

/// Class probabilities: `exp(x) / sum(exp(x))` over the last dimension, without overflow and
/// without gradient.
///
/// # Shapes
/// (…, K), to the same. PyTorch: `logits.softmax(-1)`.
///
/// # Errors
/// If the tensor is a scalar.
pub fn softmax(logits: &Tensor) -> Result<Tensor> {
    const OP: &str = "softmax";
    let Some(&k) = logits.dims().last() else {
        return Err(Error::shape(OP, "(…, K)", logits.dims()));
    };
    if let Some(value) = cost::shape_only(logits.shape(), logits.dtype(), 0)? {
        return Ok(value);
    }
    let x = logits.contiguous()?;
    by_device!(
        OP,
        &x,
        gpu => cuda::softmax(OP, &x, k),
        T => cpu::softmax::<T>(&host(OP, &x)?, k, x.shape())
    )
}
