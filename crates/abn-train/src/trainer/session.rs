//! A run, epoch by epoch.

use std::sync::Arc;

use abn_data::Splits;
use abn_ops::Meter;

use super::TrainOptions;
use crate::card::Card;
use crate::checkpoint::{State, Training};
use crate::feed::Feed;
use crate::folder::{Claim, RunFolder};
use crate::network::{Network, Tested};
use crate::parallel::{Gradients, Team};
use crate::progress::Reporter;
use crate::replay::Replay;
use crate::tally::Tally;
use crate::{Error, Metrics, Recipe, Result, Summary};

/// A run that is being trained.
pub(super) struct Session<'a> {
    /// The folder's, held by rank 0 as long as it trains.
    pub(super) _claim: Option<Claim>,
    pub(super) recipe: &'a Recipe,
    pub(super) folder: RunFolder,
    pub(super) data: Splits,
    pub(super) feed: Feed,
    pub(super) test_feed: Feed,
    /// What counts steps on a GPU.
    pub(super) meter: Option<Arc<Meter>>,
    /// The captured steps, if any are.
    pub(super) replay: Option<Replay>,
    pub(super) card: Card,
    pub(super) model: Network,
    pub(super) training: Training,
    pub(super) state: State,
    pub(super) reporter: Reporter,
    pub(super) options: TrainOptions,
    pub(super) team: &'a Team,
    /// Their way to the other processes, if there are any.
    pub(super) gradients: Option<Gradients>,
}

impl Session<'_> {
    pub(super) fn run(mut self) -> Result<Summary> {
        let done = self.run_all();
        self.team.part(done)
    }

    fn run_all(&mut self) -> Result<Summary> {
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

    fn epoch(&mut self) -> Result<Tested> {
        let tally = self.state.partial.take().unwrap_or_else(|| self.model.tally());
        let mut bar = self.reporter.epoch(self.state.epoch, tally.images);
        let train = self.train_epoch(tally, &mut bar)?;
        self.team.compare(&self.training.params, self.state.epoch + 1)?;
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

    fn test(&self) -> Result<Option<Tested>> {
        let params = self.training.network();
        if !self.recipe.sync_batch_norm {
            self.team.share_buffers(params)?;
        }
        let (part, shard) = (self.recipe.part_size(), self.team.shard());
        let tested = self.model().test_part(&self.test_feed, part, shard, &self.options.stop)?;
        self.team.whole(tested)
    }

    /// What is evaluated: the average of the weights, if there is one.
    fn model(&self) -> &Network {
        self.training.ema.as_ref().map_or(&self.model, |ema| &ema.model)
    }

    /// Saves in the middle of an epoch.
    pub(super) fn stop_with<T>(&mut self, tally: Tally) -> Result<T> {
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
}
