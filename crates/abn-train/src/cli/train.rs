use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use abn_backbones::Variant;
use abn_core::{Mechanism, Preset};
use abn_multitask::Form;
use abn_train::parallel::{is_launched, stop_with_parent};
use abn_train::{Precision, Progress, Recipe, Schedule, Summary, TrainOptions, train};
use anyhow::{Context, Result};
use clap::Args;

use super::parallel::ParallelArgs;
use super::{Compute, must_exist, print, thousands};

/// The keys of a recipe; each goes before what the recipe's file says.
#[derive(Args)]
#[command(next_help_heading = "Recipe (each flag goes before the file; defaults in brackets)")]
struct RecipeArgs {
    /// Name of the network, as `abn models` lists them [resnet20]
    #[arg(long)]
    model: Option<String>,
    /// `abn`; or `baseline`, without attention branch; `cam`; `control`, whose map is held [abn]
    #[arg(long)]
    variant: Option<Variant>,
    /// How the map acts on the features: `residual`, g(1+M), or `multiply`, gM [residual; of facial attributes multiply]
    #[arg(long)]
    mechanism: Option<Mechanism>,
    /// Whom the attention branch follows: `code`, the released code, or `paper`, its figure [code]
    #[arg(long)]
    preset: Option<Preset>,
    /// Of several tasks: `chainer`, the paper's network, or `v1`, the authors' later one [chainer]
    #[arg(long)]
    form: Option<Form>,
    /// Of several tasks: how many the perception branch does at a time; fewer take less memory [all]
    #[arg(long, value_name = "N")]
    tasks_per_pass: Option<NonZeroUsize>,
    /// Name of the dataset, as `abn datasets` lists them [fashion-mnist-mini]
    #[arg(long)]
    dataset: Option<String>,
    /// Folder with the dataset's files
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Train on the first so many images of each class [all]
    #[arg(long, value_name = "N")]
    images_per_class: Option<usize>,
    /// Shorter side of the network's input in pixels [the network's own, 32 or 224]
    #[arg(long, value_name = "PIXELS")]
    image_size: Option<usize>,
    /// Passes over the training set [10]
    #[arg(long, value_name = "N")]
    epochs: Option<usize>,
    /// Images per step, over all GPUs [64]
    #[arg(long, value_name = "N")]
    batch_size: Option<usize>,
    /// Parts in which a step's images go through the network, to need less memory [1]
    #[arg(long, value_name = "PARTS")]
    accumulate: Option<usize>,
    /// Learning rate of the first epoch, or the one a warm-up leads to [0.1]
    #[arg(long, allow_negative_numbers = true)]
    lr: Option<f64>,
    /// How the learning rate falls: `multistep`, or `cosine`, to 0 [multistep]
    #[arg(long)]
    schedule: Option<Schedule>,
    /// Epochs in which the learning rate grows to the schedule's [0]
    #[arg(long, value_name = "N")]
    warmup_epochs: Option<usize>,
    /// Epochs after which the learning rate is multiplied by gamma [5,7]
    #[arg(long, value_name = "E,E,…", value_delimiter = ',')]
    milestones: Option<Vec<usize>>,
    /// Factor of the learning rate at each milestone [0.1]
    #[arg(long, allow_negative_numbers = true)]
    gamma: Option<f64>,
    /// Momentum of SGD [0.9]
    #[arg(long, allow_negative_numbers = true)]
    momentum: Option<f64>,
    /// Nesterov's form of the momentum [false]
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    nesterov: Option<bool>,
    /// Weight decay of SGD [0.0001]
    #[arg(long, allow_negative_numbers = true)]
    weight_decay: Option<f64>,
    /// Share of each label spread over all classes, in training [0]
    #[arg(long, value_name = "SHARE", allow_negative_numbers = true)]
    label_smoothing: Option<f64>,
    /// Evaluate and save the moving average of the weights, with this decay [none]
    #[arg(long, value_name = "DECAY", allow_negative_numbers = true)]
    ema_decay: Option<f64>,
    /// Share of the batch's statistics in batch norm's running ones [0.1]
    #[arg(long, allow_negative_numbers = true)]
    bn_momentum: Option<f64>,
    /// Of several processes: batch norm with the statistics of the whole batch [false]
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    sync_batch_norm: Option<bool>,
    /// In what numbers the network computes: `f32`, `tf32` (f32 on the CPU) or, on a GPU, `bf16` [tf32]
    #[arg(long)]
    precision: Option<Precision>,
    /// Probability of dropout, in the families that have it [the family's]
    #[arg(long, allow_negative_numbers = true)]
    dropout: Option<f64>,
    /// Random crop and flip [true]
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    augment: Option<bool>,
    /// Weights to start from: a PyTorch or safetensors file, or a run; of the whole network, or
    /// of its baseline [none]
    #[arg(long, value_name = "FILE")]
    init: Option<PathBuf>,
    /// Seed of everything random [0]
    #[arg(long)]
    seed: Option<u64>,
}

#[derive(Args)]
pub struct TrainArgs {
    /// Recipe to follow (TOML); without it, the defaults
    #[arg(long, value_name = "FILE")]
    recipe: Option<PathBuf>,
    /// Folder of the run [default: runs/DATASET-MODEL-VARIANT-seedN]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Train anew, replacing the run in the folder
    #[arg(long)]
    force: bool,
    /// On a GPU, replay each step as a CUDA graph: the same result, sooner where kernels are small (not yet
    /// measured)
    #[arg(long)]
    cuda_graph: bool,
    /// Print the summary as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    compute: Compute,
    #[command(flatten)]
    parallel: ParallelArgs,
    #[command(flatten)]
    values: RecipeArgs,
}

