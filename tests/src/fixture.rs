//! Fixtures: numbers of the authors' PyTorch code, computed in float64 on weights and inputs that
//! a hash defines. `tests/reference` has the script that makes more of them.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use abn_backbones::{Architecture, ModelSpec, ResNeXtConfig, Variant};
use abn_core::Mechanism;
use abn_multitask::{BuildOptions, Form, Task};
use anyhow::{Context, Result, bail, ensure};
use candle_core::{Device, Tensor};
use serde::Deserialize;

/// One pair of `NAME.json` and `NAME.safetensors`.
#[derive(Debug, Deserialize)]
pub struct Fixture {
    /// The files' name.
    pub name: String,
    /// The variant, or `multitask` or `multitask_baseline`.
    pub kind: String,
    /// Which network.
    pub config: Config,
    /// Images in the batch.
    pub batch: usize,
    /// Side length of the images.
    pub image_size: usize,
    /// Number of classes (K), or of tasks (T).
    pub num_classes: usize,
    /// Batch norm's momentum.
    pub bn_momentum: f64,
    /// How the steps were done.
    pub sgd: Sgd,
    /// Shapes of all parameters.
    pub parameters: BTreeMap<String, Vec<usize>>,
    /// Shapes of all running statistics.
    pub buffers: BTreeMap<String, Vec<usize>>,
    /// Elements of all parameters.
    pub parameter_count: usize,
    /// L2 norm of each parameter's gradient; `None` if nothing depends on the parameter.
    pub grad_l2: BTreeMap<String, Option<f64>>,
    /// L2 norm of the running statistics after the first forward pass.
    pub buffer_l2_after_first_forward: BTreeMap<String, f64>,
    /// Losses of each step, before its update.
    pub loss_trajectory: Vec<Losses>,
    /// L2 norm of each parameter after the last step.
    pub param_l2_after: BTreeMap<String, f64>,
    /// How far PyTorch's float32 is from its float64.
    pub float32_deviation: BTreeMap<String, f64>,
    /// `train.*`, `grad.*` and `eval.*`.
    #[serde(skip)]
    pub tensors: BTreeMap<String, Tensor>,
}

/// Which network a fixture is of.
#[derive(Debug, Deserialize)]
pub struct Config {
    /// Name of the architecture in the authors' code or torchvision.
    pub arch: String,
    depth: Option<usize>,
    widen_factor: Option<usize>,
    cardinality: Option<usize>,
    base_width: Option<usize>,
    #[serde(rename = "growthRate")]
    growth_rate: Option<usize>,
    residual_attention: Option<bool>,
    /// Of each task.
    categories: Option<Vec<usize>>,
}

/// How the steps of a fixture were done.
#[derive(Debug, Deserialize)]
pub struct Sgd {
    /// Learning rate.
    pub lr: f64,
    /// Momentum.
    pub momentum: f64,
    /// Weight decay.
    pub weight_decay: f64,
    /// Number of steps.
    pub steps: usize,
}

/// The losses of one step.
#[derive(Clone, Copy, Debug, Deserialize)]
pub struct Losses {
    /// Attention branch.
    pub att: Option<f64>,
    /// Perception branch.
    pub per: f64,
    /// Their sum.
    pub total: f64,
}

impl Fixture {
    /// All fixtures in a folder, sorted by name.
    ///
    /// # Errors
    /// If there is none, or one cannot be read.
    pub fn all(folder: &Path) -> Result<Vec<Self>> {
        let entries = folder.read_dir().with_context(|| folder.display().to_string())?;
        let mut paths = entries.map(|e| Ok(e?.path())).collect::<Result<Vec<PathBuf>>>()?;
        paths.retain(|path| path.extension().is_some_and(|e| e == "json"));
        paths.sort();
        ensure!(!paths.is_empty(), "{} has no fixtures", folder.display());
        paths.iter().map(|path| Self::read(path)).collect()
    }

