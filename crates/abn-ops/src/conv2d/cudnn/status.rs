//! What cuDNN's answers mean.

use candle_core::cuda_backend::cudarc::cudnn::{result, sys};

use crate::Error;
use crate::conv2d::OP;

pub fn failed(what: &str, error: result::CudnnError) -> Error {
    Error::Library { op: OP, library: "cuDNN", what: format!("{what}: {error}") }
}

/// Whether cuDNN says that it does not do such a thing (3000 and more), rather than that it was asked wrongly (2000 and
/// more), which is a mistake here, or that something else is wrong.
pub fn is_refusal(error: result::CudnnError) -> bool {
    use sys::cudnnStatus_t::*;

    // These are of its installation, and would be the same of any convolution.
    let installation = matches!(
        error.0,
        CUDNN_STATUS_NOT_SUPPORTED_INCOMPATIBLE_CUDA_DRIVER
            | CUDNN_STATUS_NOT_SUPPORTED_INCOMPATIBLE_CUDART
            | CUDNN_STATUS_NOT_SUPPORTED_RUNTIME_PREREQUISITE_MISSING
            | CUDNN_STATUS_NOT_SUPPORTED_SUBLIBRARY_UNAVAILABLE
    );
    !installation && (3000..4000).contains(&(error.0 as u32))
}

/// Whether it says that it was asked wrongly.
pub fn is_mistake(error: result::CudnnError) -> bool {
    (2000..3000).contains(&(error.0 as u32))
}

#[cfg(test)]
mod tests {
    use sys::cudnnStatus_t::*;

    use super::*;

    #[test]
    fn what_is_not_supported_is_a_refusal_and_nothing_else() {
        let refusal = |status| is_refusal(result::CudnnError(status));
        for status in [
            CUDNN_STATUS_NOT_SUPPORTED,
            CUDNN_STATUS_NOT_SUPPORTED_SHAPE,
            CUDNN_STATUS_NOT_SUPPORTED_LAYOUT,
            CUDNN_STATUS_NOT_SUPPORTED_ARCH_MISMATCH,
        ] {
            assert!(refusal(status), "{status:?}");
        }
        for status in [
            CUDNN_STATUS_NOT_INITIALIZED,
            CUDNN_STATUS_BAD_PARAM,
            CUDNN_STATUS_BAD_PARAM_SHAPE_MISMATCH,
            CUDNN_STATUS_NOT_SUPPORTED_INCOMPATIBLE_CUDA_DRIVER,
            CUDNN_STATUS_NOT_SUPPORTED_SUBLIBRARY_UNAVAILABLE,
            CUDNN_STATUS_INTERNAL_ERROR,
            CUDNN_STATUS_EXECUTION_FAILED,
        ] {
            assert!(!refusal(status), "{status:?}");
        }
    }
}
