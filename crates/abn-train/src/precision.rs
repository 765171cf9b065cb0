//! In what numbers a network computes.

use std::fmt;
use std::str::FromStr;

use abn_ops::has_kernels;
use candle_core::{DType, Device};

use crate::{Error, Result};

/// In what numbers a network computes. Weights, statistics of batch norm, losses, gradients of weights
/// and all that an optimizer keeps are f32 in each, and so are checkpoints.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Precision {
    /// `f32`
    F32,
    /// `tf32`: on a GPU, convolutions and matrix products round their f32 inputs to ten bits of mantissa,
    /// which its tensor cores take. On the CPU the same as `f32`.
    #[default]
    Tf32,
    /// `bf16`: feature maps and their gradients have eight bits of mantissa ([`abn_core::Mixed`]). On a
    /// GPU only.
    Bf16,
}

impl Precision {
    /// Whether a network on this device can compute so.
    fn is_on(self, device: &Device) -> bool {
        self != Self::Bf16 || has_kernels(device, DType::BF16)
    }

    /// This one, or what stands for it on a device that cannot compute so: `f32`.
    #[must_use]
    pub fn or_f32(self, device: &Device) -> Self {
        if self.is_on(device) { self } else { Self::F32 }
    }

    /// Has the process compute so on this device, from here on.
    ///
    /// # Errors
    /// [`Error::Setting`] of `bf16` on the CPU.
    pub fn set_up(self, device: &Device) -> Result<()> {
        if !self.is_on(device) {
            let problem = "\"bf16\" needs a GPU (--device cuda); on the CPU networks compute in f32, which \"tf32\" \
                           and \"f32\" both give there";
            return Err(Error::Setting { key: "precision", problem: problem.into() });
        }
        abn_ops::set_tf32(self != Self::F32);
        Ok(())
    }
}

impl FromStr for Precision {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        match name {
            "f32" => Ok(Self::F32),
            "tf32" => Ok(Self::Tf32),
            "bf16" => Ok(Self::Bf16),
            _ => Err(format!("{name:?} is no precision; expected f32, tf32 or bf16")),
        }
    }
}

impl fmt::Display for Precision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::F32 => "f32",
            Self::Tf32 => "tf32",
            Self::Bf16 => "bf16",
        })
    }
}