    /// Reads `path` (the json) and the safetensors file beside it.
    ///
    /// # Errors
    /// If one of them cannot be read.
    pub fn read(path: &Path) -> Result<Self> {
        let context = || path.display().to_string();
        let text = std::fs::read_to_string(path).with_context(context)?;
        let mut fixture: Self = serde_json::from_str(&text).with_context(context)?;
        let weights = abn_core::weights::read(&path.with_extension("safetensors"), &Device::Cpu)?;
        fixture.tensors = weights.tensors;
        Ok(fixture)
    }

    /// Whether it is of a model for several tasks.
    pub fn is_multitask(&self) -> bool {
        self.kind.starts_with("multitask")
    }

    /// The tasks: of two answers, unless `categories` says otherwise.
    pub fn tasks(&self) -> Vec<Task> {
        let categories = |t| self.config.categories.as_ref().and_then(|c| c.get(t)).copied();
        let task = |t| Task::new(format!("task {t}"), categories(t).unwrap_or(2));
        (0..self.num_classes).map(task).collect()
    }

    /// Which model for several tasks: the backbone, and how it is built.
    ///
    /// # Errors
    /// If `arch` is not `mtabn_FORM_BACKBONE`, or `kind` unknown.
    pub fn multitask(&self) -> Result<(ModelSpec, BuildOptions)> {
        let arch = self.config.arch.as_str();
        let parts = arch.strip_prefix("mtabn_").and_then(|rest| rest.split_once('_'));
        let (form, backbone) = parts.with_context(|| format!("{}: `{arch}`", self.name))?;
        let mut config = form.parse::<Form>()?.config();
        if self.config.residual_attention == Some(true) {
            config.mechanism = Mechanism::Residual;
        }
        // Two at a time: what is summed over the passes is part of what is compared.
        config.tasks_per_pass = NonZeroUsize::new(2);
        let variant = match self.kind.as_str() {
            "multitask" => abn_multitask::Variant::Abn,
            "multitask_baseline" => abn_multitask::Variant::Baseline,
            other => bail!("{}: unknown kind `{other}`", self.name),
        };
        let bn_momentum = self.bn_momentum;
        let options = BuildOptions::new(variant, config);
        let options = BuildOptions { bn_momentum, dropout: Some(0.0), ..options };
        let backbone = backbone.replace("se_resnet_", "se-resnet");
        Ok((abn_backbones::find(&backbone)?, options))
    }

    /// What is made of the network.
    ///
    /// # Errors
    /// If `kind` is no variant.
    pub fn variant(&self) -> Result<Variant> {
        self.kind.parse().with_context(|| self.name.clone())
    }

    /// The model of `config`.
    ///
    /// # Errors
    /// If the architecture is unknown or lacks a size.
    pub fn model(&self) -> Result<ModelSpec> {
        let arch = self.config.arch.as_str();
        let size = |value: Option<usize>, key: &str| {
            value.with_context(|| format!("{}: `{arch}` without `{key}`", self.name))
        };
        let depth = || size(self.config.depth, "depth");
        let widen_factor = || size(self.config.widen_factor, "widen_factor");
        let architecture = match arch {
            "resnet" => Architecture::CifarResNet { depth: depth()?, squeeze: false },
            "wrn" => Architecture::WideResNet { depth: depth()?, widen_factor: widen_factor()? },
            "resnext" => Architecture::CifarResNeXt(ResNeXtConfig {
                depth: depth()?,
                cardinality: size(self.config.cardinality, "cardinality")?,
                base_width: self.config.base_width.unwrap_or(64),
                widen_factor: self.config.widen_factor.unwrap_or(ResNeXtConfig::WIDEN_FACTOR),
            }),
            "densenet" => Architecture::CifarDenseNet {
                depth: depth()?,
                growth: size(self.config.growth_rate, "growthRate")?,
            },
            // torchvision's names, but for the underscore; and `se_resnet_50`.
            name => match abn_backbones::find(&name.replace("se_resnet_", "se-resnet"))?
                .architecture()
            {
                Architecture::CifarResNet { .. } => {
                    bail!("{}: `{arch}` is no architecture of torchvision's", self.name)
                }
                known => known,
            },
        };
        Ok(ModelSpec::new(architecture)?)
    }

