//! Matrix products.

use candle_core::{Device, Tensor};

use crate::Result;

/// An operand: a contiguous matrix, or its transpose.
#[derive(Clone, Copy)]
pub(crate) enum Matrix<'a> {
    Plain(&'a Tensor),
    Transposed(&'a Tensor),
}

impl Matrix<'_> {
    fn view(self) -> Result<Tensor> {
        Ok(match self {
            Self::Plain(tensor) => tensor.clone(),
            Self::Transposed(tensor) => tensor.t()?,
        })
    }
}

/// The product, by cuBLAS: in f32 with TF32 if that is on ([`crate::set_tf32`]), in bf16 with sums in
/// f32. The kernel that stands for it where there is no GPU is as slow as it is plain.
pub(crate) fn matmul(op: &'static str, a: Matrix<'_>, b: Matrix<'_>) -> Result<Tensor> {
    let (a, b) = (a.view()?, b.view()?);
    if !matches!(a.device(), Device::Cpu) {
        return Ok(a.matmul(&b)?);
    }
    #[cfg(feature = "cuda")]
    if super::is_staged() {
        let y = super::carry(&a)?.matmul(&super::carry(&b)?)?;
        return Ok(y.to_device(&Device::Cpu)?);
    }
    emulated(op, &a, &b)
}

#[cfg(feature = "cuda-emulation")]
fn emulated(op: &'static str, a: &Tensor, b: &Tensor) -> Result<Tensor> {
    use super::{Arg, Grid, address, launch, unwritten};

    let ((m, k), n) = (a.dims2()?, b.dims2()?.1);
    let y = unwritten(a, a.dtype(), (m, n))?;
    let count = m * n;
    // The kernel reads by strides what `launch` would refuse as not contiguous.
    let place = |x: &Tensor| -> Result<u64> {
        if x.is_contiguous() { address(op, x) } else { address(op, &x.t()?) }
    };
    let (a_at, b_at) = (place(a)?, place(b)?);
    let mut args = vec![Arg::Bits(a_at), Arg::Bits(b_at), Arg::write(&y)];
    args.extend([m, n, k].map(Arg::Size));
    args.extend([a.stride(), b.stride()].concat().into_iter().map(Arg::Size));
    launch(op, "matmul", &y, Grid::each(count), &args)?;
    Ok(y)
}

#[cfg(not(feature = "cuda-emulation"))]
fn emulated(op: &'static str, a: &Tensor, _: &Tensor) -> Result<Tensor> {
    Err(crate::Error::Unsupported { op, what: format!("kernels on {:?}", a.device()) })
}