impl RecipeArgs {
    fn apply(self, recipe: &mut Recipe) {
        fn set<T>(place: &mut T, value: Option<T>) {
            if let Some(value) = value {
                *place = value;
            }
        }
        let data_elsewhere = self.dataset.as_ref().is_some_and(|name| *name != recipe.dataset);
        if data_elsewhere {
            recipe.data_dir = None; // it was the other dataset's
        }
        if let Some(dataset) = self.dataset.as_ref().filter(|_| data_elsewhere) {
            recipe.mechanism = Recipe::published_mechanism(dataset);
        }
        set(&mut recipe.model, self.model);
        set(&mut recipe.variant, self.variant);
        set(&mut recipe.mechanism, self.mechanism);
        set(&mut recipe.preset, self.preset);
        set(&mut recipe.form, self.form);
        set(&mut recipe.tasks_per_pass, self.tasks_per_pass.map(Some));
        set(&mut recipe.dataset, self.dataset);
        set(&mut recipe.data_dir, self.data_dir.map(Some));
        set(&mut recipe.images_per_class, self.images_per_class.map(Some));
        set(&mut recipe.image_size, self.image_size.map(Some));
        set(&mut recipe.epochs, self.epochs);
        set(&mut recipe.batch_size, self.batch_size);
        set(&mut recipe.accumulate, self.accumulate);
        set(&mut recipe.lr, self.lr);
        set(&mut recipe.schedule, self.schedule);
        set(&mut recipe.warmup_epochs, self.warmup_epochs);
        set(&mut recipe.milestones, self.milestones);
        set(&mut recipe.gamma, self.gamma);
        set(&mut recipe.momentum, self.momentum);
        set(&mut recipe.nesterov, self.nesterov);
        set(&mut recipe.weight_decay, self.weight_decay);
        set(&mut recipe.label_smoothing, self.label_smoothing);
        set(&mut recipe.ema_decay, self.ema_decay.map(Some));
        set(&mut recipe.bn_momentum, self.bn_momentum);
        set(&mut recipe.sync_batch_norm, self.sync_batch_norm);
        set(&mut recipe.precision, self.precision);
        set(&mut recipe.dropout, self.dropout.map(Some));
        set(&mut recipe.augment, self.augment);
        if self.init.is_some() {
            recipe.init_sha256 = None; // it was the other file's
        }
        set(&mut recipe.init, self.init.map(Some));
        set(&mut recipe.seed, self.seed);
    }
}

impl TrainArgs {
    pub fn run(self) -> Result<()> {
        let mut recipe = match &self.recipe {
            Some(file) => {
                must_exist(file, "recipe")?;
                Recipe::load(file)?
            }
            None => Recipe::default(),
        };
        self.values.apply(&mut recipe);
        let folder = self.out.unwrap_or_else(|| default_folder(&recipe));
        let stop = stop_on_ctrl_c()?;
        if let Some(processes) = self.parallel.to_launch()? {
            recipe.validate()?;
            return self.parallel.launch(&self.compute, processes, stop);
        }
        let (device, group) = self.parallel.join(&self.compute)?;
        let root = group.as_ref().is_none_or(|group| group.rank() == 0);
        let options = TrainOptions {
            force: self.force,
            stop,
            progress: Progress::Auto,
            label: String::new(),
            command: std::env::args().collect::<Vec<_>>().join(" "),
            device: Some(device),
            group,
            cuda_graph: self.cuda_graph,
        };
        let summary = train(&recipe, &folder, &options)?;
        if !root {
            return Ok(());
        }
        print(&if self.json {
            serde_json::to_string_pretty(&summary)? + "\n"
        } else {
            report(&summary, &folder)
        })
    }
}

fn default_folder(recipe: &Recipe) -> PathBuf {
    let Recipe { dataset, model, variant, seed, .. } = recipe;
    PathBuf::from("runs").join(format!("{dataset}-{model}-{variant}-seed{seed}"))
}

/// A flag that the first Ctrl-C sets; the second ends the process, which a run survives.
fn stop_on_ctrl_c() -> Result<Arc<AtomicBool>> {
    let stop = Arc::new(AtomicBool::new(false));
    let flag = stop.clone();
    let launched = is_launched();
    if launched {
        stop_with_parent(stop.clone());
    }
    // Not `stop`, which may be set by who launched this process before the signal comes here too.
    let before = AtomicBool::new(false);
    ctrlc::set_handler(move || {
        if before.swap(true, Ordering::Relaxed) {
            std::process::exit(crate::INTERRUPTED.into());
        }
        flag.store(true, Ordering::Relaxed);
        if !launched {
            eprintln!("\nfinishing the step and saving (Ctrl-C again: stop at once)");
        }
    })
    .context("cannot listen for Ctrl-C")?;
    Ok(stop)
}

fn report(summary: &Summary, folder: &std::path::Path) -> String {
    let attention = summary
        .test_error_attention
        .map_or(String::new(), |error| format!(" (attention branch {error:.2} %)"));
    let Summary { model, variant, dataset, epochs, test_error, .. } = summary;
    format!(
        "{model} ({variant}) on {dataset}: test error {test_error:.2} %{attention} after {}; \
         best {:.2} % after epoch {}\n\
         {} parameters, {} multiply-adds per image, {:.0} images/s, {:.0} s\n\
         {}\n",
        if *epochs == 1 { "1 epoch".into() } else { format!("{epochs} epochs") },
        summary.best_test_error,
        summary.best_epoch,
        thousands(summary.parameters),
        thousands(summary.multiply_adds),
        summary.images_per_second,
        summary.seconds,
        folder.display(),
    )
}