    /// The weights the fixture starts from: parameters by the hash of their names, statistics 0
    /// and 1.
    ///
    /// # Errors
    /// None but candle's own.
    pub fn initial_weights(&self) -> Result<BTreeMap<String, Tensor>> {
        hash_defined(&self.parameters, &self.buffers)
    }

    /// The batch of images (N, 3, H, W), f32.
    ///
    /// # Errors
    /// None but candle's own.
    pub fn images(&self) -> Result<Tensor> {
        images(self.batch, self.image_size)
    }

    /// The batch's labels, u32: (N), or (N, T) of several tasks.
    ///
    /// # Errors
    /// None but candle's own.
    pub fn labels(&self) -> Result<Tensor> {
        if self.is_multitask() {
            let tasks = self.tasks();
            let answers = tasks.iter().map(|task| task.categories as u64).cycle();
            let labels = hashes("target").zip(answers).map(|(z, answers)| (z % answers) as u32);
            let labels: Vec<u32> = labels.take(self.batch * tasks.len()).collect();
            return Ok(Tensor::from_vec(labels, (self.batch, tasks.len()), &Device::Cpu)?);
        }
        let labels: Vec<u32> = hashes("target")
            .take(self.batch)
            .map(|z| (z % self.num_classes as u64) as u32)
            .collect();
        Ok(Tensor::new(labels, &Device::Cpu)?)
    }
}

/// Weights of these shapes, f32: parameters by the hash of their names, statistics 0 and 1.
///
/// # Errors
/// None but candle's own.
pub fn hash_defined(
    parameters: &BTreeMap<String, Vec<usize>>,
    buffers: &BTreeMap<String, Vec<usize>>,
) -> Result<BTreeMap<String, Tensor>> {
    let mut weights = BTreeMap::new();
    for (name, shape) in parameters {
        let (offset, scale) = distribution(name, shape, buffers);
        let count = shape.iter().product();
        let values = hashed(name).take(count).map(|u| (offset + u * scale) as f32);
        let values: Vec<f32> = values.collect();
        let tensor = Tensor::from_vec(values, shape.as_slice(), &Device::Cpu)?;
        weights.insert(name.clone(), tensor);
    }
    for (name, shape) in buffers {
        let value: f32 = if name.ends_with("running_var") { 1.0 } else { 0.0 };
        let tensor = Tensor::full(value, shape.as_slice(), &Device::Cpu)?;
        weights.insert(name.clone(), tensor);
    }
    Ok(weights)
}

/// Offset and scale of a parameter's hashed values.
fn distribution(name: &str, shape: &[usize], buffers: &BTreeMap<String, Vec<usize>>) -> (f64, f64) {
    match *shape {
        [_, channels, height, width] => (0.0, (6.0 / (channels * height * width) as f64).sqrt()),
        [_, columns] => (0.0, (1.0 / columns as f64).sqrt()),
        _ => {
            let (layer, kind) = name.rsplit_once('.').unwrap_or(("", name));
            let batch_norm = buffers.contains_key(&format!("{layer}.running_mean"));
            if batch_norm && kind == "weight" { (1.0, 0.2) } else { (0.0, 0.1) }
        }
    }
}

/// A batch of images (N, 3, size, size), f32.
///
/// # Errors
/// None but candle's own.
pub fn images(batch: usize, size: usize) -> Result<Tensor> {
    let count = batch * 3 * size * size;
    let values: Vec<f32> = hashed("input").take(count).map(|u| (u * 1.7) as f32).collect();
    Ok(Tensor::from_vec(values, (batch, 3, size, size), &Device::Cpu)?)
}

/// Numbers of a name: SplitMix64 from the name's FNV-1a hash.
fn hashes(name: &str) -> impl Iterator<Item = u64> {
    let start = name.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    (1u64..).map(move |i| {
        let mut z = start.wrapping_add(i.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    })
}

/// Numbers of a name in [-1, 1).
fn hashed(name: &str) -> impl Iterator<Item = f64> {
    hashes(name).map(|z| 2.0 * ((z >> 40) as f64 / (1u64 << 24) as f64) - 1.0)
}
