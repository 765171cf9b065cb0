//! Pooling: maximum and mean over windows of a feature map.

#[cfg(gpu)]
mod cuda;
mod max;
mod mean;
#[cfg(test)]
mod tests;
mod windows;

pub use max::{global_max_pool, max_pool2d};
pub use mean::{adaptive_avg_pool2d, avg_pool2d, global_avg_pool};

/// Square windows, for [`max_pool2d`] and [`avg_pool2d`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pool2dConfig {
    /// Height and width of a window, in pixels.
    pub kernel: usize,
    /// Distance of neighbouring windows, in pixels.
    pub stride: usize,
    /// Pixels added on every side: never the maximum, and zero for the mean. At most half the
    /// kernel, as in PyTorch.
    pub padding: usize,
}
