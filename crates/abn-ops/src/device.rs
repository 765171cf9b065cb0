//! The GPU to compute on.

use candle_core::{DType, Device};

use crate::{Error, Result};

/// The GPU of that number, from 0 on, of those that `CUDA_VISIBLE_DEVICES` leaves. All operations of
/// this crate run on tensors that lie there, and so do candle's. TF32 is as [`crate::set_tf32`] says.
///
/// Call it once for each GPU: tensors of two devices made by two calls do not go together.
///
/// # Errors
/// If this program was built without the feature `cuda`, or there is no such GPU, no driver, or none
/// that is new enough: says which.
pub fn cuda_device(ordinal: usize) -> Result<Device> {
    #[cfg(feature = "cuda")]
    return crate::cuda::open(ordinal).map_err(|error| {
        // What the driver says ends in its own explanation of the number.
        let reason = format!("the driver does not give it: {error}");
        Error::Device { ordinal, reason }
    });
    #[cfg(not(feature = "cuda"))]
    Err(Error::Device {
        ordinal,
        reason: "this program was built without the feature `cuda` (cargo build --features cuda)"
            .into(),
    })
}

/// Whether operations on feature maps of this number type have kernels on this device: of f32 and f64
/// everywhere, of bf16 on a GPU.
pub fn has_kernels(device: &Device, dtype: DType) -> bool {
    match dtype {
        DType::F32 | DType::F64 => true,
        DType::BF16 => is_gpu(device),
        _ => false,
    }
}

/// Whether operations on this device are a GPU's kernels: of what they give, nothing can be looked at without
/// waiting for it.
pub fn is_gpu(_device: &Device) -> bool {
    #[cfg(gpu)]
    return crate::cuda::is_gpu(_device);
    #[cfg(not(gpu))]
    false
}

/// The most memory that this process has taken from a GPU for tensors, workspaces and graphs, in bytes; without
/// what driver and libraries take for themselves. `None` on the CPU.
///
/// # Errors
/// If the driver does not say.
pub fn peak_memory(device: &Device) -> Result<Option<u64>> {
    match device {
        #[cfg(feature = "cuda")]
        Device::Cuda(device) => Ok(Some(crate::cuda::peak_memory(device)?)),
        _ => Ok(None),
    }
}
