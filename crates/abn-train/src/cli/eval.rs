use std::path::PathBuf;
use std::sync::atomic::AtomicBool;

use abn_train::{Run, evaluate, open_data};
use anyhow::{Context, Result};
use clap::Args;
use serde::Serialize;

use super::{Compute, print, thousands};

#[derive(Args)]
pub struct EvalArgs {
    /// Folder of a run (its best/ is taken, or else its last/), or one of these two
    #[arg(long, value_name = "RUN")]
    checkpoint: PathBuf,
    /// Name of the dataset [default: the run's]
    #[arg(long)]
    dataset: Option<String>,
    /// Folder with the dataset's files [default: the run's]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    compute: Compute,
}

#[derive(Serialize)]
struct Evaluation {
    checkpoint: PathBuf,
    model: String,
    variant: String,
    dataset: String,
    epoch: usize,
    images: usize,
    test_loss: f64,
    test_error: f64,
    test_error_attention: Option<f64>,
}

impl EvalArgs {
    pub fn run(self) -> Result<()> {
        self.compute.set_up()?;
        let run = Run::open(&self.checkpoint)?;
        let recipe = &run.recipe;
        let dataset = self.dataset.unwrap_or_else(|| recipe.dataset.clone());
        let same = dataset == recipe.dataset;
        let folder = self.data_dir.or_else(|| recipe.data_dir.clone().filter(|_| same));
        let test = open_data(&dataset, folder.as_deref())?.test;
        run.card.check_classes(&*test)?;
        let never = AtomicBool::new(false);
        let tally = evaluate(&*run.model, test, run.card.transform(), recipe.part_size(), &never)?
            .context("the evaluation was stopped")?;
        let evaluation = Evaluation {
            model: recipe.model.clone(),
            variant: recipe.variant.to_string(),
            dataset,
            epoch: run.state.epoch,
            images: tally.images,
            test_loss: tally.loss(),
            test_error: tally.error(),
            test_error_attention: tally.error_attention(),
            checkpoint: run.checkpoint,
        };
        print(&if self.json {
            serde_json::to_string_pretty(&evaluation)? + "\n"
        } else {
            evaluation.report()
        })
    }
}

impl Evaluation {
    fn report(&self) -> String {
        let Self { model, variant, dataset, epoch, .. } = self;
        let attention = self
            .test_error_attention
            .map_or(String::new(), |error| format!(" (attention branch {error:.2} %)"));
        format!(
            "{model} ({variant}) on {dataset}: test error {:.2} %{attention}, loss {:.4}, {} images\n\
             {}, epoch {epoch}\n",
            self.test_error,
            self.test_loss,
            thousands(self.images as u64),
            self.checkpoint.display(),
        )
    }
}
