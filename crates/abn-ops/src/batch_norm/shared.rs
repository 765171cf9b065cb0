//! Sums over the processes that share a batch.

use candle_core::{Device, Tensor};

use crate::Result;
use crate::across::Across;

/// Everybody's numbers, added up.
pub fn sum(values: Vec<f64>, across: &dyn Across) -> Result<Vec<f64>> {
    let count = values.len();
    Ok(across.sum(Tensor::from_vec(values, count, &Device::Cpu)?)?.to_vec1::<f64>()?)
}
