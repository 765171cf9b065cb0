//! Which network, and how to build it.

use abn_core::layers::BatchNormConfig;
use abn_core::{
    Abn, AttentionConfig, Backbone, Baseline, Cam, Classifier, Control, MapHead, Mechanism, Mode,
    ParamStore, Preset, TrunkNorm,
};
use abn_ops::Tracked;
use candle_core::DType;
use candle_nn::VarBuilder;

use crate::{
    Architecture, BackboneOptions, CifarDenseNet, CifarResNeXt, CifarResNet, DenseNet, Error,
    ResNet, ResNetConfig, Result, Top, Variant, Vgg, VggConfig, VggSize, WideResNet,
};

/// How to build a model.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BuildOptions {
    /// Number of classes (K), at least 2.
    pub num_classes: usize,
    /// How the attention map weights the feature map.
    pub mechanism: Mechanism,
    /// Whose attention branch.
    pub preset: Preset,
    /// Batch norm's momentum (PyTorch's convention), above 0 and at most 1.
    pub bn_momentum: f64,
    /// Dropout probability, 0 up to but without 1; `None`: the family's default.
    pub dropout: Option<f64>,
}

impl BuildOptions {
    /// The defaults for K classes: residual attention, the released code's branch, batch norm
    /// momentum 0.1, the family's dropout.
    pub fn new(num_classes: usize) -> Self {
        Self {
            num_classes,
            mechanism: Mechanism::default(),
            preset: Preset::default(),
            bn_momentum: BatchNormConfig::default().momentum,
            dropout: None,
        }
    }

    fn check(&self) -> Result<()> {
        if self.num_classes < 2 {
            let k = self.num_classes;
            return Err(Error::Options(format!("a classifier needs at least 2 classes, not {k}")));
        }
        if !(self.bn_momentum > 0.0 && self.bn_momentum <= 1.0) {
            let momentum = self.bn_momentum;
            let reason = format!("batch norm momentum {momentum} is not above 0 and at most 1");
            return Err(Error::Options(reason));
        }
        match self.dropout {
            Some(p) if !(0.0..1.0).contains(&p) => Err(Error::Options(format!(
                "dropout probability {p} is not at least 0 and below 1"
            ))),
            _ => Ok(()),
        }
    }
}

/// What a model takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cost {
    /// Trained numbers.
    pub parameters: u64,
    /// Multiply-adds of one image's forward pass, in convolutions and linear layers.
    pub multiply_adds: u64,
}

/// A named model. Found by [`find`](crate::find), or made from any [`Architecture`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelSpec {
    name: String,
    architecture: Architecture,
}

impl ModelSpec {
    /// The model of these sizes.
    ///
    /// # Errors
    /// [`Error::InvalidModel`] if the family has none of these sizes.
    pub fn new(architecture: Architecture) -> Result<Self> {
        if !architecture.exists() {
            return Err(architecture.invalid());
        }
        Ok(Self { name: architecture.to_string(), architecture })
    }

    /// Its name, which [`find`](crate::find) takes.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its family and sizes.
    pub fn architecture(&self) -> Architecture {
        self.architecture
    }

    /// Side length of the images it is made for; others that are not much smaller work too.
    pub fn image_size(&self) -> usize {
        self.architecture.image_size()
    }

    /// Dropout probability unless [`BuildOptions::dropout`] says otherwise.
    pub fn default_dropout(&self) -> f64 {
        match self.architecture {
            // torchvision's. The 32×32 members have far fewer weights to regularise.
            Architecture::Vgg(VggConfig { size: VggSize::ImageNet, .. }) => 0.5,
            _ => 0.0,
        }
    }

