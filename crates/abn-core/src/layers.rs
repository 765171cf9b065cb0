//! Layers with parameters, named and initialised as in PyTorch and the authors' code.

use abn_ops::{Conv2dConfig, Tracked};
use candle_core::Tensor;
use candle_nn::{Init, VarBuilder};

use crate::backbone::part_name;
use crate::init::hash_name;
use crate::{Mode, Result, observe};

/// Two-dimensional convolution, `torch.nn.Conv2d`: `weight` (Co, Ci/groups, KH, KW) and, if asked
/// for, `bias` (Co).
///
/// Weights start from N(0, 2 / (KH·KW·Co)) (He et al. 2015, fan out) and biases from 0, as
/// torchvision's and the authors' networks do.
pub struct Conv2d {
    name: String,
    weight: Tracked,
    bias: Option<Tracked>,
    config: Conv2dConfig,
}

impl Conv2d {
    /// A convolution without bias.
    ///
    /// # Errors
    /// If the store holds a parameter of that name with another shape.
    pub fn new(
        in_channels: usize,
        out_channels: usize,
        kernel: usize,
        config: Conv2dConfig,
        vb: VarBuilder,
    ) -> Result<Self> {
        let fan_out = kernel * kernel * out_channels;
        let init = Init::Randn { mean: 0.0, stdev: (2.0 / fan_out as f64).sqrt() };
        let shape = (out_channels, in_channels / config.groups.max(1), kernel, kernel);
        let weight = Tracked::parameter(vb.get_with_hints(shape, "weight", init)?);
        Ok(Self { name: vb.prefix(), weight, bias: None, config })
    }

    /// Adds a bias.
    ///
    /// # Errors
    /// As [`Conv2d::new`].
    pub fn with_bias(mut self, vb: VarBuilder) -> Result<Self> {
        let channels = self.weight.dims()[0];
        let bias = vb.get_with_hints(channels, "bias", Init::Const(0.0))?;
        self.bias = Some(Tracked::parameter(bias));
        Ok(self)
    }

    /// (N, H, W, Ci) to (N, H', W', Co).
    ///
    /// # Errors
    /// If the input does not have Ci channels or is smaller than the kernel.
    pub fn forward(&self, x: &Tracked) -> Result<Tracked> {
        let y = abn_ops::conv2d(x, &self.weight, self.bias.as_ref(), &self.config)?;
        Ok(observe::offer(&self.name, y))
    }
}

/// A 3×3 convolution with padding 1 and no bias.
///
/// # Errors
/// Those of [`Conv2d::new`].
pub fn conv3x3(from: usize, to: usize, stride: usize, vb: VarBuilder) -> Result<Conv2d> {
    Conv2d::new(from, to, 3, Conv2dConfig { stride, padding: 1, ..Default::default() }, vb)
}

/// A 1×1 convolution without bias.
///
/// # Errors
/// Those of [`Conv2d::new`].
pub fn conv1x1(from: usize, to: usize, stride: usize, vb: VarBuilder) -> Result<Conv2d> {
    Conv2d::new(from, to, 1, Conv2dConfig { stride, ..Default::default() }, vb)
}

/// What all batch norm layers of a network share.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BatchNormConfig {
    /// Weight of the newest batch in the running statistics (PyTorch's convention).
    pub momentum: f64,
    /// Added to the variance.
    pub eps: f64,
}

impl Default for BatchNormConfig {
    /// PyTorch's: momentum 0.1, eps 1e-5.
    fn default() -> Self {
        Self { momentum: 0.1, eps: 1e-5 }
    }
}

/// Batch normalisation over channels, `torch.nn.BatchNorm2d`: `weight` 1, `bias` 0 and the buffers
/// `running_mean` 0, `running_var` 1 at first.
pub struct BatchNorm2d {
    weight: Tracked,
    bias: Tracked,
    running_mean: Tensor,
    running_var: Tensor,
    config: BatchNormConfig,
}

impl BatchNorm2d {
    /// A layer for feature maps of that many channels.
    ///
    /// # Errors
    /// If the store holds a parameter of that name with another shape.
    pub fn new(channels: usize, config: BatchNormConfig, vb: VarBuilder) -> Result<Self> {
        let get = |name, value| vb.get_with_hints(channels, name, Init::Const(value));
        Ok(Self {
            weight: Tracked::parameter(get("weight", 1.0)?),
            bias: Tracked::parameter(get("bias", 0.0)?),
            running_mean: get("running_mean", 0.0)?,
            running_var: get("running_var", 1.0)?,
            config,
        })
    }

    /// `relu?(bn(x) + residual?)`, the shape unchanged.
    ///
    /// # Errors
    /// If the input does not have this many channels or the residual another shape than the input.
    pub fn forward(
        &self,
        x: &Tracked,
        residual: Option<&Tracked>,
        relu: bool,
        mode: Mode,
    ) -> Result<Tracked> {
        let norm = self.parts();
        Ok(match mode {
            Mode::TrainParts { count, .. } => {
                abn_ops::batch_norm_parts(x, &norm, residual, relu, count)?
            }
            Mode::Train { .. } | Mode::Eval => {
                abn_ops::batch_norm(x, &norm, residual, relu, mode.is_train())?
            }
        })
    }

