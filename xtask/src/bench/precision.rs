//! In what numbers a network computes.

use std::fmt;
use std::str::FromStr;

use candle_core::DType;
use serde::Serializer;

/// In what numbers a GPU computes. A CPU always computes in f32.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Precision {
    /// Full f32.
    F32,
    /// f32, but products of convolutions and layers round their factors to TF32.
    Tf32,
    /// bf16 feature maps; weights, statistics and losses in f32.
    Bf16,
}

impl Precision {
    /// Has this process compute so, as far as that is a property of the process.
    pub fn set_up(self) {
        abn_ops::set_tf32(self != Self::F32);
    }

    /// Type of the images, and with them of all feature maps.
    pub fn of_maps(self) -> DType {
        if self == Self::Bf16 { DType::BF16 } else { DType::F32 }
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

/// For serde: as it is displayed.
pub fn as_text<S: Serializer>(value: &impl fmt::Display, to: S) -> Result<S::Ok, S::Error> {
    to.collect_str(value)
}
