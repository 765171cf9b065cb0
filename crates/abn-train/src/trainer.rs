//! The training loop.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use abn_core::{Classifier, Mode, ParamStore};
use abn_data::{Loader, LoaderConfig, Splits};
use candle_core::{DType, Device};

use crate::card::Card;
use crate::checkpoint::{self, Best, State};
use crate::evaluate::{evaluate, forward};
use crate::folder::{Found, RunFolder};
use crate::optimizer::Sgd;
use crate::progress::{EpochBar, Progress, Reporter};
use crate::tally::Tally;
use crate::{Error, Metrics, Recipe, Result, Summary};

/// How to go about a run; nothing here changes its result.
#[derive(Clone, Debug, Default)]
pub struct TrainOptions {
    /// Replace whatever run the folder holds, rather than resume or reuse it.
    pub force: bool,
    /// When set, from a signal handler say, training finishes its step, saves and returns
    /// [`Error::Stopped`].
    pub stop: Arc<AtomicBool>,
    /// What to show meanwhile.
    pub progress: Progress,
    /// Goes before every line shown.
    pub label: String,
    /// The command, for the header of the run's `recipe.toml`.
    pub command: String,
}

/// Trains what a recipe says, in a folder of its own.
///
/// A folder with an unfinished run of the same recipe is gone on with, and ends with the same
/// bytes as if it had never been interrupted; one with a finished run gives its summary at once.
/// Everything is checked before anything is written: a recipe, dataset or folder that cannot be
/// leaves the disk as it was.
///
/// # Errors
/// If the recipe, the data or what the folder holds cannot be; [`Error::OtherRun`] if it holds a
/// run of another recipe; [`Error::Diverged`] if the loss is no longer a number (the checkpoint
/// after the last whole epoch stays); [`Error::Stopped`] if asked to.
pub fn train(recipe: &Recipe, folder: &Path, options: &TrainOptions) -> Result<Summary> {
    recipe.validate()?;
    let folder = RunFolder::new(folder);
    if let Found::Finished(summary) = folder.inspect(recipe, options.force)? {
        return Ok(*summary);
    }
    let data = open_data(&recipe.dataset, recipe.data_dir.as_deref())?;
    let card = Card::new(recipe, &data)?;
    let params = ParamStore::new(recipe.seed, DType::F32, Device::Cpu);
    let model = card.build(&params)?;
    let mut optimizer = Sgd::new(params.parameters(), recipe);

    let _claim = folder.claim(recipe, &header(options), options.force)?;
    let reporter = Reporter::new(options.progress, &options.label, recipe.epochs, data.train.len());
    let fresh = State { recipe: checkpoint::fingerprint(recipe), ..State::default() };
    let state = if folder.last().exists() {
        let state = checkpoint::resume(&folder.last(), &params, &mut optimizer, &card)?;
        reporter.say(&format!(
            "going on with {} after epoch {}, step {}",
            folder.root().display(),
            state.epoch,
            state.step
        ));
        state
    } else {
        fresh
    };
    Metrics::truncate(&folder.metrics(), state.epoch)?;
    let options = options.clone();
    Session { recipe, folder, data, card, params, model, optimizer, state, reporter, options }.run()
}

/// Opens a dataset; that it needs a folder is said in the words of a recipe.
///
/// # Errors
/// As [`abn_data::open`].
pub fn open_data(dataset: &str, data_dir: Option<&Path>) -> Result<Splits> {
    abn_data::open(dataset, data_dir).map_err(|error| match error {
        abn_data::Error::Unavailable { .. } if data_dir.is_none() => {
            Error::Setting { key: "data_dir", problem: error.to_string() }
        }
        error => error.into(),
    })
}

/// The comment at the top of a run's recipe.
fn header(options: &TrainOptions) -> String {
    let version = env!("CARGO_PKG_VERSION");
    let by = match options.command.as_str() {
        "" => String::new(),
        command => format!("\n# Command: {}", command.replace('\n', " ")),
    };
    format!("# The recipe of this run with every key, written by abn {version}.{by}\n")
}

struct Session<'a> {
    recipe: &'a Recipe,
    folder: RunFolder,
    data: Splits,
    card: Card,
    params: ParamStore,
    model: Box<dyn Classifier>,
    optimizer: Sgd,
    state: State,
    reporter: Reporter,
    options: TrainOptions,
}

