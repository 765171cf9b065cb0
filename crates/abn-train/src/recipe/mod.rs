//! What a run does: a flat TOML file that a person reads and edits.

mod check;
mod file;
#[cfg(test)]
mod tests;

use std::num::NonZeroUsize;
use std::path::PathBuf;

use abn_backbones::Variant;
use abn_core::{Mechanism, Preset};
use abn_data::Size;
use abn_multitask::Form;
use serde::{Deserialize, Serialize};

use crate::{Precision, Result, Schedule};

pub use file::Difference;

/// What a run does, completely: equal recipes on equal data give equal weights.
///
/// In a file every key may be left out; what stands in the documentation of each field is then
/// taken. The defaults together are the ten-epoch run of ABN ResNet-20 on the embedded data.
/// Where to write, how many threads to use and what to print are no part of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Recipe {
    /// Name of the network, as `abn models` lists them. Default: `"resnet20"`.
    pub model: String,
    /// `"abn"` for the network with its attention branch, `"baseline"` for the network alone,
    /// `"cam"` for the layers of class activation mapping at its end, `"control"` for an attention
    /// branch whose map changes nothing. Default: `"abn"`.
    #[serde(with = "text")]
    pub variant: Variant,
    /// How the map acts on the features: `"residual"`, g·(1+M) (eq. 2), or `"multiply"`, g·M
    /// (eq. 1). Without effect on a baseline. Default: `"residual"`; in a file for facial attributes
    /// `"multiply"`, which both published networks for them have.
    #[serde(with = "text")]
    pub mechanism: Mechanism,
    /// Where the paper's figures and the authors' released code differ, whom the attention branch
    /// follows: `"code"`, whose map comes from a 3×3 convolution and which produced the paper's
    /// numbers, or `"paper"`, with a 1×1 convolution. Without effect on a baseline. Default:
    /// `"code"`.
    #[serde(with = "text", skip_serializing_if = "is_default")]
    pub preset: Preset,
    /// Which network answers a dataset of several tasks: `"chainer"`, the paper's, or `"v1"`, the
    /// authors' later one ([`Form`]). Without effect on a dataset of one task. Default: `"chainer"`.
    #[serde(with = "text", skip_serializing_if = "is_default")]
    pub form: Form,
    /// How many tasks the perception branch does at a time: fewer take less memory and give the same
    /// numbers. Without effect on a dataset of one task. Default: none, which does all at once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tasks_per_pass: Option<NonZeroUsize>,
    /// Name of the dataset, as `abn datasets` lists them. Default: `"fashion-mnist-mini"`, which
    /// is part of the program.
    pub dataset: String,
    /// The folder with the dataset's files. Default: none, for datasets that need none. Not
    /// compared when a run is resumed: data may move.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data_dir: Option<PathBuf>,
    /// Train on the first so many images of each class, in the set's order; the test set stays
    /// whole. Default: none, which takes all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub images_per_class: Option<usize>,
    /// Shorter side of the network's input in pixels; its shape is that of the dataset's images.
    /// Default: none, which takes the side that the network is made for, 32 or 224.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image_size: Option<usize>,
    /// Passes over the training set. Default: 10.
    pub epochs: usize,
    /// Images per step, over all processes if several share it; the last step of an epoch takes what
    /// remains. Default: 64.
    pub batch_size: usize,
    /// Parts in which a step's images go through the network, to need less memory; it divides
    /// `batch_size`. The gradient is that of the mean over all the step's images, but batch norm
    /// sees the parts: its statistics are those of `batch_size / accumulate` images, and the
    /// running ones move once for each part. Default: 1.
    #[serde(skip_serializing_if = "is_one")]
    pub accumulate: usize,
    /// Learning rate of the first epoch, or the one that a warm-up leads to. Default: 0.1.
    pub lr: f64,
    /// `"multistep"`, by `milestones` and `gamma`, or `"cosine"`, which falls to 0 at the end of
    /// the run, step by step ([`Schedule`]). Default: `"multistep"`.
    #[serde(with = "text", skip_serializing_if = "is_default")]
    pub schedule: Schedule,
    /// Epochs in which the learning rate grows to the schedule's, by as much at each step; fewer
    /// than `epochs`. Default: 0.
    #[serde(skip_serializing_if = "is_default")]
    pub warmup_epochs: usize,
    /// The learning rate is multiplied by `gamma` after each of these numbers of epochs
    /// (PyTorch's `MultiStepLR`). Without effect on a cosine. Default: `[5, 7]`.
    pub milestones: Vec<usize>,
    /// Factor at each milestone. Default: 0.1.
    pub gamma: f64,
    /// Momentum of SGD. Default: 0.9.
    pub momentum: f64,
    /// Nesterov's form of the momentum. Default: false.
    pub nesterov: bool,
    /// Weight decay of SGD, on every trainable parameter. Default: 1e-4.
    pub weight_decay: f64,
    /// Share of each training label that is spread evenly over all classes, in both branches'
    /// losses (PyTorch's `CrossEntropyLoss(label_smoothing=…)`). Evaluation takes the labels as
    /// they are. Default: 0.
    #[serde(skip_serializing_if = "is_default")]
    pub label_smoothing: f64,
    /// Train a second set of weights, the exponential moving average of the trained ones with this
    /// decay (PyTorch's `swa_utils.get_ema_multi_avg_fn`), statistics of batch norm included: what
    /// is evaluated and saved as the network are these. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ema_decay: Option<f64>,
    /// Share of the batch's statistics in batch norm's running ones (PyTorch's `momentum`).
    /// Default: 0.1.
    pub bn_momentum: f64,
    /// Several processes share each batch: with this, batch norm's statistics are those of the
    /// whole batch, without it those of each process's part (PyTorch's `SyncBatchNorm`). Without
    /// effect on a process that is alone. Default: false.
    #[serde(skip_serializing_if = "is_default")]
    pub sync_batch_norm: bool,
    /// In what numbers the network computes, `"f32"`, `"tf32"` or `"bf16"` ([`Precision`]); the weights
    /// that are trained are f32 in each. On the CPU `"tf32"` is f32, and there is no `"bf16"`. Default:
    /// `"tf32"`.
    #[serde(with = "text", skip_serializing_if = "is_default")]
    pub precision: Precision,
    /// Probability of dropout, in the families that have it. Default: none, which takes the
    /// family's (0.5 in VGG).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dropout: Option<f64>,
    /// Random crop after 4 pixels of zero padding, and horizontal flip. Default: true.
    pub augment: bool,
    /// A file of weights to start from (PyTorch's or safetensors), or a run. Default: none. Not
    /// compared when a run is resumed, its hash is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub init: Option<PathBuf>,
    /// SHA-256 of the weights to start from. Default: that of the file, and written down with the
    /// run; if given, the file must have it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub init_sha256: Option<String>,
    /// Seed of the initial weights, the order of the images, the augmentation and dropout, each
    /// of which draws its own stream from it. Default: 0.
    pub seed: u64,
}

