//! Differentiable primitives of convolutional networks on candle tensors.
//!
//! Feature maps are channels-last, `(N, H, W, C)`; weights keep PyTorch's shapes. Every operation
//! takes and gives [`Tracked`] values; [`Tracked::backward`] gives the gradients.

pub mod across;
mod answers;
mod attend;
pub mod autograd;
mod batch_norm;
mod concat;
mod conv2d;
mod cost;
#[cfg(gpu)]
mod cuda;
mod device;
mod dropout;
mod elementwise;
mod ema;
mod error;
mod excite;
mod filled;
mod graph;
mod host;
mod inlet;
mod layout;
mod linear;
mod log_sum;
mod loss;
mod memory;
mod meter;
mod narrow;
mod packed;
mod parallel;
mod pool;
mod scratch;
mod settings;
mod sgd;
pub mod simd;
#[cfg(test)]
mod testing;
mod tile;
mod weighted;
mod windows;

pub use across::{Across, synchronised};
pub use answers::task_answers;
pub use attend::{attend, attend_each};
pub use autograd::{Tracked, frozen, guided, in_pool, no_grad};
pub use batch_norm::{BatchNorm, batch_norm, batch_norm_parts};
pub use concat::concat;
pub use conv2d::{Conv2d, Conv2dConfig, conv2d, conv2d_batch_norm};
pub use cost::{count_multiply_adds, zeros_without_memory};
pub use device::{cuda_device, has_kernels, is_gpu, peak_memory};
pub use dropout::{StepSeed, derive_seed, dropout, dropout_of_step, dropout_parts};
pub use elementwise::{add, relu, sigmoid};
pub use ema::{ema_step, ema_step_all};
pub use error::{Error, Result};
pub use excite::excite;
pub use filled::{filled, scalar};
pub use graph::{Graph, graphs_launched};
pub use host::Element;
pub use inlet::{Carried, Inlet, Lane};
pub use layout::{cast, reshape, to_channels_first, to_channels_last};
pub use linear::linear;
pub use log_sum::log1p_sum;
pub use loss::{
    bce_with_logits, smoothed_softmax_cross_entropy, softmax, softmax_cross_entropy, task_loss,
};
pub use memory::keep_freed_memory;
pub use meter::{Branch, Meter, Metered, TaskBranch};
pub use narrow::narrow;
pub use packed::PackedWeights;
pub use pool::{
    Pool2dConfig, adaptive_avg_pool2d, avg_pool2d, global_avg_pool, global_max_pool, max_pool2d,
};
pub use settings::{cudnn_measures, cudnn_refused, set_cudnn_measures, set_tf32, tf32};
pub use sgd::{SgdConfig, sgd_step, sgd_step_all, sgd_step_at};
pub use windows::{Window, cut_windows};
