//! The training loop.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use abn_core::ParamStore;
use abn_data::{LoaderConfig, Splits};
use abn_ops::{Meter, in_pool};
use candle_core::{DType, Device, Tensor};
use serde::{Deserialize, Serialize};

use crate::card::Card;
use crate::checkpoint::{self, Best, State, Training};
use crate::ema::Ema;
use crate::feed::Feed;
use crate::folder::{Found, RunFolder};
use crate::init::{self, Extent};
use crate::ledger::{self, Diverged, Ledger};
use crate::network::{Network, Tested};
use crate::optimizer::Sgd;
use crate::parallel::{Gradients, Group, Team};
use crate::part::Part;
use crate::progress::{EpochBar, Progress, Reporter};
use crate::replay::{Replay, Replayed};
use crate::report::gallery::{self, Chosen};
use crate::report::{Gallery, attributes};
use crate::step::{Step, Task, step_seed};
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
    /// Where to compute. Default: the CPU.
    pub device: Option<Device>,
    /// The processes that train this run together, of which this is one: each calls [`train`] with
    /// the same recipe. Default: this process alone.
    pub group: Option<Arc<Group>>,
    /// Have a GPU replay its steps as CUDA graphs, which spares it waiting for the host to tell it each
    /// kernel. The same kernels, the same result. Where steps cannot be captured, training goes on
    /// without and says why.
    pub cuda_graph: bool,
}

/// Trains what a recipe says, in a folder of its own.
///
/// A folder with an unfinished run of the same recipe is gone on with, and ends with the same
/// bytes as if it had never been interrupted; one with a finished run gives its summary at once.
/// Everything is checked before anything is written: a recipe, dataset or folder that cannot be
/// leaves the disk as it was.
///
/// Several processes ([`TrainOptions::group`]) share each batch of the recipe's size, and rank 0 alone
/// reads and writes the folder; all get the same summary.
///
/// # Errors
/// If the recipe, the data or what the folder holds cannot be; [`Error::OtherRun`] if it holds a
/// run of another recipe; [`Error::Diverged`] if the loss is no longer a number, which on a GPU is
/// found some steps late (the checkpoint after the last whole epoch stays); [`Error::Stopped`] if
/// asked to; [`Error::Peer`] if another process is gone or has failed.
pub fn train(recipe: &Recipe, folder: &Path, options: &TrainOptions) -> Result<Summary> {
    let team = Team::new(options.group.clone());
    begin(&team, recipe, folder, options).map_err(|error| match team.fail(error) {
        Error::Peer { rank, problem } if RunFolder::new(folder).last().exists() => {
            let kept =
                "what was saved before is kept, run the same command again to go on from there";
            Error::Peer { rank, problem: format!("{problem}; {kept}") }
        }
        error => error,
    })
}

/// What rank 0 found in the folder.
#[derive(Serialize, Deserialize)]
enum Begin {
    /// A finished run.
    Finished(Box<Summary>),
    /// Nothing, or a run to go on with; the hash of the weights that it starts from, if any.
    Train(Option<String>),
}