impl Default for Recipe {
    fn default() -> Self {
        Self {
            model: "resnet20".into(),
            variant: Variant::Abn,
            mechanism: Mechanism::Residual,
            preset: Preset::Code,
            form: Form::Chainer,
            tasks_per_pass: None,
            dataset: "fashion-mnist-mini".into(),
            data_dir: None,
            images_per_class: None,
            image_size: None,
            epochs: 10,
            batch_size: 64,
            accumulate: 1,
            lr: 0.1,
            schedule: Schedule::Multistep,
            warmup_epochs: 0,
            milestones: vec![5, 7],
            gamma: 0.1,
            momentum: 0.9,
            nesterov: false,
            weight_decay: 1e-4,
            label_smoothing: 0.0,
            ema_decay: None,
            bn_momentum: 0.1,
            sync_batch_norm: false,
            precision: Precision::Tf32,
            dropout: None,
            augment: true,
            init: None,
            init_sha256: None,
            seed: 0,
        }
    }
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

fn is_one(value: &usize) -> bool {
    *value == 1
}

impl Recipe {
    /// Every key a recipe may have.
    pub const KEYS: [&str; 31] = [
        "model",
        "variant",
        "mechanism",
        "preset",
        "form",
        "tasks_per_pass",
        "dataset",
        "data_dir",
        "images_per_class",
        "image_size",
        "epochs",
        "batch_size",
        "accumulate",
        "lr",
        "schedule",
        "warmup_epochs",
        "milestones",
        "gamma",
        "momentum",
        "nesterov",
        "weight_decay",
        "label_smoothing",
        "ema_decay",
        "bn_momentum",
        "sync_batch_norm",
        "precision",
        "dropout",
        "augment",
        "init",
        "init_sha256",
        "seed",
    ];

    /// How the map acts on the features in the published networks for a dataset: g·M on faces, g·(1+M)
    /// elsewhere.
    pub fn published_mechanism(dataset: &str) -> Mechanism {
        match dataset {
            "celeba" | "celeba-val" => Mechanism::Multiply,
            _ => Mechanism::Residual,
        }
    }

    /// Size of the network's input, for a dataset of images of this shape.
    ///
    /// # Errors
    /// If the model is not known.
    pub fn input_size(&self, shape: Size) -> Result<Size> {
        let side = match self.image_size {
            Some(side) => side,
            None => abn_backbones::find(&self.model)?.image_size(),
        };
        Ok(shape.with_shorter(side))
    }
}

/// Values that are written as the command line writes them.
mod text {
    use std::fmt::Display;
    use std::str::FromStr;

    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub fn serialize<T: Display, S: Serializer>(value: &T, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(value)
    }

    pub fn deserialize<'de, T, D>(from: D) -> Result<T, D::Error>
    where
        T: FromStr<Err: Display>,
        D: Deserializer<'de>,
    {
        String::deserialize(from)?.parse().map_err(D::Error::custom)
    }
}
