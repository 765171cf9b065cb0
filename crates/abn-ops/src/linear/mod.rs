//! Fully connected layer.

use candle_core::Shape;

use crate::host::Element;
use crate::weighted::{self, Weighted};
use crate::{Error, Result, Tracked};

mod cpu;
#[cfg(gpu)]
mod cuda;
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
    weighted::apply(sizes, x, weight, bias)
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

impl Weighted for Sizes {
    const OP: &'static str = OP;

    fn input_shape(&self) -> Shape {
        (self.n, self.i).into()
    }

    fn weight_shape(&self) -> Shape {
        (self.o, self.i).into()
    }

    fn output_shape(&self) -> Shape {
        (self.n, self.o).into()
    }

    fn macs(&self) -> u64 {
        (self.n * self.i) as u64 * self.o as u64
    }

    fn forward<T: Element>(&self, x: &[T], weight: &[T], bias: Option<&[T]>) -> Vec<T> {
        cpu::forward(*self, x, weight, bias)
    }

    fn input_gradient<T: Element>(&self, weight: &[T], dy: &[T]) -> Vec<T> {
        cpu::input_gradient(*self, weight, dy)
    }

    fn weight_gradient<T: Element>(&self, x: &[T], dy: &[T]) -> Vec<T> {
        cpu::weight_gradient(*self, x, dy)
    }

    fn bias_gradient<T: Element>(&self, dy: &[T]) -> Vec<T> {
        cpu::bias_gradient(*self, dy)
    }
}