    /// Builds the model, its parameters from `vb`.
    ///
    /// # Errors
    /// [`Error::Options`] for impossible options, and [`Error::Core`] if `vb` has parameters of
    /// the same names with other shapes.
    pub fn build(
        &self,
        variant: Variant,
        options: &BuildOptions,
        vb: VarBuilder,
    ) -> Result<Box<dyn Classifier>> {
        options.check()?;
        let backbone_options = BackboneOptions {
            classes: options.num_classes,
            attention: variant.has_attention_branch(),
            top: if variant == Variant::Cam { Top::None } else { Top::Full },
            norm: BatchNormConfig { momentum: options.bn_momentum, ..Default::default() },
            dropout: options.dropout.unwrap_or(self.default_dropout()),
        };
        let head = AttentionConfig {
            preset: options.preset,
            trunk_norm: match self.architecture {
                Architecture::CifarResNeXt(_) => TrunkNorm::Unused,
                _ => TrunkNorm::Applied,
            },
            map: match self.architecture {
                Architecture::ResNet(ResNetConfig { squeeze: true, .. })
                | Architecture::CifarResNet { squeeze: true, .. } => MapHead::LogSum,
                _ => MapHead::Convolution,
            },
            norm: backbone_options.norm,
        };
        let backbone = self.backbone(&backbone_options, vb.clone())?;
        let classes = options.num_classes;
        let abn = |backbone, vb| Abn::new(backbone, classes, options.mechanism, head, vb);
        Ok(match variant {
            Variant::Baseline => Box::new(Baseline::new(backbone)),
            Variant::Cam => Box::new(Cam::new(backbone, classes, vb)?),
            Variant::Abn => Box::new(abn(backbone, vb)?),
            Variant::Control => Box::new(Control::new(abn(backbone, vb)?)),
        })
    }

    /// Builds the backbone alone, for a model of another kind.
    ///
    /// # Errors
    /// As [`ModelSpec::build`].
    pub fn backbone(&self, options: &BackboneOptions, vb: VarBuilder) -> Result<Box<dyn Backbone>> {
        Ok(match self.architecture {
            Architecture::CifarResNet { depth, squeeze } => {
                Box::new(CifarResNet::new(depth, squeeze, options, vb)?)
            }
            Architecture::WideResNet { depth, widen_factor } => {
                Box::new(WideResNet::new(depth, widen_factor, options, vb)?)
            }
            Architecture::CifarResNeXt(config) => Box::new(CifarResNeXt::new(config, options, vb)?),
            Architecture::CifarDenseNet { depth, growth } => {
                Box::new(CifarDenseNet::new(depth, growth, options, vb)?)
            }
            Architecture::Vgg(config) => Box::new(Vgg::new(config, options, vb)?),
            Architecture::ResNet(config) => Box::new(ResNet::new(config, options, vb)?),
            Architecture::DenseNet { depth } => Box::new(DenseNet::new(depth, options, vb)?),
        })
    }

    /// What the model takes at its [image size](Self::image_size), with the default options.
    /// Computes nothing and takes a millisecond or so, whatever the model.
    ///
    /// # Errors
    /// As [`ModelSpec::build`].
    pub fn cost(&self, variant: Variant, num_classes: usize) -> Result<Cost> {
        self.cost_with(variant, &BuildOptions::new(num_classes))
    }

    /// [`ModelSpec::cost`] of a model built with these options.
    ///
    /// # Errors
    /// As [`ModelSpec::build`].
    pub fn cost_with(&self, variant: Variant, options: &BuildOptions) -> Result<Cost> {
        self.cost_at(variant, options, (self.image_size(), self.image_size()))
    }

    /// [`ModelSpec::cost_with`] for images of this height and width.
    ///
    /// # Errors
    /// As [`ModelSpec::build`], and if the images are too small for the model.
    pub fn cost_at(
        &self,
        variant: Variant,
        options: &BuildOptions,
        (height, width): (usize, usize),
    ) -> Result<Cost> {
        let store = ParamStore::shapes_only();
        let model = self.build(variant, options, store.var_builder())?;
        let shape = (1, 3, height, width);
        let image =
            abn_ops::zeros_without_memory(shape, DType::F32).map_err(abn_core::Error::from)?;
        let image = Tracked::constant(image);
        let (output, multiply_adds) =
            abn_ops::count_multiply_adds(|| model.forward(&image, Mode::Eval));
        output?;
        Ok(Cost { parameters: store.parameter_count() as u64, multiply_adds })
    }
}
