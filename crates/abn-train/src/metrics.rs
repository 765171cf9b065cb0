//! What a run measured: one line per epoch, and the summary at its end.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::Path;

use serde::{Deserialize, Deserializer, Serialize};

use crate::{Error, Recipe, Result, files};

/// What one epoch gave: a line of `metrics.jsonl`.
///
/// Errors are top-1, in percent. Losses are means over images. Training losses and errors are
/// those of the steps as they were taken (with augmentation, dropout, the batch's statistics and
/// smoothed labels), as is usual. Two runs of one recipe differ in [`seconds`](Self::seconds) and
/// [`images_per_second`](Self::images_per_second) only.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Metrics {
    /// Counted from 1: how many epochs are done.
    pub epoch: usize,
    /// Learning rate of the epoch's last step.
    pub lr: f64,
    /// Training loss: both branches summed.
    pub train_loss: f64,
    /// Training loss of the perception branch.
    pub train_loss_perception: f64,
    /// Training loss of the attention branch, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub train_loss_attention: Option<f64>,
    /// Training error of the perception branch.
    pub train_error: f64,
    /// Test loss: both branches summed. In the file `null` if it is not finite, as may be after
    /// an early epoch at a high learning rate.
    #[serde(deserialize_with = "null_as_nan")]
    pub test_loss: f64,
    /// Test error of the perception branch, whose answer is the network's.
    pub test_error: f64,
    /// Test error of the attention branch, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub test_error_attention: Option<f64>,
    /// Wall time of the epoch: training, evaluation.
    pub seconds: f64,
    /// Training images per second of training.
    pub images_per_second: f64,
}

fn null_as_nan<'de, D: Deserializer<'de>>(from: D) -> Result<f64, D::Error> {
    Ok(Option::deserialize(from)?.unwrap_or(f64::NAN))
}

impl Metrics {
    /// Every whole line of a `metrics.jsonl`; none if there is no file. A last line that a kill
    /// cut short is left out.
    ///
    /// # Errors
    /// If the file cannot be read or holds something else.
    pub fn read(path: &Path) -> Result<Vec<Self>> {
        let text = match fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(Error::io("cannot read", path)(error)),
        };
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        let parse = |(index, line)| {
            serde_json::from_str(line).map_err(|error| Error::Damaged {
                path: path.to_owned(),
                problem: format!("line {}: {error}", index + 1),
            })
        };
        whole.lines().enumerate().map(parse).collect()
    }

    fn line(&self) -> String {
        serde_json::to_string(self).expect("numbers are always JSON") + "\n"
    }

    /// Adds a line to the file.
    pub(crate) fn append(&self, path: &Path) -> Result<()> {
        OpenOptions::new()
            .create(true)
            .append(true)
            .open(path)
            .and_then(|mut file| {
                file.write_all(self.line().as_bytes())?;
                file.sync_all()
            })
            .map_err(Error::io("cannot write", path))
    }

    /// Keeps the first lines of the file: those of the epochs that the checkpoint has. Later ones
    /// are of an epoch that will be done again.
    ///
    /// # Errors
    /// If there are fewer.
    pub(crate) fn truncate(path: &Path, epochs: usize) -> Result<()> {
        let text = match epochs {
            0 => fs::read_to_string(path).unwrap_or_default(),
            _ => fs::read_to_string(path).map_err(Error::io("cannot read", path))?,
        };
        let kept: Vec<_> = text.split_inclusive('\n').take(epochs).collect();
        if kept.len() < epochs || kept.last().is_some_and(|line| !line.ends_with('\n')) {
            let problem = format!(
                "the checkpoint beside it has {epochs} epochs, but it has not as many lines; \
                 --force trains anew"
            );
            return Err(Error::Damaged { path: path.to_owned(), problem });
        }
        files::replace_file(path, kept.concat().as_bytes())
    }
}

/// What a finished run gave: its `summary.json`.
///
/// Errors are top-1 on the test set, in percent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// Name of the network.
    pub model: String,
    /// `baseline` or `abn`.
    pub variant: String,
    /// Name of the dataset.
    pub dataset: String,
    /// The recipe's seed.
    pub seed: u64,
    /// Epochs trained.
    pub epochs: usize,
    /// Error after the last epoch: the number to report.
    pub test_error: f64,
    /// Error of the attention branch after the last epoch, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub test_error_attention: Option<f64>,
    /// Lowest error after any epoch. Chosen on the test set, so it flatters.
    pub best_test_error: f64,
    /// The first epoch with the lowest error, counted from 1.
    pub best_epoch: usize,
    /// Training loss of the last epoch, both branches summed.
    pub train_loss: f64,
    /// Trainable parameters.
    pub parameters: u64,
    /// Multiply-adds of a forward pass of one image.
    pub multiply_adds: u64,
    /// Training images per second of training, over the whole run.
    pub images_per_second: f64,
    /// Wall time of all epochs: training, evaluation.
    pub seconds: f64,
}

