//! Losses and errors of training steps, added up where the network is.

#[cfg(gpu)]
mod cuda;
#[cfg(all(test, feature = "cuda-emulation"))]
mod tests;

use candle_core::{DType, Device, Tensor};

use crate::device::is_gpu;
use crate::{Error, Result};

const OP: &str = "meter";

/// Sums over batches that a GPU keeps, so that no step waits for the host to read what it gave.
///
/// The sums have memory of their own for as long as the meter lives, and adding to them is one kernel,
/// so a step that does it can be captured as a CUDA graph and replayed.
#[derive(Debug)]
pub struct Meter {
    /// f64; see [`Metered`] for the order.
    sums: Tensor,
}

/// What one branch of a network gave to a batch.
#[derive(Clone, Copy, Debug)]
pub struct Branch<'a> {
    /// Class scores (N, K).
    pub scores: &'a Tensor,
    /// Mean loss of the batch, a scalar.
    pub loss: &'a Tensor,
}

/// What one branch of a network for several tasks gave to a batch.
#[derive(Clone, Debug)]
pub struct TaskBranch<'a> {
    /// Each task's scores: (N, 1), above 0 for label 1, or (N, C_t).
    pub scores: Vec<&'a Tensor>,
    /// The batch's mean loss over samples and tasks, in parts to be added up, each a scalar.
    pub losses: Vec<&'a Tensor>,
}

/// What a [`Meter`] has added up.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Metered {
    /// How many batches.
    pub batches: u64,
    /// Sum over the samples of the loss that is minimised.
    pub total: f64,
    /// Of the perception branch's loss.
    pub perception: f64,
    /// Of the attention branch's loss; 0 without one.
    pub attention: f64,
    /// Samples whose label does not have the highest score (the first of equals); of several tasks, over all.
    pub wrong: u64,
    /// Of the attention branch; 0 without one.
    pub wrong_attention: u64,
    /// The first batch, from 1 on, whose loss was no number, and that loss.
    pub diverged: Option<(u64, f64)>,
}

impl Meter {
    /// A meter at 0 on this device, if it is a GPU. On the CPU there is nothing to wait for.
    ///
    /// # Errors
    /// If the device has no memory for it.
    pub fn on(device: &Device) -> Result<Option<Self>> {
        if !is_gpu(device) {
            return Ok(None);
        }
        Ok(Some(Self { sums: Tensor::zeros(Metered::NUMBERS, DType::F64, device)? }))
    }

    /// Counts a batch of which `total` is the loss that is minimised. Waits for nothing.
    ///
    /// # Shapes
    /// `total` a scalar, `labels` (N), u32, on the device; both branches' scores are of one type and
    /// the losses of the type that goes with it.
    ///
    /// # Errors
    /// On other shapes, types or devices.
    pub fn add(
        &self,
        total: &Tensor,
        perception: Branch,
        attention: Option<Branch>,
        labels: &Tensor,
    ) -> Result<()> {
        let &[n, k] = perception.scores.dims() else {
            return Err(Error::shape(OP, "scores (N, K)", perception.scores.dims()));
        };
        if labels.dims() != [n] {
            return Err(Error::shape(OP, format!("{n} labels"), labels.dims()));
        }
        if let Some(attention) = attention
            && attention.scores.dims() != [n, k]
        {
            let expected = format!("the attention branch's scores {:?}", [n, k]);
            return Err(Error::shape(OP, expected, attention.scores.dims()));
        }
        let losses = [Some(total), Some(perception.loss), attention.map(|branch| branch.loss)];
        for loss in losses.into_iter().flatten() {
            if loss.elem_count() != 1 {
                return Err(Error::shape(OP, "losses that are scalars", loss.dims()));
            }
        }
        #[cfg(gpu)]
        return cuda::add(&self.sums, total, perception, attention, labels, [n, k]);
        #[cfg(not(gpu))]
        Err(Error::Unsupported { op: OP, what: "the CPU".into() })
    }

    /// Counts a batch with several tasks; the loss that is minimised is the sum of the branches'. Waits for
    /// nothing.
    ///
    /// # Shapes
    /// `labels` (N, T), u32, on the device; scores of T tasks and one number type, losses of the type that
    /// goes with it.
    ///
    /// # Errors
    /// On other shapes, types or devices.
    pub fn add_tasks(
        &self,
        perception: &TaskBranch,
        attention: Option<&TaskBranch>,
        labels: &Tensor,
    ) -> Result<()> {
        let &[n, tasks] = labels.dims() else {
            return Err(Error::shape(OP, "labels (N, T)", labels.dims()));
        };
        let branches: Vec<_> = [Some(perception), attention].into_iter().flatten().collect();
        for branch in &branches {
            if branch.scores.len() != tasks || tasks == 0 || branch.losses.is_empty() {
                let what =
                    format!("{} scores and {} losses", branch.scores.len(), branch.losses.len());
                return Err(Error::config(OP, format!("{what} are none of {tasks} tasks")));
            }
            for scores in &branch.scores {
                if !matches!(*scores.dims(), [rows, columns] if rows == n && columns > 0) {
                    return Err(Error::shape(OP, format!("scores ({n}, C)"), scores.dims()));
                }
            }
            for loss in &branch.losses {
                if loss.elem_count() != 1 {
                    return Err(Error::shape(OP, "losses that are scalars", loss.dims()));
                }
            }
        }
        #[cfg(gpu)]
        return cuda::add_tasks(&self.sums, &branches, labels, n);
        #[cfg(not(gpu))]
        Err(Error::Unsupported { op: OP, what: "the CPU".into() })
    }

    /// What was added up, read once all batches so far are computed. The meter begins at 0 again.
    ///
    /// # Errors
    /// If the device fails.
    pub fn take(&self) -> Result<Metered> {
        let numbers = self.sums.to_vec1::<f64>()?;
        #[cfg(gpu)]
        cuda::clear(&self.sums)?;
        Ok(Metered::new(&numbers))
    }
}

impl Metered {
    /// Of a meter's sums: what is below, then two losses of a batch in progress.
    const NUMBERS: usize = 10;

    fn new(numbers: &[f64]) -> Self {
        let at = |index: usize| numbers.get(index).copied().unwrap_or(f64::NAN);
        Self {
            batches: at(0) as u64,
            total: at(1),
            perception: at(2),
            attention: at(3),
            wrong: at(4) as u64,
            wrong_attention: at(5) as u64,
            diverged: (at(6) > 0.0).then(|| (at(6) as u64, at(7))),
        }
    }
}