    fn parts(&self) -> abn_ops::BatchNorm<'_> {
        abn_ops::BatchNorm {
            weight: &self.weight,
            bias: &self.bias,
            running_mean: &self.running_mean,
            running_var: &self.running_var,
            momentum: self.config.momentum,
            eps: self.config.eps,
        }
    }
}

/// A convolution and the batch norm after it.
pub struct ConvNorm {
    conv: Conv2d,
    norm: BatchNorm2d,
}

impl ConvNorm {
    /// Joins the two.
    pub fn new(conv: Conv2d, norm: BatchNorm2d) -> Self {
        Self { conv, norm }
    }

    /// `relu?(bn(conv(x)) + residual?)`
    ///
    /// # Errors
    /// Those of [`Conv2d::forward`] and [`BatchNorm2d::forward`].
    pub fn forward(
        &self,
        x: &Tracked,
        residual: Option<&Tracked>,
        relu: bool,
        mode: Mode,
    ) -> Result<Tracked> {
        let Conv2d { weight, bias, config, .. } = &self.conv;
        // Who observes layers is to see the convolution's own output.
        if mode.is_train() || observe::is_on() {
            return self.norm.forward(&self.conv.forward(x)?, residual, relu, mode);
        }
        let conv = abn_ops::Conv2d { weight, bias: bias.as_ref(), config };
        Ok(abn_ops::conv2d_batch_norm(x, &conv, &self.norm.parts(), residual, relu, false)?)
    }
}

/// How a linear layer starts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum LinearInit {
    /// PyTorch's default: weight and bias uniform within ±1/√inputs.
    Uniform,
    /// PyTorch's default weight, bias 0.
    UniformZeroBias,
    /// Weight N(0, 2 / inputs) (He et al. 2015, fan in), bias 0.
    HeNormal,
    /// Weight normal with this standard deviation, bias 0.
    Normal(f64),
}

/// Fully connected layer, `torch.nn.Linear`: `weight` (O, I) and `bias` (O).
pub struct Linear {
    weight: Tracked,
    bias: Tracked,
}

impl Linear {
    /// A layer from that many inputs to that many outputs.
    ///
    /// # Errors
    /// If the store holds a parameter of that name with another shape.
    pub fn new(inputs: usize, outputs: usize, init: LinearInit, vb: VarBuilder) -> Result<Self> {
        let bound = 1.0 / (inputs as f64).sqrt();
        let uniform = Init::Uniform { lo: -bound, up: bound };
        let zero = Init::Const(0.0);
        let (weight, bias) = match init {
            LinearInit::Uniform => (uniform, uniform),
            LinearInit::UniformZeroBias => (uniform, zero),
            LinearInit::HeNormal => (Init::Randn { mean: 0.0, stdev: 2f64.sqrt() * bound }, zero),
            LinearInit::Normal(stdev) => (Init::Randn { mean: 0.0, stdev }, zero),
        };
        Ok(Self {
            weight: Tracked::parameter(vb.get_with_hints((outputs, inputs), "weight", weight)?),
            bias: Tracked::parameter(vb.get_with_hints(outputs, "bias", bias)?),
        })
    }

    /// The weight (O, I).
    pub fn weight(&self) -> &Tensor {
        self.weight.value()
    }

    /// (N, I) to (N, O).
    ///
    /// # Errors
    /// If the input does not have I columns.
    pub fn forward(&self, x: &Tracked) -> Result<Tracked> {
        Ok(abn_ops::linear(x, &self.weight, Some(&self.bias))?)
    }
}

/// Dropout, `torch.nn.Dropout`: in training each element becomes 0 with probability p, the others
/// grow by 1/(1 − p).
pub struct Dropout {
    probability: f64,
    name: String,
}

impl Dropout {
    /// A layer named by the path of the builder; the name keeps its masks apart from those of
    /// other layers.
    pub fn new(probability: f64, vb: &VarBuilder) -> Self {
        Self { probability, name: vb.prefix() }
    }

    /// The shape is unchanged.
    ///
    /// # Errors
    /// If the probability is not in [0, 1).
    pub fn forward(&self, x: &Tracked, mode: Mode) -> Result<Tracked> {
        let (p, layer) = (self.probability, hash_name(&self.name));
        let (seed, paths) = match mode {
            Mode::Train { seed } if p > 0.0 => (seed, vec![vec![layer]]),
            Mode::TrainParts { seed, first, count } if p > 0.0 => {
                let path = |number| vec![hash_name(&part_name(number)), layer];
                (seed, (first..first + count).map(path).collect())
            }
            _ => return Ok(x.clone()),
        };
        Ok(abn_ops::dropout_of_step(x, p, seed, &paths)?)
    }
}
