//! Fully connected layers on a GPU.

use candle_core::Tensor;

use super::{OP, Sizes};
use crate::Result;
use crate::cuda::{Matrix, matmul, to_element, to_wide};
use crate::weighted::OnGpu;

impl OnGpu for Sizes {
    fn prepare(&self, weight: &Tensor, like: &Tensor) -> Result<Tensor> {
        to_element(OP, weight, like)
    }

    fn gpu_forward(&self, x: &Tensor, prepared: &Tensor) -> Result<Tensor> {
        matmul(OP, Matrix::Plain(x), Matrix::Transposed(prepared))
    }

    fn gpu_input_gradient(&self, prepared: &Tensor, dy: &Tensor) -> Result<Tensor> {
        matmul(OP, Matrix::Plain(dy), Matrix::Plain(prepared))
    }

    fn gpu_weight_gradient(&self, x: &Tensor, dy: &Tensor) -> Result<Tensor> {
        to_wide(OP, matmul(OP, Matrix::Transposed(dy), Matrix::Plain(x))?)
    }
}
