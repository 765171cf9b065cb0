//! The attention branch's head and the attention mechanism (sections 3.1 and 3.2 of the paper).

use std::fmt;
use std::str::FromStr;

use abn_ops::{Conv2dConfig, Tracked};
use candle_nn::VarBuilder;

use crate::layers::{BatchNorm2d, BatchNormConfig, Conv2d, ConvNorm, conv1x1};
use crate::{Error, Mode, Result};

/// How the attention map M weights the feature map g, channel by channel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mechanism {
    /// Equation (1): g · M.
    Multiply,
    /// Equation (2): g · (1 + M). Features that the map suppresses do not vanish.
    #[default]
    Residual,
}

impl Mechanism {
    /// g (N, h, w, C) and M (N, h, w, 1) to the attended feature map (N, h, w, C).
    ///
    /// # Errors
    /// If the shapes do not match.
    pub fn apply(self, feature: &Tracked, map: &Tracked) -> Result<Tracked> {
        Ok(abn_ops::attend(feature, map, self == Self::Residual)?)
    }

    /// The value of a map that leaves the features as they are.
    pub fn neutral(self) -> f64 {
        match self {
            Self::Multiply => 1.0,
            Self::Residual => 0.0,
        }
    }
}

impl fmt::Display for Mechanism {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Multiply => "multiply",
            Self::Residual => "residual",
        })
    }
}

impl FromStr for Mechanism {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        match name {
            "multiply" => Ok(Self::Multiply),
            "residual" => Ok(Self::Residual),
            _ => Err(Error::UnknownName {
                what: "attention mechanism",
                name: name.to_owned(),
                expected: "`residual` (eq. 2) or `multiply` (eq. 1)",
            }),
        }
    }
}

/// Where the released code and the paper's figures differ: whom to follow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Preset {
    /// The released code, which produced the paper's numbers: the map comes from a 3×3
    /// convolution.
    #[default]
    Code,
    /// The paper's figure 2: a 1×1 convolution.
    Paper,
}

impl fmt::Display for Preset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Code => "code",
            Self::Paper => "paper",
        })
    }
}

impl FromStr for Preset {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        match name {
            "code" => Ok(Self::Code),
            "paper" => Ok(Self::Paper),
            _ => Err(Error::UnknownName {
                what: "preset",
                name: name.to_owned(),
                expected: "`code` (the released code's branch) or `paper` (its figure's)",
            }),
        }
    }
}

/// What happens to the trunk's output before the head.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TrunkNorm {
    /// Batch norm (`bn_att`), without activation.
    #[default]
    Applied,
    /// Nothing. `bn_att` exists, so that weights fit the authors' `state_dict`, but no data pass
    /// through it: so it is in their CIFAR ResNeXt.
    Unused,
}

/// How the attention map comes from the class maps h.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MapHead {
    /// A convolution to one channel (`att_conv3`), batch norm (`bn_att3`) and sigmoid: 0 to 1.
    #[default]
    Convolution,
    /// The sum over h of ln(1 + h), without parameters: 0 or more. So it is in the released
    /// SE-ResNet.
    LogSum,
}

/// The head's variations.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct AttentionConfig {
    /// Paper or code.
    pub preset: Preset,
    /// The norm before the head.
    pub trunk_norm: TrunkNorm,
    /// Where the map comes from.
    pub map: MapHead,
    /// For the head's batch norms.
    pub norm: BatchNormConfig,
}

/// The attention branch's head: from its trunk's features, class scores and the attention map.
///
/// ```text
/// trunk ─ bn_att ─ att_conv 1×1 → K ─ bn_att2 ─ ReLU ─ h ┬ att_conv2 1×1 → K ─ mean ─── class scores
///                                                        └ att_conv3 3×3 → 1 ─ bn_att3 ─ sigmoid ─ M
/// ```
///
/// The class scores make the branch learn from its own loss (equation 3), so that the K maps h
/// respond where each class is; M is one map from all of them. With [`MapHead::LogSum`], it is
/// their sum of logarithms.
pub struct AttentionBranch {
    bn_att: Option<BatchNorm2d>,
    /// `att_conv` and `bn_att2`.
    respond: ConvNorm,
    att_conv2: Conv2d,
    /// `att_conv3` and `bn_att3`, unless the map is a sum of logarithms.
    to_map: Option<ConvNorm>,
}

impl AttentionBranch {
    /// A head for `channels` trunk channels and K classes. Its parameters lie beside the
    /// backbone's, in the root of the `state_dict`.
    ///
    /// # Errors
    /// If the store holds a parameter of that name with another shape.
    pub fn new(
        channels: usize,
        classes: usize,
        config: AttentionConfig,
        vb: VarBuilder,
    ) -> Result<Self> {
        let norm = |channels, name| BatchNorm2d::new(channels, config.norm, vb.pp(name));
        let kernel = match config.preset {
            Preset::Code => 3,
            Preset::Paper => 1,
        };
        let same = Conv2dConfig { padding: kernel / 2, ..Default::default() };
        let bn_att = norm(channels, "bn_att")?;
        let to_map = || {
            let att_conv3 = Conv2d::new(classes, 1, kernel, same, vb.pp("att_conv3"))?;
            Ok::<_, Error>(ConvNorm::new(att_conv3, norm(1, "bn_att3")?))
        };
        Ok(Self {
            bn_att: (config.trunk_norm == TrunkNorm::Applied).then_some(bn_att),
            respond: ConvNorm::new(
                conv1x1(channels, classes, 1, vb.pp("att_conv"))?,
                norm(classes, "bn_att2")?,
            ),
            att_conv2: conv1x1(classes, classes, 1, vb.pp("att_conv2"))?,
            to_map: (config.map == MapHead::Convolution).then(to_map).transpose()?,
        })
    }

    /// Trunk features (N, h, w, C) to class scores (N, K) and the map M (N, h, w, 1).
    ///
    /// # Errors
    /// If the features do not have C channels.
    pub fn forward(&self, trunk: &Tracked, mode: Mode) -> Result<(Tracked, Tracked)> {
        let h = self.respond(trunk, mode)?;
        Ok((self.scores(&h)?, self.map(&h, mode)?))
    }

    /// Trunk features (N, h, w, C) to the class maps h (N, h, w, K), not negative.
    ///
    /// # Errors
    /// If the features do not have C channels.
    pub fn respond(&self, trunk: &Tracked, mode: Mode) -> Result<Tracked> {
        let normed = self.bn_att.as_ref().map(|bn_att| bn_att.forward(trunk, None, false, mode));
        let normed = normed.transpose()?;
        self.respond.forward(normed.as_ref().unwrap_or(trunk), None, true, mode)
    }

    /// The class maps h (N, h, w, K) to class scores (N, K).
    ///
    /// # Errors
    /// If h has other channels.
    pub fn scores(&self, h: &Tracked) -> Result<Tracked> {
        Ok(abn_ops::global_avg_pool(&self.att_conv2.forward(h)?)?)
    }

    /// The class maps h (N, h, w, K) to the map M (N, h, w, 1), in the range of its [`MapHead`].
    ///
    /// # Errors
    /// If h has other channels.
    pub fn map(&self, h: &Tracked, mode: Mode) -> Result<Tracked> {
        match &self.to_map {
            Some(to_map) => Ok(abn_ops::sigmoid(&to_map.forward(h, None, false, mode)?)?),
            None => Ok(abn_ops::log1p_sum(h)?),
        }
    }
}
