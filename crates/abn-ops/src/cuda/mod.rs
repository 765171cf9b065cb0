//! Running operations on a GPU.
//!
//! An operation's `cuda.rs` allocates tensors ([`unwritten`]) and starts kernels ([`launch`]) of the
//! `kernels.cu` beside it, by name. Both have two implementations: on NVIDIA's driver (feature
//! `cuda`), and on the CPU (feature `cuda-emulation`), where the same kernels, compiled as C++, run
//! on CPU tensors. So everything but driver, cuBLAS and cuDNN is tested without a GPU.
//!
//! All work of a device goes to one stream, in order; nothing here waits for it.

mod columns;
#[cfg(feature = "cuda")]
mod driver;
#[cfg(feature = "cuda-emulation")]
mod emulation;
mod launch;
mod matmul;
#[cfg(feature = "cuda")]
mod staged;
#[cfg(all(test, feature = "cuda-emulation"))]
mod tests;

use candle_core::{DType, Device, Shape, Tensor};

pub(crate) use columns::{add_bias, column_sums, convert_to, to_element, to_wide};
#[cfg(feature = "cuda")]
pub(crate) use driver::{Buffer, open, peak_memory};
pub(crate) use launch::{Arg, Grid, Of, address, address_mut, launch, packed};
pub(crate) use matmul::{Matrix, matmul};
#[cfg(feature = "cuda")]
pub(crate) use staged::{Stage, carry, is_on as is_staged};

use crate::{Error, Result};

#[cfg(feature = "cuda-emulation")]
pub(crate) use emulation::Recording;
#[cfg(all(test, feature = "cuda-emulation"))]
pub(crate) use emulation::emulated;

/// Whether operations on this tensor go the GPU's way.
pub(crate) fn takes(tensor: &Tensor) -> bool {
    is_gpu(tensor.device())
}

/// Whether operations on tensors of this device go the GPU's way.
pub(crate) fn is_gpu(device: &Device) -> bool {
    match device {
        Device::Cuda(_) => cfg!(feature = "cuda"),
        #[cfg(feature = "cuda-emulation")]
        Device::Cpu => emulation::is_on(),
        #[cfg(not(feature = "cuda-emulation"))]
        Device::Cpu => false,
        Device::Metal(_) => false,
    }
}

/// The type of parameters, statistics and losses that goes with a feature map's: f32 with bf16.
///
/// # Errors
/// If there are no kernels for it.
pub(crate) fn wide(op: &'static str, dtype: DType) -> Result<DType> {
    match dtype {
        DType::F32 | DType::BF16 => Ok(DType::F32),
        DType::F64 => Ok(DType::F64),
        other => Err(Error::Unsupported { op, what: format!("{other:?} on a GPU") }),
    }
}

/// A tensor beside `like`, whose elements are not yet written.
///
/// Its elements may be read by kernels only that come after one that writes them.
pub(crate) fn unwritten(like: &Tensor, dtype: DType, shape: impl Into<Shape>) -> Result<Tensor> {
    unwritten_on(like.device(), dtype, shape)
}

/// As [`unwritten`], on a device.
pub(crate) fn unwritten_on(
    device: &Device,
    dtype: DType,
    shape: impl Into<Shape>,
) -> Result<Tensor> {
    let shape = shape.into();
    match device {
        #[cfg(feature = "cuda")]
        Device::Cuda(device) => driver::unwritten(device, dtype, shape),
        #[cfg(feature = "cuda-emulation")]
        Device::Cpu => emulation::unwritten(dtype, shape),
        device => {
            Err(Error::Unsupported { op: "allocation", what: format!("kernels on {device:?}") })
        }
    }
}

/// As [`unwritten`], of the same type and shape.
pub(crate) fn unwritten_like(like: &Tensor) -> Result<Tensor> {
    unwritten(like, like.dtype(), like.shape())
}
