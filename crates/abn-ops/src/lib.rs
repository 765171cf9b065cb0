//! Differentiable primitives of convolutional networks on candle tensors.
//!
//! Feature maps are channels-last, `(N, H, W, C)`; weights keep PyTorch's shapes. Every operation
//! takes and gives [`Tracked`] values; [`Tracked::backward`] gives the gradients.

pub mod autograd;
mod conv2d;
mod cost;
mod elementwise;
mod error;
mod host;
mod linear;
pub mod simd;

pub use autograd::{Tracked, no_grad};
pub use conv2d::{Conv2dConfig, conv2d};
pub use cost::{count_multiply_adds, zeros_without_memory};
pub use error::{Error, Result};
pub use host::Element;
pub use linear::linear;
