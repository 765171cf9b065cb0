//! The end of a squeeze-and-excitation block: channels weighted sample by sample.

mod cpu;
#[cfg(gpu)]
mod cuda;
#[cfg(test)]
mod tests;

use crate::elementwise::{positive, relu_backward};
use crate::host::{by_dtype, host, on_gpu, tensor, update};
use crate::{Error, Result, Tracked, autograd, cost};

/// `relu(x · scale + residual)`: every channel of every sample has a weight of its own (Hu, Shen
/// and Sun, "Squeeze-and-Excitation Networks"). Inside [`guided`](crate::guided), the ReLU's backward
/// pass drops negative gradients.
///
/// # Shapes
/// `x` and `residual` (N, H, W, C), `scale` (N, C), to (N, H, W, C). PyTorch, channels first:
/// `F.relu(x * scale[:, :, None, None] + residual)`.
///
/// # Errors
/// If `x` is not four-dimensional, or another shape does not fit it.
pub fn excite(x: &Tracked, scale: &Tracked, residual: &Tracked) -> Result<Tracked> {
    const OP: &str = "excite";
    let &[n, h, w, channels] = x.dims() else {
        return Err(Error::shape(OP, "a feature map (N, H, W, C)", x.dims()));
    };
    if scale.dims() != [n, channels] {
        return Err(Error::shape(OP, format!("a scale of {:?}", [n, channels]), scale.dims()));
    }
    if residual.dims() != x.dims() {
        return Err(Error::shape(OP, format!("a residual of {:?}", x.dims()), residual.dims()));
    }
    if let Some(value) = cost::shape_only((n, h, w, channels), x.value().dtype(), 0)? {
        return Ok(Tracked::constant(value));
    }
    on_gpu!(x.value() => cuda::excite(OP, [x, scale, residual], [n, h * w, channels]));
    let (input, weights) = (x.value().contiguous()?, scale.value().contiguous()?);
    let rest = residual.value().contiguous()?;
    let y = by_dtype!(OP, &input, T => {
        let (x, s, r) = (host::<T>(OP, &input)?, host::<T>(OP, &weights)?, host::<T>(OP, &rest)?);
        tensor(cpu::forward(&x, &s, &r, channels), input.shape().clone())?
    });
    let (saved, guided) = (y.clone(), autograd::is_guided());
    let [x_tracked, scale_tracked, residual_tracked] =
        [x, scale, residual].map(Tracked::is_tracked);
    Ok(Tracked::from_op(y, &[x, scale, residual], move |grad| {
        by_dtype!(OP, &grad, T => {
            let y = host::<T>(OP, &saved)?;
            update::<T>(OP, &grad, |grad| {
                relu_backward(grad, &y);
                if guided {
                    positive(grad);
                }
            })?;
            let d_scale = if scale_tracked {
                let (g, x) = (host::<T>(OP, &grad)?, host::<T>(OP, &input)?);
                Some(tensor(cpu::scale_gradient(&g, &x, n, channels), (n, channels))?)
            } else {
                None
            };
            let dx = if x_tracked {
                let (g, s) = (host::<T>(OP, &grad)?, host::<T>(OP, &weights)?);
                Some(tensor(cpu::input_gradient(&g, &s, channels), input.shape().clone())?)
            } else {
                None
            };
            Ok(vec![dx, d_scale, residual_tracked.then_some(grad)])
        })
    }))
}