fn begin(team: &Team, recipe: &Recipe, folder: &Path, options: &TrainOptions) -> Result<Summary> {
    recipe.validate()?;
    let device = options.device.clone().unwrap_or(Device::Cpu);
    recipe.precision.set_up(&device)?;
    check_parts(team, recipe)?;
    let start = Recipe { init: None, init_sha256: None, ..recipe.identity() };
    team.agree("recipe", start.to_toml())?;
    let folder = RunFolder::new(folder);
    let mut weights = None;
    let found = team.told(|| {
        let (recipe, file) = init::resolve(recipe)?;
        weights = file;
        Ok(match folder.inspect(&recipe, options.force)? {
            Found::Finished(summary) => Begin::Finished(summary),
            Found::Nothing | Found::Unfinished => Begin::Train(recipe.init_sha256),
        })
    })?;
    let recipe = &match found {
        Begin::Finished(summary) => return Ok(*summary),
        Begin::Train(init_sha256) => Recipe { init_sha256, ..recipe.clone() },
    };
    let mut data = open_data(&recipe.dataset, recipe.data_dir.as_deref())?;
    if let Some(count) = recipe.images_per_class {
        data = data.first_per_class(count)?;
    }
    let card = Card::new(recipe, &data)?;
    let (train, test) = (data.train.len(), data.test.len());
    let sizes = format!("{train} training images\n{test} test images\n");
    team.agree("dataset", sizes + &checkpoint::card_text(&card))?;
    let params = ParamStore::new(recipe.seed, DType::F32, device);
    let model = card.build(&params)?.in_precision(recipe.precision, params.device())?;
    let optimizer = Sgd::new(params.parameters(), recipe);
    // Before the folder is written to: what does not fit leaves the disk as it was.
    let resumes = files::whole_folder(&folder.last()).exists() && !options.force;
    let started = match resumes || !team.is_root() {
        true => None,
        false => init::needed(recipe, weights)?
            .map(|file| init::take_over(&file, &card, &params, Extent::Start))
            .transpose()?,
    };
    let ema = recipe.ema_decay.map(|decay| Ema::new(&card, &params, decay)).transpose()?;
    let gradients = team.gradients(&params.parameters(), recipe.sync_batch_norm)?;
    let mut training = Training { params, optimizer, ema };

    let progress = if team.is_root() { options.progress } else { Progress::Quiet };
    let reporter = Reporter::new(progress, &options.label, recipe.epochs, data.train.len());
    let (_claim, state) = match team.is_root() {
        true => {
            let claim = folder.claim(recipe, &header(options), options.force)?;
            if let (Some(started), Some(file)) = (started, &recipe.init) {
                reporter.say(&format!("starting from {}: {started}", file.display()));
            }
            (Some(claim), resume(recipe, &folder, &mut training, &card, &reporter)?)
        }
        false => (None, State::default()),
    };
    let state = team.share_start(&mut training, state)?;
    let options = options.clone();
    let meter = ledger::meter(&model, training.params.device())?;
    let replay = match Replay::wanted(recipe, &options, training.params.device(), meter.is_some()) {
        Ok(replay) => replay,
        Err(why) => {
            reporter.say(&format!("training without CUDA graphs: {why}"));
            None
        }
    };
    let feed = Feed::new(data.train.clone(), card.transform(), training.params.device())?;
    let session = Session {
        recipe,
        folder,
        data,
        feed,
        meter,
        replay,
        card,
        model,
        training,
        state,
        reporter,
        options,
        team,
        gradients,
    };
    session.run()
}

/// Where the run in the folder is, with everything that goes with it.
fn resume(
    recipe: &Recipe,
    folder: &RunFolder,
    training: &mut Training,
    card: &Card,
    reporter: &Reporter,
) -> Result<State> {
    let mut state = State { recipe: checkpoint::fingerprint(recipe), ..State::default() };
    if folder.last().exists() {
        state = checkpoint::resume(&folder.last(), training, card)?;
        reporter.say(&format!(
            "going on with {} after epoch {}, step {}",
            folder.root().display(),
            state.epoch,
            state.step
        ));
    }
    Metrics::truncate(&folder.metrics(), state.epoch)?;
    records::write_curves(folder)?;
    Ok(state)
}

/// Refuses batches of which a process would never have a part.
fn check_parts(team: &Team, recipe: &Recipe) -> Result<()> {
    let processes = team.shard().of;
    if recipe.part_size() >= processes {
        return Ok(());
    }
    Err(Error::Setting {
        key: "batch_size",
        problem: format!(
            "{} images at a time are fewer than the {processes} processes that share them",
            recipe.part_size()
        ),
    })
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
    feed: Feed,
    /// What counts steps on a GPU.
    meter: Option<Arc<Meter>>,
    /// The captured steps, if any are.
    replay: Option<Replay>,
    card: Card,
    model: Network,
    training: Training,
    state: State,
    reporter: Reporter,
    options: TrainOptions,
    team: &'a Team,
    /// Their way to the other processes, if there are any.
    gradients: Option<Gradients>,
}

