//! In which numbers a GPU computes a step.

use candle_core::DType;
use serde::Serialize;

/// In which numbers a GPU computes. A CPU always computes in f32.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// Full f32.
    F32,
    /// f32, but products of convolutions and layers round their factors to TF32.
    Tf32,
    /// bf16 feature maps; weights, statistics and losses in f32.
    Bf16,
}

impl Precision {
    /// As on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::Tf32 => "tf32",
            Self::Bf16 => "bf16",
        }
    }

    /// Has this process compute so, as far as that is a property of the process.
    pub fn choose(self) {
        abn_ops::set_tf32(self != Self::F32);
    }

    /// Type of the images, and with them of all feature maps.
    pub fn of_maps(self) -> DType {
        if self == Self::Bf16 { DType::BF16 } else { DType::F32 }
    }
}
