//! `abn eval` of a network for several tasks, alone or against another.

use std::fmt::Write;
use std::path::PathBuf;

use abn_train::TaskRun;
use abn_train::attributes::{self, HEADS, Odds, TaskEvaluation, TaskScore};
use anyhow::{Context, Result, bail};
use serde::Serialize;

use super::{EvalArgs, write};
use crate::cli::{print, thousands};

/// What is printed. Shares are in percent.
#[derive(Serialize)]
struct Report {
    checkpoint: PathBuf,
    model: String,
    variant: String,
    dataset: String,
    epoch: usize,
    images: usize,
    test_loss: f64,
    /// Mean over the tasks.
    accuracy: f64,
    /// Mean over the tasks, of the attention branch.
    accuracy_attention: Option<f64>,
    tasks: Vec<TaskScore>,
    against: Option<Against>,
}

/// Another network on the same images.
#[derive(Serialize)]
struct Against {
    checkpoint: PathBuf,
    model: String,
    variant: String,
    epoch: usize,
    accuracy: f64,
    tasks: Vec<TaskScore>,
    /// On how many tasks the first network is better, and the second.
    odds: Odds,
}

impl EvalArgs {
    pub(super) fn tasks(self, run: TaskRun) -> Result<()> {
        if self.confusion.is_some() {
            let network = run.card.network();
            bail!("--confusion is of one task, and {network} has several; --csv has every answer");
        }
        // Both are known to be there before the first evaluation.
        let other = self.against.as_deref();
        let open = |path| {
            let other = TaskRun::open_on(path, run.params.device())?;
            let trained = other.recipe.precision.or_f32(other.params.device());
            other.in_precision(self.precision.unwrap_or(trained))
        };
        let other = other.map(open).transpose()?;
        let (dataset, test) = self.data(&run.recipe)?;
        if let Some(other) = &other {
            let second = || format!("--against {}", other.checkpoint.display());
            other.card.check_tasks(&*test).with_context(second)?;
        }
        let evaluation = run.evaluate(test.clone())?;
        if let Some(file) = &self.csv {
            write(file, &evaluation.to_csv())?;
        }
        let scores = evaluation.scores();
        let against = match other {
            Some(other) => Some(Against::new(&other, &other.evaluate(test)?, &scores)?),
            None => None,
        };
        let tally = &evaluation.tally;
        let report = Report {
            model: run.recipe.model.clone(),
            variant: run.recipe.variant.to_string(),
            dataset,
            epoch: run.state.epoch,
            images: tally.images,
            test_loss: tally.loss(),
            accuracy: 100.0 - tally.error(),
            accuracy_attention: tally.error_attention().map(|error| 100.0 - error),
            tasks: scores,
            against,
            checkpoint: run.checkpoint,
        };
        print(&if self.json {
            serde_json::to_string_pretty(&report)? + "\n"
        } else {
            report.text()?
        })
    }
}

impl Against {
    fn new(run: &TaskRun, evaluation: &TaskEvaluation, first: &[TaskScore]) -> Result<Self> {
        let tasks = evaluation.scores();
        Ok(Self {
            checkpoint: run.checkpoint.clone(),
            model: run.recipe.model.clone(),
            variant: run.recipe.variant.to_string(),
            epoch: run.state.epoch,
            accuracy: 100.0 - evaluation.tally.error(),
            odds: Odds::between(first, &tasks)?,
            tasks,
        })
    }
}

impl Report {
    fn text(&self) -> Result<String> {
        let Self { model, variant, dataset, epoch, .. } = self;
        let attention = self
            .accuracy_attention
            .map_or(String::new(), |share| format!(" (attention branch {share:.2} %)"));
        let mut text = format!(
            "{model} ({variant}, {} tasks) on {dataset}: mean accuracy {:.2} %{attention}, loss {:.4}, {} images\n\
             {}, epoch {epoch}\n",
            self.tasks.len(),
            self.accuracy,
            self.test_loss,
            thousands(self.images as u64),
            self.checkpoint.display(),
        );
        let mut head: Vec<String> = HEADS.map(str::to_owned).to_vec();
        let mut rows = attributes::cells(&self.tasks);
        if let Some(other) = &self.against {
            let Against { model, variant, epoch, accuracy, checkpoint, odds, .. } = other;
            writeln!(
                text,
                "against {model} ({variant}): mean accuracy {accuracy:.2} %\n{}, epoch {epoch}",
                checkpoint.display()
            )?;
            writeln!(text, "odds: {odds}")?;
            head.extend(["against %".to_owned(), "difference".to_owned()]);
            let theirs = other.tasks.iter().map(|score| score.accuracy);
            let means = [&self.tasks, &other.tasks]
                .map(|scores| attributes::mean(scores, |score| score.accuracy));
            let ours = self.tasks.iter().map(|score| score.accuracy).chain([means[0]]);
            for (row, (ours, theirs)) in rows.iter_mut().zip(ours.zip(theirs.chain([means[1]]))) {
                let share = |share: f64| format!("{share:.2}");
                row.push(theirs.map_or("–".into(), share));
                let difference = ours.zip(theirs).map(|(ours, theirs)| ours - theirs);
                row.push(difference.map_or("–".into(), |d| format!("{d:+.2}")));
            }
        }
        text.push('\n');
        rows.insert(0, head);
        let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max();
        let widths: Vec<usize> = (0..rows[0].len()).map(|c| width(c).unwrap_or(0)).collect();
        for row in &rows {
            for (column, (cell, width)) in row.iter().zip(&widths).enumerate() {
                match column {
                    0 => write!(text, "{cell:width$}")?,
                    _ => write!(text, "  {cell:>width$}")?,
                }
            }
            text.push('\n');
        }
        Ok(text)
    }
}