impl Session<'_> {
    fn run(mut self) -> Result<Summary> {
        while self.state.epoch < self.recipe.epochs {
            self.epoch()?;
        }
        // From what is on disk: a resumed run has seen only some of its epochs itself.
        let lines = Metrics::read(&self.folder.metrics())?;
        let spec = abn_backbones::find(&self.recipe.model)?;
        let cost = spec.cost(self.recipe.variant, self.card.classes.len())?;
        let summary = Summary::new(self.recipe, &lines, cost.parameters, cost.multiply_adds)
            .ok_or_else(|| Error::Invalid("a run of no epochs has no summary".into()))?;
        summary.write(&self.folder.summary())?;
        Ok(summary)
    }

    fn epoch(&mut self) -> Result<()> {
        let lr = self.recipe.learning_rate(self.state.epoch);
        let tally = self.state.partial.take().unwrap_or_default();
        let mut bar = self.reporter.epoch(self.state.epoch, tally.images);
        let train = self.train_epoch(lr, tally, &mut bar)?;
        let images_per_second = bar.images_per_second();
        bar.evaluating();
        let Some(test) = self.test()? else { return self.stop_with(train) };
        let metrics = Metrics {
            epoch: self.state.epoch + 1,
            lr,
            train_loss: train.loss(),
            train_loss_perception: train.loss_perception(),
            train_loss_attention: train.loss_attention(),
            train_error: train.error(),
            test_loss: test.loss(),
            test_error: test.error(),
            test_error_attention: test.error_attention(),
            seconds: bar.seconds(),
            images_per_second,
        };
        self.record(&metrics, test.wrong)?;
        self.reporter.epoch_done(&bar, &metrics);
        Ok(())
    }

    /// The steps of an epoch that are not yet done.
    fn train_epoch(&mut self, lr: f64, mut tally: Tally, bar: &mut EpochBar) -> Result<Tally> {
        let epoch = self.state.epoch as u64;
        let config = LoaderConfig {
            batch_size: self.recipe.batch_size,
            shuffle: true,
            augment: self.recipe.augment,
            seed: self.recipe.seed,
            epoch,
            ..LoaderConfig::default()
        };
        let loader = Loader::new(self.data.train.clone(), self.card.transform(), config)?;
        for batch in loader.skip(self.state.step) {
            let batch = batch?;
            let seed = step_seed(self.recipe.seed, epoch, self.state.step as u64);
            let (output, loss, labels) = forward(&*self.model, batch, Mode::Train { seed })?;
            let mean = tally.add(&output, &loss, &labels)?;
            if !mean.is_finite() {
                let (epoch, step) = (self.state.epoch + 1, self.state.step + 1);
                return Err(Error::Diverged { loss: mean, epoch, step, lr });
            }
            // What backward needs it holds itself: without these, memory is free sooner.
            drop(output);
            let gradients = loss.total.backward()?;
            self.optimizer.step(&gradients, lr)?;
            self.state.step += 1;
            bar.step(labels.len(), mean);
            if self.stopped() {
                return self.stop_with(tally);
            }
        }
        Ok(tally)
    }

    fn stopped(&self) -> bool {
        self.options.stop.load(Ordering::Relaxed)
    }

    /// Saves in the middle of an epoch.
    fn stop_with<T>(&mut self, tally: Tally) -> Result<T> {
        self.state.partial = Some(tally);
        self.save_last()?;
        Err(Error::Stopped {
            path: self.folder.root().to_owned(),
            epoch: self.state.epoch + 1,
            step: self.state.step,
        })
    }

    fn test(&self) -> Result<Option<Tally>> {
        let (test, transform) = (self.data.test.clone(), self.card.transform());
        evaluate(&*self.model, test, transform, self.recipe.batch_size, &self.options.stop)
    }

    fn save_last(&self) -> Result<()> {
        let (last, optimizer) = (self.folder.last(), Some(&self.optimizer));
        checkpoint::save(&last, &self.params, optimizer, &self.card, &self.state)
    }

    /// Puts a finished epoch on disk: its line, then `best/`, then `last/`, from which alone a
    /// resumed run goes on. A kill before that makes the epoch be done again, line and all.
    fn record(&mut self, metrics: &Metrics, wrong: usize) -> Result<()> {
        self.state = State { epoch: metrics.epoch, step: 0, partial: None, ..self.state.clone() };
        let epoch = metrics.epoch;
        let better = self.state.best.is_none_or(|best| wrong < best.wrong);
        metrics.append(&self.folder.metrics())?;
        if better {
            self.state.best = Some(Best { epoch, wrong });
            checkpoint::save(&self.folder.best(), &self.params, None, &self.card, &self.state)?;
        }
        self.save_last()
    }
}

/// Seed of a step's dropout masks.
fn step_seed(seed: u64, epoch: u64, step: u64) -> u64 {
    // splitmix64's finaliser, once for each part.
    let mix = |z: u64| {
        let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    };
    let absorb = |state: u64, part: u64| mix(state.wrapping_add(0x9e37_79b9_7f4a_7c15) ^ part);
    [seed, epoch, step].into_iter().fold(0, absorb)
}

#[cfg(test)]
mod tests {
    use super::step_seed;

    #[test]
    fn every_step_has_its_own_seed() {
        let seeds: std::collections::BTreeSet<_> = (0..4u64)
            .flat_map(|seed| {
                (0..4).flat_map(move |epoch| (0..4).map(move |step| step_seed(seed, epoch, step)))
            })
            .collect();
        assert_eq!(seeds.len(), 64);
    }
}
