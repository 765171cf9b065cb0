//! How a GPU computes, for the whole process.

use std::sync::atomic::{AtomicBool, Ordering};

static TF32: AtomicBool = AtomicBool::new(true);
static MEASURE: AtomicBool = AtomicBool::new(true);

/// Whether convolutions and matrix products in f32 may round their inputs to TF32 (ten bits of mantissa)
/// on tensor cores. On unless switched off; then they compute in full f32. The equivalent of
/// `torch.backends.cudnn.allow_tf32` and `torch.backends.cuda.matmul.allow_tf32` together. Nothing on
/// the CPU depends on it.
pub fn set_tf32(on: bool) {
    TF32.store(on, Ordering::Relaxed);
    candle_core::cuda::set_gemm_reduced_precision_f32(on);
}

/// As [`set_tf32`] left it.
pub fn tf32() -> bool {
    TF32.load(Ordering::Relaxed)
}

/// Whether cuDNN's algorithm for a convolution that was not met before is picked by measuring all of
/// them. On unless switched off; then cuDNN's own guess is taken, which is the same in every process,
/// where measurements may differ, and with them the last bits. The equivalent of
/// `torch.backends.cudnn.benchmark`.
pub fn set_cudnn_measures(on: bool) {
    MEASURE.store(on, Ordering::Relaxed);
}

/// The convolutions in f32 and bf16 that cuDNN refused to do so far in this process, in words: a slow
/// kernel of our own did them. Empty unless something is wrong with a network's shapes or with cuDNN.
pub fn cudnn_refused() -> Vec<String> {
    #[cfg(feature = "cuda")]
    return crate::conv2d::cudnn::refused();
    #[cfg(not(feature = "cuda"))]
    Vec::new()
}

/// As [`set_cudnn_measures`] left it.
pub fn cudnn_measures() -> bool {
    MEASURE.load(Ordering::Relaxed)
}
