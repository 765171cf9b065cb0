//! Fully connected layer.

use candle_core::Tensor;

use crate::host::{self, by_dtype};
use crate::{Error, Result, Tracked, autograd, cost};

mod cpu;
#[cfg(test)]
mod tests;

const OP: &str = "linear";

/// Matrix product with the transposed weight: `y = x · weightᵀ + bias`, PyTorch's
/// `torch.nn.functional.linear`.
///
/// # Shapes
/// `x` (N, I), `weight` (O, I), `bias` (O), result (N, O).
///
/// # Errors
/// If the shapes do not fit each other or a size is zero.
pub fn linear(x: &Tracked, weight: &Tracked, bias: Option<&Tracked>) -> Result<Tracked> {
    let sizes = Sizes::new(x.dims(), weight.dims(), bias.map(Tracked::dims))?;
    let Sizes { n, i, o } = sizes;
    let macs = (n * i) as u64 * o as u64;
    if let Some(value) = cost::shape_only((n, o), x.value().dtype(), macs)? {
        return Ok(Tracked::constant(value));
    }
    let input = x.value().contiguous()?;
    let matrix = weight.value().contiguous()?;
    let value = by_dtype!(OP, x.value(), T => {
        let bias = bias.map(|b| b.value().contiguous()).transpose()?;
        let bias = bias.as_ref().map(|b| host::host::<T>(OP, b)).transpose()?;
        let (input, matrix) = (host::host::<T>(OP, &input)?, host::host::<T>(OP, &matrix)?);
        host::tensor(cpu::forward(sizes, &input, &matrix, bias.as_deref()), (n, o))?
    });
    let mut inputs = vec![x, weight];
    inputs.extend(bias);
    if !autograd::records(&inputs) {
        return Ok(Tracked::constant(value));
    }
    let wanted = [x.is_tracked(), weight.is_tracked(), bias.is_some_and(Tracked::is_tracked)];
    Ok(Tracked::from_op(
        value,
        &inputs,
        move |grad| by_dtype!(OP, &grad, T => backward::<T>(sizes, &input, &matrix, grad, wanted)),
    ))
}

/// Sizes of the product, checked.
#[derive(Clone, Copy)]
struct Sizes {
    /// Samples.
    n: usize,
    /// Input features.
    i: usize,
    /// Output features.
    o: usize,
}

impl Sizes {
    fn new(x: &[usize], weight: &[usize], bias: Option<&[usize]>) -> Result<Self> {
        let &[n, i] = x else { return Err(Error::shape(OP, "an input (N, I)", x)) };
        let o = weight.first().copied().unwrap_or_default();
        if weight != [o, i] || n * i * o == 0 {
            let expected = format!("a weight (O, {i}) for an input {x:?}, no size 0");
            return Err(Error::shape(OP, expected, weight));
        }
        match bias {
            Some(bias) if bias != [o] => {
                Err(Error::shape(OP, format!("a bias of {o} element(s)"), bias))
            }
            _ => Ok(Self { n, i, o }),
        }
    }
}

/// Gradients of input, weight and bias, where wanted.
fn backward<T: host::Element>(
    sizes: Sizes,
    input: &Tensor,
    matrix: &Tensor,
    grad: Tensor,
    wanted: [bool; 3],
) -> Result<Vec<Option<Tensor>>> {
    let Sizes { n, i, o } = sizes;
    let grad = grad.contiguous()?;
    let grad = host::host::<T>(OP, &grad)?;
    let [for_input, for_weight, for_bias] = wanted;
    let d_weight = if for_weight {
        let input = host::host::<T>(OP, input)?;
        Some(host::tensor(cpu::weight_gradient(sizes, &input, &grad), (o, i))?)
    } else {
        None
    };
    let d_bias = match for_bias {
        true => Some(host::tensor(cpu::bias_gradient(sizes, &grad), o)?),
        false => None,
    };
    let d_input = if for_input {
        let matrix = host::host::<T>(OP, matrix)?;
        Some(host::tensor(cpu::input_gradient(sizes, &matrix, &grad), (n, i))?)
    } else {
        None
    };
    Ok(vec![d_input, d_weight, d_bias])
}