impl Summary {
    /// The summary of a run with these lines.
    pub(crate) fn new(
        recipe: &Recipe,
        lines: &[Metrics],
        parameters: u64,
        multiply_adds: u64,
    ) -> Option<Self> {
        let last = lines.last()?;
        let best = lines
            .iter()
            .reduce(|best, line| if line.test_error < best.test_error { line } else { best })?;
        // Epochs have equal numbers of images, so the mean rate is the harmonic one. An epoch
        // that was stopped after its last step and resumed has no rate.
        let rates = lines.iter().map(|line| line.images_per_second).filter(|&rate| rate > 0.0);
        let (timed, slowness) =
            rates.fold((0.0, 0.0), |(timed, slowness), rate| (timed + 1.0, slowness + 1.0 / rate));
        Some(Self {
            model: recipe.model.clone(),
            variant: recipe.variant.to_string(),
            dataset: recipe.dataset.clone(),
            seed: recipe.seed,
            epochs: last.epoch,
            test_error: last.test_error,
            test_error_attention: last.test_error_attention,
            best_test_error: best.test_error,
            best_epoch: best.epoch,
            train_loss: last.train_loss,
            parameters,
            multiply_adds,
            images_per_second: if timed > 0.0 { timed / slowness } else { 0.0 },
            seconds: lines.iter().map(|line| line.seconds).sum(),
        })
    }

    /// Reads a `summary.json`; `None` if there is none.
    ///
    /// # Errors
    /// If the file cannot be read or holds something else.
    pub fn read(path: &Path) -> Result<Option<Self>> {
        let bytes = match fs::read(path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(Error::io("cannot read", path)(error)),
        };
        serde_json::from_slice(&bytes)
            .map(Some)
            .map_err(|error| Error::Damaged { path: path.to_owned(), problem: error.to_string() })
    }

    pub(crate) fn write(&self, path: &Path) -> Result<()> {
        let text = serde_json::to_string_pretty(self).expect("numbers are always JSON") + "\n";
        files::replace_file(path, text.as_bytes())
    }
}

/// A line that a test may need: 2 seconds, and images per second by the epoch.
#[cfg(test)]
pub(crate) fn example(epoch: usize, test_error: f64) -> Metrics {
    Metrics {
        epoch,
        lr: 0.1,
        train_loss: 0.75,
        train_loss_perception: 0.1,
        train_loss_attention: Some(0.7),
        train_error: 20.0,
        test_loss: 0.5,
        test_error,
        test_error_attention: None,
        seconds: 2.0,
        images_per_second: 100.0 * epoch as f64,
    }
}

#[cfg(test)]
mod tests {
    use super::example as line;
    use super::*;

    #[test]
    fn lines_read_back_and_a_torn_one_is_left_out() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("metrics.jsonl");
        assert_eq!(Metrics::read(&path).unwrap(), []);
        let lines = [line(1, 12.5), line(2, 10.25)];
        lines.iter().for_each(|line| line.append(&path).unwrap());
        assert_eq!(Metrics::read(&path).unwrap(), lines);
        let mut torn = fs::read_to_string(&path).unwrap();
        torn.push_str("{\"epoch\":3,\"lr");
        fs::write(&path, torn).unwrap();
        assert_eq!(Metrics::read(&path).unwrap(), lines);
        let said = Metrics::truncate(&path, 3).unwrap_err().to_string();
        assert!(said.contains("has 3 epochs"), "{said}");
        Metrics::truncate(&path, 1).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), lines[0].line());
        Metrics::truncate(&path, 0).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "");
    }

    #[test]
    fn a_test_loss_that_is_no_number_reads_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("metrics.jsonl");
        let broken = Metrics { test_loss: f64::INFINITY, ..line(1, 90.0) };
        broken.append(&path).unwrap();
        let read = Metrics::read(&path).unwrap();
        assert!(read[0].test_loss.is_nan() && read[0].test_error == 90.0, "{read:?}");
    }

    #[test]
    fn damage_is_named_by_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("metrics.jsonl");
        fs::write(&path, line(1, 5.0).line() + "{}\n").unwrap();
        let said = Metrics::read(&path).unwrap_err().to_string();
        assert!(said.contains("metrics.jsonl") && said.contains("line 2"), "{said}");
    }

    #[test]
    fn the_summary_tells_last_and_best() {
        let lines = [line(1, 30.0), line(2, 20.0), line(3, 20.0), line(4, 25.0)];
        let summary = Summary::new(&Recipe::default(), &lines, 7, 8).unwrap();
        assert_eq!((summary.test_error, summary.epochs), (25.0, 4));
        assert_eq!((summary.best_test_error, summary.best_epoch), (20.0, 2));
        assert_eq!(summary.seconds, 8.0);
        // 1/100 + 1/200 + 1/300 + 1/400 seconds for each image
        assert!((summary.images_per_second - 192.0).abs() < 1e-9);
        assert_eq!(Summary::new(&Recipe::default(), &[], 7, 8), None);
    }
}
