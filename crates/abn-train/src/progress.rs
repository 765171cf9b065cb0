//! What a person sees while a run goes on.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{HumanDuration, ProgressBar, ProgressStyle};

use crate::Metrics;

/// How a run tells how far it is, on the standard error.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Progress {
    /// A bar per epoch on a terminal, otherwise only a line after each epoch.
    #[default]
    Auto,
    /// A line after each epoch.
    Lines,
    /// Nothing.
    Quiet,
}

/// The progress of a run of so many epochs.
pub(crate) struct Reporter {
    progress: Progress,
    label: String,
    epochs: usize,
    images: usize,
}

/// The bar of one epoch.
pub(crate) struct EpochBar {
    bar: ProgressBar,
    /// Images of this epoch, and of those after it.
    images: usize,
    later: usize,
    start: Instant,
    /// Images done since `start`, and before it.
    done: usize,
    before: usize,
    /// When the text was last changed.
    told: Option<Instant>,
}

impl Reporter {
    /// `label` goes before every line; `images` is how many an epoch has.
    pub fn new(progress: Progress, label: &str, epochs: usize, images: usize) -> Self {
        let label = if label.is_empty() { String::new() } else { format!("{label}  ") };
        Self { progress, label, epochs, images }
    }

    /// Says something, unless nothing is to be said.
    pub fn say(&self, text: &str) {
        if self.progress != Progress::Quiet {
            eprintln!("{}{text}", self.label);
        }
    }

    /// The bar of an epoch, counted from 0, of which `before` images were done by an earlier
    /// process.
    pub fn epoch(&self, epoch: usize, before: usize) -> EpochBar {
        let shown = self.progress == Progress::Auto && std::io::stderr().is_terminal();
        let bar = if shown { ProgressBar::new(self.images as u64) } else { ProgressBar::hidden() };
        let style = "{prefix}  {bar:24} {percent:>3} %  {msg}";
        if let Ok(style) = ProgressStyle::with_template(style) {
            bar.set_style(style.progress_chars("━╸─"));
        }
        bar.set_prefix(format!("{}epoch {}/{}", self.label, epoch + 1, self.epochs));
        bar.set_position(before as u64);
        let later = self.images * (self.epochs - 1 - epoch);
        let (images, start) = (self.images, Instant::now());
        EpochBar { bar, images, later, start, done: 0, before, told: None }
    }

    /// The line after an epoch.
    pub fn epoch_done(&self, bar: &EpochBar, metrics: &Metrics) {
        bar.bar.finish_and_clear();
        let width = self.epochs.to_string().len();
        let attention = metrics
            .test_error_attention
            .map_or(String::new(), |error| format!(" (attention branch {error:.2} %)"));
        self.say(&format!(
            "epoch {:>width$}/{}  lr {:<8}  loss {:.4}  train error {:.2} %  test error {:.2} %{attention}  \
             {:.0} images/s  {:.1} s",
            metrics.epoch,
            self.epochs,
            short(metrics.lr),
            metrics.train_loss,
            metrics.train_error,
            metrics.test_error,
            metrics.images_per_second,
            metrics.seconds,
        ));
    }
}

impl EpochBar {
    /// So many more images are done.
    pub fn step(&mut self, images: usize, loss: f64) {
        const PAUSE: Duration = Duration::from_millis(200);
        self.done += images;
        self.bar.set_position((self.before + self.done) as u64);
        if self.bar.is_hidden() || self.told.is_some_and(|told| told.elapsed() < PAUSE) {
            return;
        }
        self.told = Some(Instant::now());
        let rate = self.images_per_second();
        let left = |images: usize| {
            HumanDuration(Duration::from_secs_f64((images as f64 / rate).min(1e9))).to_string()
        };
        let here = self.images.saturating_sub(self.before + self.done);
        self.bar.set_message(format!(
            "loss {loss:.4}  {rate:.0} images/s  {} left, {} for all epochs",
            left(here),
            left(here + self.later)
        ));
    }

    /// Rate since the bar began.
    pub fn images_per_second(&self) -> f64 {
        self.done as f64 / self.start.elapsed().as_secs_f64().max(1e-9)
    }

    /// Seconds since the bar began.
    pub fn seconds(&self) -> f64 {
        self.start.elapsed().as_secs_f64()
    }

    /// Says that the test set is being evaluated.
    pub fn evaluating(&self) {
        self.bar.set_message("evaluating on the test set");
    }
}

/// A learning rate without the digits that rounding leaves: 0.010000000000000002 is 0.01.
fn short(lr: f64) -> String {
    format!("{lr:.3e}").parse::<f64>().map_or_else(|_| lr.to_string(), |lr| lr.to_string())
}

#[cfg(test)]
mod tests {
    use super::short;

    #[test]
    fn rates_are_shown_short() {
        assert_eq!(short(0.1), "0.1");
        assert_eq!(short(0.1 * 0.1), "0.01");
        assert_eq!(short(0.1 * 0.1 * 0.1), "0.001");
        assert_eq!(short(2.5e-5), "0.000025");
    }
}
