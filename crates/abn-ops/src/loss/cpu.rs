//! CPU kernels of softmax and the losses: inputs are small, so sums and exponentials are in f64.

use candle_core::{Shape, Tensor};
use rayon::prelude::*;

use crate::Result;
use crate::elementwise::logistic;
use crate::host::{Element, tensor};

/// Largest logit and log of the sum of exponentials beyond it.
fn log_sum_exp<T: Element>(row: &[T]) -> (f64, f64) {
    let max = row.iter().fold(f64::NEG_INFINITY, |m, x| m.max(x.wide()));
    let sum: f64 = row.iter().map(|x| (x.wide() - max).exp()).sum();
    (max, sum.ln())
}

pub fn cross_entropy<T: Element>(x: &[T], labels: &[u32], smoothing: f64) -> Result<Tensor> {
    let k = x.len() / labels.len();
    let losses: Vec<f64> = (x.par_chunks_exact(k), labels)
        .into_par_iter()
        .map(|(row, &label)| {
            let (max, log_sum) = log_sum_exp(row);
            let of_label = log_sum - (row[label as usize].wide() - max);
            if smoothing == 0.0 {
                return of_label;
            }
            let below_max: f64 = row.iter().map(|x| x.wide() - max).sum();
            let of_all = log_sum - below_max / k as f64;
            (1.0 - smoothing) * of_label + smoothing * of_all
        })
        .collect();
    tensor(vec![T::of(losses.iter().sum::<f64>() / labels.len() as f64)], ())
}

pub fn cross_entropy_backward<T: Element>(
    x: &[T],
    labels: &[u32],
    smoothing: f64,
    grad: T,
    shape: &Shape,
) -> Result<Tensor> {
    let k = x.len() / labels.len();
    let scale = grad.wide() / labels.len() as f64;
    let off = smoothing / k as f64;
    let on = 1.0 - smoothing + off;
    let mut dx = vec![T::zero(); x.len()];
    (dx.par_chunks_exact_mut(k), x.par_chunks_exact(k), labels).into_par_iter().for_each(
        |(dx, row, &label)| {
            let (max, log_sum) = log_sum_exp(row);
            for (i, (dx, x)) in dx.iter_mut().zip(row).enumerate() {
                let probability = (x.wide() - max - log_sum).exp();
                let target = if i == label as usize { on } else { off };
                *dx = T::of(scale * (probability - target));
            }
        },
    );
    tensor(dx, shape.clone())
}

pub fn softmax<T: Element>(x: &[T], k: usize, shape: &Shape) -> Result<Tensor> {
    let mut y = vec![T::zero(); x.len()];
    if !y.is_empty() {
        y.par_chunks_exact_mut(k).zip(x.par_chunks_exact(k)).for_each(|(y, row)| {
            let (max, log_sum) = log_sum_exp(row);
            for (y, x) in y.iter_mut().zip(row) {
                *y = T::of((x.wide() - max - log_sum).exp());
            }
        });
    }
    tensor(y, shape.clone())
}

pub fn bce<T: Element>(x: &[T], targets: &[T]) -> Result<Tensor> {
    let sum: f64 = x
        .iter()
        .zip(targets)
        .map(|(x, t)| {
            let (x, t) = (x.wide(), t.wide());
            x.max(0.0) - x * t + (-x.abs()).exp().ln_1p()
        })
        .sum();
    tensor(vec![T::of(sum / x.len() as f64)], ())
}

pub fn bce_backward<T: Element>(x: &[T], targets: &[T], grad: T, shape: &Shape) -> Result<Tensor> {
    let scale = grad.wide() / x.len() as f64;
    let dx = x.iter().zip(targets).map(|(x, t)| T::of(scale * (logistic(x.wide()) - t.wide())));
    tensor(dx.collect(), shape.clone())
}
