//! Models for several tasks of any named backbone.

use std::fmt;
use std::str::FromStr;

use abn_backbones::{BackboneOptions, Cost, ModelSpec, Top};
use abn_core::layers::BatchNormConfig;
use abn_core::{Mode, ParamStore};
use abn_ops::Tracked;
use candle_core::DType;
use candle_nn::VarBuilder;

use crate::{Config, Error, MultiTask, MultiTaskAbn, MultiTaskBaseline, Result, Task};

/// What is made of a backbone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Variant {
    /// [`MultiTaskBaseline`]
    Baseline,
    /// [`MultiTaskAbn`]
    Abn,
}

impl fmt::Display for Variant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Baseline => "baseline",
            Self::Abn => "abn",
        })
    }
}

impl FromStr for Variant {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        match name {
            "baseline" => Ok(Self::Baseline),
            "abn" => Ok(Self::Abn),
            _ => Err(Error::UnknownName {
                what: "multi-task variant",
                name: name.to_owned(),
                expected: "`baseline` or `abn`",
            }),
        }
    }
}

/// How to build a model.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BuildOptions {
    /// Baseline or ABN.
    pub variant: Variant,
    /// The form of its answers and attention.
    pub config: Config,
    /// Batch norm's momentum (PyTorch's convention), above 0 and at most 1.
    pub bn_momentum: f64,
    /// Dropout probability; `None`: the family's default.
    pub dropout: Option<f64>,
}

impl BuildOptions {
    /// The defaults: batch norm momentum 0.1, the family's dropout.
    pub fn new(variant: Variant, config: Config) -> Self {
        let bn_momentum = BatchNormConfig::default().momentum;
        Self { variant, config, bn_momentum, dropout: None }
    }
}

/// Builds a model of the named backbone, its parameters from `vb`, which stands at the root.
///
/// Parameter names are those of the authors' multi-task code: `layer4_att` is what their other
/// networks call `att_layer4`, the maps come from `conv_att`, the answers from `output_per.0`,
/// `output_per.1`, …
///
/// # Errors
/// [`Error::Tasks`] of tasks or options that cannot be, or if `vb` has parameters of the same names
/// with other shapes.
pub fn build(
    spec: &ModelSpec,
    tasks: &[Task],
    options: &BuildOptions,
    vb: VarBuilder,
) -> Result<Box<dyn MultiTask>> {
    let BuildOptions { variant, config, bn_momentum, dropout } = *options;
    if !(bn_momentum > 0.0 && bn_momentum <= 1.0) {
        let reason = format!("batch norm momentum {bn_momentum} is not above 0 and at most 1");
        return Err(Error::Tasks(reason));
    }
    let norm = BatchNormConfig { momentum: bn_momentum, ..Default::default() };
    let backbone = BackboneOptions {
        classes: 0,
        attention: variant == Variant::Abn,
        top: Top::Hidden,
        norm,
        dropout: dropout.unwrap_or(spec.default_dropout()),
    };
    let vb = vb.rename_f(trunk_name);
    let tasks = tasks.to_vec();
    let backbone = spec.backbone(&backbone, vb.clone())?;
    Ok(match variant {
        Variant::Baseline => Box::new(MultiTaskBaseline::new(backbone, tasks, config, vb)?),
        Variant::Abn => Box::new(MultiTaskAbn::new(backbone, tasks, config, norm, vb)?),
    })
}

/// `att_layer4…` as `layer4_att…`, other names as they are.
fn trunk_name(name: &str) -> String {
    let renamed = name.strip_prefix("att_layer").and_then(|rest| {
        let (stage, layer) = rest.split_once('.')?;
        let is_number = !stage.is_empty() && stage.bytes().all(|b| b.is_ascii_digit());
        is_number.then(|| format!("layer{stage}_att.{layer}"))
    });
    renamed.unwrap_or_else(|| name.to_owned())
}

/// What the model takes for one image of the backbone's size. Computes nothing.
///
/// # Errors
/// As [`build`].
pub fn cost(spec: &ModelSpec, tasks: &[Task], options: &BuildOptions) -> Result<Cost> {
    cost_at(spec, tasks, options, (spec.image_size(), spec.image_size()))
}

/// [`cost`] for an image of (height, width).
///
/// # Errors
/// As [`build`].
pub fn cost_at(
    spec: &ModelSpec,
    tasks: &[Task],
    options: &BuildOptions,
    (height, width): (usize, usize),
) -> Result<Cost> {
    let store = ParamStore::shapes_only();
    let model = build(spec, tasks, options, store.var_builder())?;
    let shape = (1, 3, height, width);
    let image = Tracked::constant(abn_ops::zeros_without_memory(shape, DType::F32)?);
    let (output, multiply_adds) =
        abn_ops::count_multiply_adds(|| model.forward(&image, Mode::Eval));
    output?;
    Ok(Cost { parameters: store.parameter_count() as u64, multiply_adds })
}
