//! What a run does: a flat TOML file that a person reads and edits.

use std::fmt;
use std::num::NonZeroUsize;
use std::ops::Range;
use std::path::{Path, PathBuf};

use abn_backbones::Variant;
use abn_core::{Mechanism, Preset};
use abn_data::Size;
use abn_multitask::Form;
use serde::{Deserialize, Serialize};
use toml::de::DeTable;

use crate::{Error, Precision, Result, Schedule, names};

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

/// The keys that recipes did not have from the start, with their defaults in TOML. A recipe is
/// identified without them where they have these, so that older runs stay what they are.
const LATER: [(&str, &str); 8] = [
    ("preset", "\"code\""),
    ("form", "\"chainer\""),
    ("accumulate", "1"),
    ("schedule", "\"multistep\""),
    ("warmup_epochs", "0"),
    ("label_smoothing", "0.0"),
    ("sync_batch_norm", "false"),
    ("precision", "\"tf32\""),
];

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

fn is_one(value: &usize) -> bool {
    *value == 1
}

/// A value that cannot be, by the key it stands under.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Invalid {
    pub key: &'static str,
    pub problem: String,
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

    /// Reads and checks a recipe.
    ///
    /// # Errors
    /// If the file cannot be read, is not TOML, has a key that no recipe has, or a value that
    /// cannot be: names the file, the line and the key.
    pub fn load(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).map_err(Error::io("cannot read", path))?;
        Self::parse(&text, path)
    }

    /// Checks a recipe given as text; `path` is what errors call it.
    ///
    /// # Errors
    /// As [`Recipe::load`].
    pub fn parse(text: &str, path: &Path) -> Result<Self> {
        let located = |span: Option<Range<usize>>, key: Option<&str>, problem: String| {
            let start = span.map_or(0, |span| span.start).min(text.len());
            Error::Recipe {
                file: path.to_owned(),
                line: 1 + text.as_bytes()[..start].iter().filter(|&&byte| byte == b'\n').count(),
                key: key.map(str::to_owned),
                problem,
            }
        };
        let table = DeTable::parse(text)
            .map_err(|error| located(error.span(), None, error.message().to_owned()))?;
        let table = table.get_ref();
        for key in table.keys() {
            if !Self::KEYS.contains(&key.get_ref().as_ref()) {
                let near = names::did_you_mean(key.get_ref(), Self::KEYS);
                let problem = format!("no such key{near} (the keys are {})", Self::KEYS.join(", "));
                return Err(located(Some(key.span()), Some(key.get_ref()), problem));
            }
        }
        let mut recipe: Self = toml::from_str(text).map_err(|error| {
            let at = error.span().map_or(0, |span| span.start);
            let key = table.iter().find(|(_, value)| value.span().contains(&at));
            located(
                error.span(),
                key.map(|(key, _)| key.get_ref().as_ref()),
                error.message().into(),
            )
        })?;
        if !table.contains_key("mechanism") {
            recipe.mechanism = Self::published_mechanism(&recipe.dataset);
        }
        recipe.check().map_err(|invalid| {
            let key = table.keys().find(|key| key.get_ref() == invalid.key);
            located(key.map(|key| key.span()), Some(invalid.key), invalid.problem)
        })?;
        Ok(recipe)
    }

    /// How the map acts on the features in the published networks for a dataset: g·M on faces, g·(1+M)
    /// elsewhere.
    pub fn published_mechanism(dataset: &str) -> Mechanism {
        match dataset {
            "celeba" | "celeba-val" => Mechanism::Multiply,
            _ => Mechanism::Residual,
        }
    }

    /// Checks every value that can be checked without the data.
    ///
    /// # Errors
    /// Names the key and what was expected.
    pub fn validate(&self) -> Result<()> {
        self.check().map_err(|Invalid { key, problem }| Error::Setting { key, problem })
    }

    fn check(&self) -> std::result::Result<(), Invalid> {
        let invalid = |key, problem: String| Err(Invalid { key, problem });
        if let Err(error) = abn_backbones::find(&self.model) {
            return invalid("model", error.to_string());
        }
        let known = abn_data::DATASETS.map(|info| info.name);
        if !known.contains(&self.dataset.as_str()) {
            let near = names::did_you_mean(&self.dataset, known.iter().copied());
            let problem =
                format!("unknown dataset {:?}{near} (known: {})", self.dataset, known.join(", "));
            return invalid("dataset", problem);
        }
        for (key, value) in [
            ("epochs", self.epochs),
            ("batch_size", self.batch_size),
            ("accumulate", self.accumulate),
            ("images_per_class", self.images_per_class.unwrap_or(1)),
        ] {
            if value == 0 {
                return invalid(key, "must be at least 1, is 0".into());
            }
        }
        // Smaller ones leave the deeper networks without a pixel, larger ones no memory.
        if let Some(size) = self.image_size.filter(|size| !(16..=4096).contains(size)) {
            return invalid("image_size", format!("must be in 16 to 4096, is {size}"));
        }
        if !self.batch_size.is_multiple_of(self.accumulate) {
            let (parts, images) = (self.accumulate, self.batch_size);
            return invalid("accumulate", format!("must divide batch_size, {images}, is {parts}"));
        }
        if self.warmup_epochs >= self.epochs {
            let (warmup, epochs) = (self.warmup_epochs, self.epochs);
            return invalid(
                "warmup_epochs",
                format!("must be less than epochs, {epochs}, is {warmup}"),
            );
        }
        let positive = |x: f64| x > 0.0 && x.is_finite();
        for (key, value, fine, expected) in [
            ("lr", self.lr, positive(self.lr), "a positive number"),
            ("gamma", self.gamma, positive(self.gamma), "a positive number"),
            (
                "momentum",
                self.momentum,
                (0.0..1.0).contains(&self.momentum),
                "in 0 to 1, without 1",
            ),
            (
                "weight_decay",
                self.weight_decay,
                self.weight_decay == 0.0 || positive(self.weight_decay),
                "0 or a positive number",
            ),
            (
                "label_smoothing",
                self.label_smoothing,
                (0.0..1.0).contains(&self.label_smoothing),
                "in 0 to 1, without 1",
            ),
            (
                "bn_momentum",
                self.bn_momentum,
                positive(self.bn_momentum) && self.bn_momentum <= 1.0,
                "above 0 and at most 1",
            ),
        ] {
            if !fine {
                return invalid(key, format!("must be {expected}, is {value}"));
            }
        }
        for (key, value) in [("dropout", self.dropout), ("ema_decay", self.ema_decay)] {
            if let Some(value) = value.filter(|value| !(0.0..1.0).contains(value)) {
                return invalid(key, format!("must be in 0 to 1, without 1, is {value}"));
            }
        }
        let digits = |hash: &str| hash.len() == 64 && hash.bytes().all(|b| b.is_ascii_hexdigit());
        if let Some(hash) = self.init_sha256.as_ref().filter(|hash| !digits(hash)) {
            return invalid("init_sha256", format!("must be 64 hexadecimal digits, is {hash:?}"));
        }
        if self.nesterov && self.momentum == 0.0 {
            return invalid("nesterov", "needs a momentum above 0".into());
        }
        let increasing = self.milestones.is_sorted_by(|a, b| a < b);
        if !increasing || self.milestones.first() == Some(&0) {
            let problem = format!("must increase, from 1 on; are {:?}", self.milestones);
            return invalid("milestones", problem);
        }
        if i64::try_from(self.seed).is_err() {
            return invalid("seed", format!("must be below 2^63, is {}", self.seed));
        }
        Ok(())
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

    /// The recipe as TOML, every key with its value.
    pub fn to_toml(&self) -> String {
        let mut text = self.compact();
        let table: toml::Table = toml::from_str(&text).expect("just written");
        for (key, default) in LATER {
            if !table.contains_key(key) {
                text.push_str(&format!("{key} = {default}\n"));
            }
        }
        text
    }

    /// The recipe as TOML without the [`LATER`] keys that have their default.
    pub(crate) fn compact(&self) -> String {
        toml::to_string(self).expect("numbers, strings and lists are always TOML")
    }

    /// The recipe without what does not change the result.
    pub(crate) fn identity(&self) -> Self {
        Self { data_dir: None, init: None, ..self.clone() }
    }

    /// The keys in which two recipes differ, with both values; where the data lies is no
    /// difference.
    pub(crate) fn differences(&self, other: &Self) -> Vec<Difference> {
        let table = |recipe: &Self| {
            toml::from_str::<toml::Table>(&recipe.identity().to_toml()).expect("just written")
        };
        let (ours, theirs) = (table(self), table(other));
        let differs = |key: &&str| ours.get(*key) != theirs.get(*key);
        let shown = |table: &toml::Table, key: &str| {
            table.get(key).map_or("(none)".into(), toml::Value::to_string)
        };
        let difference = |key: &str| Difference {
            key: key.to_owned(),
            ours: shown(&ours, key),
            theirs: shown(&theirs, key),
        };
        Self::KEYS.into_iter().filter(differs).map(difference).collect()
    }
}

