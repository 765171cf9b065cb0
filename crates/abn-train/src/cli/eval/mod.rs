mod tasks;

use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use abn_data::Dataset;
use abn_train::{AnyRun, ClassAccuracy, Confusion, Precision, Recipe, Run, evaluate, open_data};
use anyhow::{Context, Result, bail};
use clap::Args;
use serde::Serialize;

use super::{Compute, print, thousands};

/// With more classes than this, the confusion matrix is not printed.
const PRINTED: usize = 20;

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
    /// Another run of the same tasks, to compare with on the same images, task by task: on how many of them the first
    /// is better (the paper's odds)
    #[arg(long, value_name = "RUN")]
    against: Option<PathBuf>,
    /// Write the answer to each image: index, label, predicted, probability; of several tasks index, task, label, predicted
    #[arg(long, value_name = "FILE")]
    csv: Option<PathBuf>,
    /// Write the confusion matrix: a line for each class, a column for each answer
    #[arg(long, value_name = "FILE")]
    confusion: Option<PathBuf>,
    /// In what numbers the network computes: `f32`, `tf32` or, on a GPU, `bf16` [default: those that it was trained
    /// in; on the CPU f32]
    #[arg(long)]
    precision: Option<Precision>,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    compute: Compute,
}

/// What is printed. Errors are in percent.
#[derive(Serialize)]
struct Report {
    checkpoint: PathBuf,
    model: String,
    variant: String,
    dataset: String,
    epoch: usize,
    images: usize,
    test_loss: f64,
    test_error: f64,
    test_error_top5: Option<f64>,
    test_error_attention: Option<f64>,
    classes: Vec<ClassAccuracy>,
    confusion: Vec<Vec<u64>>,
}

impl EvalArgs {
    pub fn run(self) -> Result<()> {
        let device = self.compute.set_up()?;
        for file in [&self.csv, &self.confusion].into_iter().flatten() {
            must_have_a_folder(file)?;
        }
        let run = AnyRun::open_on(&self.checkpoint, &device)?;
        let trained = run.card().recipe.precision.or_f32(&device);
        match run.in_precision(self.precision.unwrap_or(trained))? {
            AnyRun::Classes(run) => self.classes(run),
            AnyRun::Tasks(run) => self.tasks(run),
        }
    }

    /// The dataset's name and its test images.
    fn data(&self, recipe: &Recipe) -> Result<(String, Arc<dyn Dataset>)> {
        let dataset = self.dataset.as_ref().unwrap_or(&recipe.dataset);
        let theirs = recipe.data_dir.as_ref().filter(|_| *dataset == recipe.dataset);
        let folder = self.data_dir.as_ref().or(theirs);
        Ok((dataset.clone(), open_data(dataset, folder.map(PathBuf::as_path))?.test))
    }

    fn classes(self, run: Run) -> Result<()> {
        if self.against.is_some() {
            let network = run.card.network();
            bail!("--against compares task by task, and {network} has one");
        }
        let (dataset, test) = self.data(&run.recipe)?;
        let recipe = &run.recipe;
        run.card.check_classes(&*test)?;
        let never = AtomicBool::new(false);
        let (transform, at_a_time) = (run.card.transform(), recipe.part_size());
        let evaluation =
            evaluate(&*run.model, test, transform, at_a_time, run.params.device(), &never)?
                .context("the evaluation was stopped")?;
        let confusion = evaluation.confusion();
        if let Some(file) = &self.csv {
            write(file, &evaluation.to_csv())?;
        }
        if let Some(file) = &self.confusion {
            write(file, &confusion.to_csv())?;
        }
        let tally = &evaluation.tally;
        let report = Report {
            model: recipe.model.clone(),
            variant: recipe.variant.to_string(),
            dataset,
            epoch: run.state.epoch,
            images: tally.images,
            test_loss: tally.loss(),
            test_error: tally.error(),
            test_error_top5: evaluation.top5_error(),
            test_error_attention: tally.error_attention(),
            classes: confusion.accuracies(),
            confusion: confusion.rows().map(<[u64]>::to_vec).collect(),
            checkpoint: run.checkpoint,
        };
        print(&if self.json {
            serde_json::to_string_pretty(&report)? + "\n"
        } else {
            report.text(&confusion)?
        })
    }
}

/// Refuses a file that could not be written, before anything is computed.
fn must_have_a_folder(file: &Path) -> Result<()> {
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty());
    match folder.filter(|folder| !folder.is_dir()) {
        Some(folder) => bail!("there is no folder {} to write to", folder.display()),
        None => Ok(()),
    }
}

fn write(file: &Path, text: &str) -> Result<()> {
    fs::write(file, text).with_context(|| format!("cannot write {}", file.display()))
}

impl Report {
    fn text(&self, confusion: &Confusion) -> Result<String> {
        let Self { model, variant, dataset, epoch, .. } = self;
        let attention = self
            .test_error_attention
            .map_or(String::new(), |error| format!(" (attention branch {error:.2} %)"));
        let top5 =
            self.test_error_top5.map_or(String::new(), |error| format!(", top-5 {error:.2} %"));
        let mut text = format!(
            "{model} ({variant}) on {dataset}: test error {:.2} %{attention}{top5}, loss {:.4}, {} images\n\
             {}, epoch {epoch}\n\n",
            self.test_error,
            self.test_loss,
            thousands(self.images as u64),
            self.checkpoint.display(),
        );
        let matrix = self.classes.len() <= PRINTED;
        let width = self.classes.iter().map(|class| class.name.chars().count()).max();
        let width = width.unwrap_or(0).max("class".len());
        let digits = |count: &u64| count.to_string().len();
        let cell = self.confusion.iter().flatten().map(digits).max().unwrap_or(1).max(2);
        write!(text, "     {:width$}  {:>7}  {:>8}", "class", "images", "right")?;
        if matrix {
            write!(text, "   taken for")?;
            for column in 0..self.classes.len() {
                write!(text, " {column:>cell$}")?;
            }
        }
        writeln!(text)?;
        for (index, (class, row)) in self.classes.iter().zip(confusion.rows()).enumerate() {
            let ClassAccuracy { name, images, accuracy, .. } = class;
            let right = accuracy.map_or("–".into(), |share| format!("{share:.2} %"));
            write!(text, "{index:>4} {name:width$}  {images:>7}  {right:>8}")?;
            if matrix {
                write!(text, "            ")?;
                for count in row {
                    write!(text, " {count:>cell$}")?;
                }
            }
            writeln!(text)?;
        }
        if !matrix {
            writeln!(text, "\nmost often taken for another:")?;
            for (class, answer, images) in confusion.worst(10) {
                writeln!(text, "{images:>7}  {class} → {answer}")?;
            }
        }
        Ok(text)
    }
}
