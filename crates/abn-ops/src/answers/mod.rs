//! What scores of several tasks answer.

#[cfg(gpu)]
mod cuda;
#[cfg(test)]
mod tests;

use candle_core::{Device, Tensor};

use crate::host::{Element, by_device, host};
use crate::{Error, Result, cost};

const OP: &str = "task_answers";

/// The answer to each of several tasks: of one score 1 if it is above 0, and of several the first of the highest.
/// Without gradient.
///
/// # Shapes
/// `scores` (N, C_t) for each task, of one number type, to (N, T), u32. PyTorch: `scores.argmax(1)` and `scores > 0`.
///
/// # Errors
/// If there are no tasks, or on other shapes or types.
pub fn task_answers(scores: &[&Tensor]) -> Result<Tensor> {
    let Some(&[n, _]) = scores.first().map(|scores| scores.dims()) else {
        return Err(Error::config(OP, "scores (N, C) of at least one task are expected"));
    };
    for scores in scores {
        if !matches!(*scores.dims(), [rows, columns] if rows == n && columns > 0) {
            return Err(Error::shape(OP, format!("scores ({n}, C)"), scores.dims()));
        }
    }
    if let Some(value) = cost::shape_only((n, scores.len()), candle_core::DType::U32, 0)? {
        return Ok(value);
    }
    let xs = scores.iter().map(|x| Ok(x.contiguous()?)).collect::<Result<Vec<_>>>()?;
    by_device!(
        OP,
        &xs[0],
        gpu => cuda::task_answers(OP, &xs),
        T => on_host::<T>(&xs)
    )
}

fn on_host<T: Element>(scores: &[Tensor]) -> Result<Tensor> {
    let (n, tasks) = (scores[0].dims()[0], scores.len());
    let mut answers = vec![0u32; n * tasks];
    for (t, scores) in scores.iter().enumerate() {
        let rows = host::<T>(OP, scores)?;
        for (i, row) in rows.chunks_exact(scores.dims()[1]).enumerate() {
            answers[i * tasks + t] = match row {
                [score] => u32::from(*score > T::zero()),
                _ => (1..row.len()).fold(0, |best, i| if row[i] > row[best] { i } else { best })
                    as u32,
            };
        }
    }
    Ok(Tensor::from_vec(answers, (n, tasks), &Device::Cpu)?)
}
