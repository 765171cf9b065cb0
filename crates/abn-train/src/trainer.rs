//! The training loop.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use abn_core::ParamStore;
use abn_data::{Loader, LoaderConfig, Splits};
use abn_ops::in_pool;
use candle_core::{DType, Device};

use crate::card::Card;
use crate::checkpoint::{self, Best, State, Training};
use crate::ema::Ema;
use crate::folder::{Found, RunFolder};
use crate::init::{self, Extent};
use crate::network::{Network, Tested};
use crate::optimizer::Sgd;
use crate::progress::{EpochBar, Progress, Reporter};
use crate::report::gallery::{self, Chosen};
use crate::report::{Gallery, attributes};
use crate::step::{Step, step_seed};
use crate::tally::Tally;
use crate::{Error, Metrics, Recipe, Result, Summary, files, records};

/// Right and wrong answers in a report's gallery, of each at most so many.
const SHOWN: usize = 12;

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
    let (recipe, weights) = init::resolve(recipe)?;
    let recipe = &recipe;
    let folder = RunFolder::new(folder);
    if let Found::Finished(summary) = folder.inspect(recipe, options.force)? {
        return Ok(*summary);
    }
    let mut data = open_data(&recipe.dataset, recipe.data_dir.as_deref())?;
    if let Some(count) = recipe.images_per_class {
        data = data.first_per_class(count)?;
    }
    let card = Card::new(recipe, &data)?;
    let params = ParamStore::new(recipe.seed, DType::F32, Device::Cpu);
    let model = card.build(&params)?;
    let optimizer = Sgd::new(params.parameters(), recipe);
    // Before the folder is written to: what does not fit leaves the disk as it was.
    let resumes = files::whole_folder(&folder.last()).exists() && !options.force;
    let started = match resumes {
        true => None,
        false => init::needed(recipe, weights)?
            .map(|file| init::take_over(&file, &card, &params, Extent::Start))
            .transpose()?,
    };
    let ema = recipe.ema_decay.map(|decay| Ema::new(&card, &params, decay)).transpose()?;
    let mut training = Training { params, optimizer, ema };

    let _claim = folder.claim(recipe, &header(options), options.force)?;
    let reporter = Reporter::new(options.progress, &options.label, recipe.epochs, data.train.len());
    if let (Some(started), Some(file)) = (started, &recipe.init) {
        reporter.say(&format!("starting from {}: {started}", file.display()));
    }
    let fresh = State { recipe: checkpoint::fingerprint(recipe), ..State::default() };
    let state = if folder.last().exists() {
        let state = checkpoint::resume(&folder.last(), &mut training, &card)?;
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
    records::write_curves(&folder)?;
    let options = options.clone();
    Session { recipe, folder, data, card, model, training, state, reporter, options }.run()
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
    model: Network,
    training: Training,
    state: State,
    reporter: Reporter,
    options: TrainOptions,
}

