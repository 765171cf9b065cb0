//! What is made of a backbone.

use std::fmt;
use std::str::FromStr;

use crate::{Error, Result};

/// What is made of a backbone: the Attention Branch Network, or what it is compared with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Variant {
    /// The network alone.
    Baseline,
    /// The layers of class activation mapping in place of the fully connected ones, see
    /// [`abn_core::Cam`].
    Cam,
    /// With an attention branch whose map changes nothing, see [`abn_core::Control`].
    Control,
    /// With its attention branch.
    Abn,
}

impl Variant {
    /// All of them, in the order of a table.
    pub const ALL: [Self; 4] = [Self::Baseline, Self::Cam, Self::Control, Self::Abn];

    /// Whether it has an attention branch, and with it that branch's class scores and loss.
    pub fn has_attention_branch(self) -> bool {
        matches!(self, Self::Control | Self::Abn)
    }
}

impl fmt::Display for Variant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Baseline => "baseline",
            Self::Cam => "cam",
            Self::Control => "control",
            Self::Abn => "abn",
        })
    }
}

impl FromStr for Variant {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        let found = Self::ALL.into_iter().find(|variant| variant.to_string() == name);
        found.ok_or_else(|| Error::UnknownVariant(name.to_owned()))
    }
}
