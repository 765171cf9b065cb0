//! Differentiable primitives of convolutional networks on candle tensors.
//!
//! Feature maps are channels-last, `(N, H, W, C)`; weights keep PyTorch's shapes. Every operation
//! takes and gives [`Tracked`] values; [`Tracked::backward`] gives the gradients.

pub mod autograd;
mod cost;
mod elementwise;
mod error;
mod host;
pub mod simd;

pub use autograd::{Tracked, no_grad};
pub use cost::{count_multiply_adds, zeros_without_memory};
pub use error::{Error, Result};
pub use host::Element;
