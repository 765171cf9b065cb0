//! The GPU to compute on.

use candle_core::Device;

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