/// One key in which two recipes differ.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// The key.
    pub key: String,
    /// Its value in the recipe asked for.
    pub ours: String,
    /// Its value in the recipe found.
    pub theirs: String,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} = {} there, {} asked for", self.key, self.theirs, self.ours)
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

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Recipe> {
        Recipe::parse(text, Path::new("r.toml"))
    }

    fn message(text: &str) -> String {
        parse(text).expect_err(text).to_string()
    }

    #[test]
    fn an_empty_file_is_the_default() {
        assert_eq!(parse("").unwrap(), Recipe::default());
    }

    #[test]
    fn what_is_written_reads_back_and_has_every_key() {
        let recipe = Recipe {
            data_dir: Some("/data".into()),
            dropout: Some(0.3),
            ema_decay: Some(0.99),
            images_per_class: Some(5),
            image_size: Some(64),
            tasks_per_pass: NonZeroUsize::new(5),
            init: Some("w.pth".into()),
            init_sha256: Some("0a".repeat(32)),
            ..Recipe::default()
        };
        let text = recipe.to_toml();
        assert_eq!(parse(&text).unwrap(), recipe);
        let table: toml::Table = toml::from_str(&text).unwrap();
        let mut keys: Vec<_> = table.keys().map(String::as_str).collect();
        let mut expected = Recipe::KEYS;
        keys.sort_unstable();
        expected.sort_unstable();
        assert_eq!(keys, expected);
    }

    #[test]
    fn later_keys_are_written_with_their_values_but_identify_a_recipe_only_if_set() {
        let set = Recipe {
            preset: Preset::Paper,
            form: Form::V1,
            accumulate: 4,
            schedule: Schedule::Cosine,
            warmup_epochs: 2,
            label_smoothing: 0.1,
            sync_batch_norm: true,
            precision: Precision::Bf16,
            ..Recipe::default()
        };
        for recipe in [set.clone(), Recipe::default()] {
            assert_eq!(parse(&recipe.to_toml()).unwrap(), recipe);
            assert_eq!(parse(&recipe.compact()).unwrap(), recipe);
        }
        for (key, _) in LATER {
            assert!(set.compact().contains(key), "{key}");
            assert!(!Recipe::default().compact().contains(key), "{key}");
        }
        let told: Vec<_> = set.differences(&Recipe::default());
        assert_eq!(told.len(), LATER.len(), "{told:?}");
        assert_eq!(told[0].to_string(), "preset = \"code\" there, \"paper\" asked for");
    }

    #[test]
    fn errors_name_file_line_and_key() {
        let unknown = message("model = \"resnet20\"\n\nepoch = 3\n");
        assert!(unknown.starts_with("r.toml, line 3, key \"epoch\": no such key"), "{unknown}");
        assert!(unknown.contains("did you mean \"epochs\"?"), "{unknown}");
        let kind = message("seed = 1\nepochs = \"ten\"");
        assert!(kind.starts_with("r.toml, line 2, key \"epochs\": invalid type"), "{kind}");
        let variant = message("variant = \"abm\"");
        assert!(variant.starts_with("r.toml, line 1, key \"variant\":"), "{variant}");
        let syntax = message("seed = 1\nlr = = 2");
        assert!(syntax.starts_with("r.toml, line 2: "), "{syntax}");
    }

    #[test]
    fn impossible_values_are_refused() {
        for (text, key) in [
            ("epochs = 0", "epochs"),
            ("batch_size = 0", "batch_size"),
            ("batch_size = -1", "batch_size"),
            ("lr = 0.0", "lr"),
            ("lr = nan", "lr"),
            ("lr = inf", "lr"),
            ("gamma = -0.1", "gamma"),
            ("momentum = 1.0", "momentum"),
            ("weight_decay = -1e-4", "weight_decay"),
            ("bn_momentum = 0.0", "bn_momentum"),
            ("dropout = 1.0", "dropout"),
            ("init_sha256 = \"0a\"", "init_sha256"),
            ("milestones = [7, 5]", "milestones"),
            ("milestones = [5, 5]", "milestones"),
            ("milestones = [0, 5]", "milestones"),
            ("momentum = 0.0\nnesterov = true", "nesterov"),
            ("accumulate = 0", "accumulate"),
            ("batch_size = 10\naccumulate = 3", "accumulate"),
            ("schedule = \"cosinus\"", "schedule"),
            ("epochs = 3\nwarmup_epochs = 3", "warmup_epochs"),
            ("label_smoothing = 1.0", "label_smoothing"),
            ("label_smoothing = nan", "label_smoothing"),
            ("ema_decay = 1.0", "ema_decay"),
            ("preset = \"figure\"", "preset"),
            ("precision = \"f16\"", "precision"),
            ("images_per_class = 0", "images_per_class"),
            ("image_size = 8", "image_size"),
            ("model = \"resnet21\"", "model"),
            ("dataset = \"fashion-mnist-mimi\"", "dataset"),
        ] {
            let said = message(text);
            assert!(said.contains(&format!("key {key:?}")), "{text}: {said}");
        }
    }

    #[test]
    fn the_input_has_the_networks_shorter_side_and_the_datasets_shape() {
        let cars = Size { height: 224, width: 323 };
        let size = |text: &str, shape| parse(text).unwrap().input_size(shape).unwrap();
        assert_eq!(size("", 224.into()), 32.into());
        assert_eq!(size("model = \"vgg16\"", cars), cars);
        assert_eq!(size("image_size = 64", cars), Size { height: 64, width: 92 });
    }

    #[test]
    fn differences_name_keys_but_not_the_place_of_the_data() {
        let ours = Recipe { seed: 1, data_dir: Some("/a".into()), ..Recipe::default() };
        let theirs = Recipe { data_dir: Some("/b".into()), ..Recipe::default() };
        let told: Vec<_> = ours.differences(&theirs).iter().map(ToString::to_string).collect();
        assert_eq!(told, ["seed = 0 there, 1 asked for"]);
    }
}