impl Session<'_> {
    fn run(mut self) -> Result<Summary> {
        let mut last = None;
        while self.state.epoch < self.recipe.epochs {
            last = Some(self.epoch()?);
        }
        self.finish(last)?;
        // From what is on disk: a resumed run has seen only some of its epochs itself.
        let lines = Metrics::read(&self.folder.metrics())?;
        let cost = self.card.cost()?;
        let summary = Summary::new(self.recipe, &lines, cost.parameters, cost.multiply_adds)
            .ok_or_else(|| Error::Invalid("a run of no epochs has no summary".into()))?;
        summary.write(&self.folder.summary())?;
        Ok(summary)
    }

    /// The report's gallery. A run that was cut off after its last epoch is evaluated once more.
    fn finish(&self, last: Option<Tested>) -> Result<()> {
        let tested = match last {
            Some(tested) => tested,
            None => self.test()?.ok_or_else(|| self.interrupted())?,
        };
        let (card, data) = (&self.card, &*self.data.test);
        let gallery = match (&tested, self.model()) {
            (Tested::Classes(evaluation), Network::Classes(model)) => {
                let chosen = Chosen::new(&evaluation.answers, card.classes.len(), SHOWN);
                let indices = [chosen.wrong, chosen.right].concat();
                let method = gallery::method_for(self.recipe.variant);
                Gallery::Classes(gallery::look(&**model, card, data, &indices, method)?)
            }
            (Tested::Tasks(evaluation), Network::Tasks(model)) => {
                let chosen = attributes::choose(&evaluation.answers, card.tasks.len(), SHOWN);
                Gallery::Tasks(attributes::look(&**model, card, data, &chosen)?)
            }
            // A network is tested as what it is.
            _ => Gallery::None,
        };
        records::write(&self.folder, self.recipe, card, &tested, &gallery)
    }

    fn epoch(&mut self) -> Result<Tested> {
        let tally = self.state.partial.take().unwrap_or_else(|| self.model.tally());
        let mut bar = self.reporter.epoch(self.state.epoch, tally.images);
        let train = self.train_epoch(tally, &mut bar)?;
        let images_per_second = bar.images_per_second();
        bar.evaluating();
        let Some(tested) = self.test()? else { return self.stop_with(train) };
        let test = tested.tally();
        let metrics = Metrics {
            epoch: self.state.epoch + 1,
            lr: self.learning_rate(self.steps_per_epoch() - 1),
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
        self.record(&metrics, &tested)?;
        self.reporter.epoch_done(&bar, &metrics);
        Ok(tested)
    }

    fn steps_per_epoch(&self) -> usize {
        self.recipe.steps_per_epoch(self.data.train.len())
    }

    /// Learning rate of a step of this epoch.
    fn learning_rate(&self, step: usize) -> f64 {
        let steps = self.steps_per_epoch();
        self.recipe.learning_rate(self.state.epoch * steps + step, steps)
    }

    /// The steps of an epoch that are not yet done.
    fn train_epoch(&mut self, mut tally: Tally, bar: &mut EpochBar) -> Result<Tally> {
        let epoch = self.state.epoch as u64;
        let config = LoaderConfig {
            batch_size: self.recipe.part_size(),
            shuffle: true,
            augment: self.recipe.augment,
            seed: self.recipe.seed,
            epoch,
            ..LoaderConfig::default()
        };
        let loader = Loader::new(self.data.train.clone(), self.card.transform(), config)?;
        let mut progress = Step::default();
        for part in loader.skip(self.state.step * self.recipe.accumulate) {
            let part = part?;
            let (images, whole) = (part.indices.len(), self.images_of_step());
            let seed = step_seed(self.recipe.seed, epoch, self.state.step as u64);
            let smoothing = self.recipe.label_smoothing;
            let mean =
                in_pool(|| progress.add(&self.model, part, whole, seed, smoothing, &mut tally))?;
            let lr = self.learning_rate(self.state.step);
            if !mean.is_finite() {
                let (epoch, step) = (self.state.epoch + 1, self.state.step + 1);
                return Err(Error::Diverged { loss: mean, epoch, step, lr });
            }
            bar.step(images, mean);
            let Some(gradients) = progress.finished(whole) else { continue };
            in_pool(|| self.training.optimizer.step(&gradients, lr))?;
            drop(gradients);
            if let Some(ema) = &self.training.ema {
                ema.update(self.state.epoch * self.steps_per_epoch() + self.state.step)?;
            }
            self.state.step += 1;
            if self.stopped() {
                return self.stop_with(tally);
            }
        }
        Ok(tally)
    }

    /// Images of the next step: a batch, or what remains of the epoch.
    fn images_of_step(&self) -> usize {
        let batch = self.recipe.batch_size;
        batch.min(self.data.train.len().saturating_sub(self.state.step * batch))
    }

    fn stopped(&self) -> bool {
        self.options.stop.load(Ordering::Relaxed)
    }

    /// Saves in the middle of an epoch.
    fn stop_with<T>(&mut self, tally: Tally) -> Result<T> {
        self.state.partial = Some(tally);
        self.save_last()?;
        Err(self.interrupted())
    }

    fn interrupted(&self) -> Error {
        // After the last epoch there is no next one to be in.
        let (epoch, step) = match self.state.epoch == self.recipe.epochs {
            true => (self.recipe.epochs, self.steps_per_epoch()),
            false => (self.state.epoch + 1, self.state.step),
        };
        Error::Stopped { path: self.folder.root().to_owned(), epoch, step }
    }

    /// What is evaluated: the average of the weights, if there is one.
    fn model(&self) -> &Network {
        self.training.ema.as_ref().map_or(&self.model, |ema| &ema.model)
    }

    fn test(&self) -> Result<Option<Tested>> {
        let (test, transform) = (self.data.test.clone(), self.card.transform());
        self.model().test(test, transform, self.recipe.part_size(), &self.options.stop)
    }

    fn save_last(&self) -> Result<()> {
        checkpoint::save(&self.folder.last(), &self.training, true, &self.card, &self.state)
    }

    /// Puts a finished epoch on disk: its line and what follows from it, then `best/`, then
    /// `last/`, from which alone a resumed run goes on. A kill before that makes the epoch be done
    /// again, line and all.
    fn record(&mut self, metrics: &Metrics, tested: &Tested) -> Result<()> {
        let wrong = tested.tally().wrong;
        self.state = State { epoch: metrics.epoch, step: 0, partial: None, ..self.state.clone() };
        let epoch = metrics.epoch;
        let better = self.state.best.is_none_or(|best| wrong < best.wrong);
        metrics.append(&self.folder.metrics())?;
        records::write(&self.folder, self.recipe, &self.card, tested, &Gallery::None)?;
        if better {
            self.state.best = Some(Best { epoch, wrong });
            checkpoint::save(&self.folder.best(), &self.training, false, &self.card, &self.state)?;
        }
        self.save_last()
    }
}