impl Session<'_> {
    fn run(mut self) -> Result<Summary> {
        let mut last = None;
        while self.state.epoch < self.recipe.epochs {
            last = Some(self.epoch()?);
        }
        // A run that was cut off after its last epoch is evaluated once more.
        let last = match last {
            Some(tested) => tested,
            None => self.test()?.ok_or_else(|| self.interrupted())?,
        };
        self.team.told(|| self.finish(&last))
    }

    /// The report with its gallery, and the summary.
    fn finish(&self, tested: &Tested) -> Result<Summary> {
        self.illustrate(tested)?;
        // From what is on disk: a resumed run has seen only some of its epochs itself.
        let lines = Metrics::read(&self.folder.metrics())?;
        let cost = self.card.cost()?;
        let summary = Summary::new(self.recipe, &lines, cost.parameters, cost.multiply_adds)
            .ok_or_else(|| Error::Invalid("a run of no epochs has no summary".into()))?;
        summary.write(&self.folder.summary())?;
        Ok(summary)
    }

    /// The report's gallery.
    fn illustrate(&self, tested: &Tested) -> Result<()> {
        let (card, data) = (&self.card, &*self.data.test);
        let params = self.training.network();
        let device = params.device();
        // Maps are drawn from f32, whatever the network is trained in.
        let gallery = match (tested, &card.build(params)?) {
            (Tested::Classes(evaluation), Network::Classes(model)) => {
                let chosen = Chosen::new(&evaluation.answers, card.classes.len(), SHOWN);
                let indices = [chosen.wrong, chosen.right].concat();
                let method = gallery::method_for(self.recipe.variant);
                let looks = gallery::look(&**model, card, device, data, &indices, method)?;
                Gallery::Classes(looks)
            }
            (Tested::Tasks(evaluation), Network::Tasks(model)) => {
                let chosen = attributes::choose(&evaluation.answers, card.tasks.len(), SHOWN);
                Gallery::Tasks(attributes::look(&**model, card, device, data, &chosen)?)
            }
            // A network is tested as what it is.
            _ => Gallery::None,
        };
        records::write(&self.folder, self.recipe, card, tested, &gallery)
    }

    fn epoch(&mut self) -> Result<Tested> {
        let tally = self.state.partial.take().unwrap_or_else(|| self.model.tally());
        let mut bar = self.reporter.epoch(self.state.epoch, tally.images);
        let train = self.train_epoch(tally, &mut bar)?;
        let images_per_second = bar.images_per_second();
        bar.evaluating();
        let Some(tested) = self.test()? else { return self.stop_with(train) };
        if !self.team.is_root() {
            self.state.epoch += 1;
            self.state.step = 0;
            return Ok(tested);
        }
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
            shard: self.team.shard(),
            ..LoaderConfig::default()
        };
        let (team, recipe) = (self.team, self.recipe);
        let statistics = |counts| team.statistics(recipe.sync_batch_norm, counts);
        let mut progress = Step::default();
        let mut ledger = Ledger::new(self.meter.clone());
        let (mut parts, mut stopped) = (self.state.step * recipe.accumulate, false);
        for part in self.feed.epoch(config, parts)? {
            let (whole, part) = (self.images_of_step(), part?);
            let replayed = self.replayed(&part, whole)?;
            let mut task = Task {
                model: &self.model,
                device: self.training.params.device(),
                whole,
                part: recipe.part_size(),
                seed: step_seed(recipe.seed, epoch, self.state.step as u64),
                smoothing: recipe.label_smoothing,
                rank: team.rank(),
                statistics: &statistics,
                meter: ledger.meter(),
                others: self.gradients.as_mut(),
            };
            let is_told = replayed.is_some();
            let mut counted = replayed.unwrap_or_else(|| self.model.tally());
            if !is_told {
                in_pool(|| progress.add(&mut task, part, &mut counted))?;
            }
            let stop = team.count(&mut counted, self.options.stop.load(Ordering::Relaxed))?;
            parts += 1;
            self.still_a_number(ledger.add(&mut tally, &counted, team)?, parts)?;
            bar.step(counted.images, ledger.loss());
            if !is_told {
                let Some(mut gradients) = progress.finished(whole) else { continue };
                if let Some(others) = &mut self.gradients {
                    others.finish(&mut gradients)?;
                }
                let lr = self.learning_rate(self.state.step);
                in_pool(|| self.training.optimizer.step(&gradients, lr))?;
                drop(gradients);
                if let Some(ema) = &self.training.ema {
                    ema.update(self.steps_before())?;
                }
            }
            self.state.step += 1;
            if stop {
                stopped = true;
                break;
            }
        }
        self.still_a_number(ledger.settle(&mut tally, team)?, parts)?;
        if stopped {
            return self.stop_with(tally);
        }
        Ok(tally)
    }

    /// Steps of the run so far.
    fn steps_before(&self) -> usize {
        self.state.epoch * self.steps_per_epoch() + self.state.step
    }

    /// What the host counted of a step that the device has been told to replay; `None` if it is still to be
    /// done.
    fn replayed(&mut self, part: &Part, whole: usize) -> Result<Option<Tally>> {
        let (lr, steps) = (self.learning_rate(self.state.step), self.steps_before());
        let (Some(replay), recipe) = (&mut self.replay, self.recipe) else { return Ok(None) };
        let (model, training) = (&self.model, &mut self.training);
        let meter = self.meter.as_deref();
        let work = |part: Part, lr: &Tensor| {
            let (mut step, mut counted) = (Step::default(), model.tally());
            let mut task = Task {
                model,
                device: training.params.device(),
                whole,
                part: recipe.part_size(),
                // Of dropout, which is not captured.
                seed: 0,
                smoothing: recipe.label_smoothing,
                rank: 0,
                statistics: &|_| None,
                meter,
                others: None,
            };
            step.add(&mut task, part, &mut counted)?;
            if let Some(gradients) = step.finished(whole) {
                training.optimizer.step_at(&gradients, lr)?;
            }
            if let Some(ema) = &training.ema {
                ema.update(steps)?;
            }
            Ok(counted)
        };
        Ok(match in_pool(|| replay.step(part, lr, work))? {
            Replayed::Done(counted) => Some(counted),
            Replayed::NotYet => None,
            Replayed::Refused(why) => {
                self.reporter.say(&format!("going on without CUDA graphs: {why}"));
                None
            }
        })
    }

    /// Refuses to go on if the loss of one of the epoch's first so many parts was no number.
    fn still_a_number(&self, diverged: Option<Diverged>, parts: usize) -> Result<()> {
        let Some(Diverged { loss, later }) = diverged else { return Ok(()) };
        let part = parts.saturating_sub(1).saturating_sub(later as usize);
        let step = part / self.recipe.accumulate;
        let (epoch, lr) = (self.state.epoch + 1, self.learning_rate(step));
        Err(Error::Diverged { loss, epoch, step: step + 1, lr })
    }

    /// Images of the next step: a batch, or what remains of the epoch.
    fn images_of_step(&self) -> usize {
        let batch = self.recipe.batch_size;
        batch.min(self.data.train.len().saturating_sub(self.state.step * batch))
    }

    /// Saves in the middle of an epoch.
    fn stop_with<T>(&mut self, tally: Tally) -> Result<T> {
        self.state.partial = Some(tally);
        if self.team.is_root() {
            self.save_last()?;
        }
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
        let params = self.training.network();
        if !self.recipe.sync_batch_norm {
            self.team.share_buffers(params)?;
        }
        let (test, transform) = (self.data.test.clone(), self.card.transform());
        let (part, shard) = (self.recipe.part_size(), self.team.shard());
        let (device, stop) = (params.device(), &self.options.stop);
        self.team.whole(self.model().test_part(test, transform, part, shard, device, stop)?)
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
