//! Convolution and fully connected layers on a GPU.

use candle_core::Tensor;

use super::Weighted;
use crate::cuda::{add_bias, column_sums};
use crate::{Result, Tracked, autograd};

/// The operation's kernels.
///
/// The weight is f32 (or f64) and in PyTorch's shape; what the kernels read is made of it once for
/// both passes, in the feature map's type.
pub(crate) trait OnGpu: Weighted {
    /// The weight as the kernels read it, for feature maps like `like`.
    fn prepare(&self, weight: &Tensor, like: &Tensor) -> Result<Tensor>;
    /// As [`Self::prepare`], of a weight that may stay the same until the next call.
    fn prepare_kept(&self, weight: &Tensor, like: &Tensor) -> Result<Tensor> {
        self.prepare(&weight.contiguous()?, like)
    }
    fn gpu_forward(&self, x: &Tensor, prepared: &Tensor) -> Result<Tensor>;
    fn gpu_input_gradient(&self, prepared: &Tensor, dy: &Tensor) -> Result<Tensor>;
    /// In the weight's own type and shape.
    fn gpu_weight_gradient(&self, x: &Tensor, dy: &Tensor) -> Result<Tensor>;
}

/// As [`super::apply`].
pub(super) fn apply<O: OnGpu>(
    op: O,
    x: &Tracked,
    weight: &Tracked,
    bias: Option<&Tracked>,
) -> Result<Tracked> {
    let input = x.value().contiguous()?;
    let mut inputs = vec![x, weight];
    inputs.extend(bias);
    let records = autograd::records(&inputs);
    let prepared = if records {
        op.prepare(&weight.value().contiguous()?, &input)?
    } else {
        op.prepare_kept(weight.value(), &input)?
    };
    let value = op.gpu_forward(&input, &prepared)?;
    if let Some(bias) = bias {
        add_bias(O::OP, &value, &bias.value().contiguous()?)?;
    }
    if !records {
        return Ok(Tracked::constant(value));
    }
    let [for_input, for_weight, for_bias] =
        [x.is_tracked(), weight.is_tracked(), bias.is_some_and(Tracked::is_tracked)];
    let outputs = bias.map_or(0, |bias| bias.value().elem_count());
    Ok(Tracked::from_op(value, &inputs, move |grad| {
        let grad = grad.contiguous()?;
        let d_weight = for_weight.then(|| op.gpu_weight_gradient(&input, &grad));
        let d_bias = for_bias.then(|| column_sums(O::OP, &grad, outputs));
        let d_input = for_input.then(|| op.gpu_input_gradient(&prepared, &grad));
        Ok(vec![d_input.transpose()?, d_weight.transpose()?, d_bias.transpose()?])
    }))
}
