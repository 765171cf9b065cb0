//! The steps of an epoch.

use std::sync::atomic::Ordering;

use abn_data::LoaderConfig;
use abn_ops::in_pool;
use candle_core::Tensor;

use super::session::Session;
use crate::ledger::{Diverged, Ledger};
use crate::optimizer::Rate;
use crate::part::Part;
use crate::progress::EpochBar;
use crate::replay::Replayed;
use crate::step::{Step, Task, step_seed};
use crate::tally::Tally;
use crate::{Error, Result};

impl Session<'_> {
    /// The steps of an epoch that are not yet done.
    pub(super) fn train_epoch(&mut self, mut tally: Tally, bar: &mut EpochBar) -> Result<Tally> {
        let (team, recipe) = (self.team, self.recipe);
        let config = LoaderConfig {
            batch_size: recipe.part_size(),
            shuffle: true,
            augment: recipe.augment,
            seed: recipe.seed,
            epoch: self.state.epoch as u64,
            shard: team.shard(),
            ..LoaderConfig::default()
        };
        let mut step = Step::default();
        let mut ledger = Ledger::new(self.meter.clone());
        let (mut parts, mut stopped) = (self.state.step * recipe.accumulate, false);
        for part in self.feed.epoch(config, parts)? {
            let (mut counted, done) = self.part(&mut step, part?)?;
            let stop = team.count(&mut counted, self.options.stop.load(Ordering::Relaxed))?;
            parts += 1;
            self.still_a_number(ledger.add(&mut tally, &counted, team)?, parts)?;
            bar.step(counted.images, ledger.loss());
            if !(done || self.finished(&mut step)?) {
                continue;
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

    /// Goes through the network with a part of a step. What was counted on the host, and whether the device
    /// was told to replay the whole step.
    fn part(&mut self, step: &mut Step, part: Part) -> Result<(Tally, bool)> {
        let (whole, lr) = (self.images_of_step(), self.learning_rate(self.state.step));
        let before = self.steps_before();
        let (model, training, team, recipe) =
            (&self.model, &mut self.training, self.team, self.recipe);
        let device = training.params.device().clone();
        let statistics = |counts| team.statistics(recipe.sync_batch_norm, counts);
        let mut task = Task {
            model,
            device: &device,
            whole,
            part: recipe.part_size(),
            seed: step_seed(recipe.seed, self.state.epoch as u64, self.state.step as u64),
            smoothing: recipe.label_smoothing,
            rank: team.rank(),
            statistics: &statistics,
            meter: self.meter.as_deref(),
            others: self.gradients.as_mut(),
        };
        let (mut counted, seed) = (model.tally(), task.seed);
        if let Some(replay) = &mut self.replay {
            let work = |part: Part, lr: &Tensor| {
                let (mut step, mut counted) = (Step::default(), model.tally());
                step.add(&mut task, part, &mut counted)?;
                if let Some(gradients) = step.finished(whole) {
                    training.step(gradients, Rate::There(lr), before)?;
                }
                Ok(counted)
            };
            match in_pool(|| replay.step(&part, lr, seed, work))? {
                Replayed::Done(counted) => return Ok((counted, true)),
                Replayed::NotYet => {}
                Replayed::Refused(why) => {
                    self.reporter.say(&format!("going on without CUDA graphs: {why}"));
                }
            }
        }
        in_pool(|| step.add(&mut task, part, &mut counted))?;
        Ok((counted, false))
    }

    /// Ends the step if it has all its parts. Whether it has.
    fn finished(&mut self, step: &mut Step) -> Result<bool> {
        let Some(mut gradients) = step.finished(self.images_of_step()) else { return Ok(false) };
        if let Some(others) = &mut self.gradients {
            others.finish(&mut gradients)?;
        }
        let rate = Rate::Here(self.learning_rate(self.state.step));
        let before = self.steps_before();
        in_pool(|| self.training.step(gradients, rate, before))?;
        Ok(true)
    }

    pub(super) fn steps_per_epoch(&self) -> usize {
        self.recipe.steps_per_epoch(self.data.train.len())
    }

    /// Steps of the run so far.
    fn steps_before(&self) -> usize {
        self.state.epoch * self.steps_per_epoch() + self.state.step
    }

    /// Learning rate of a step of this epoch.
    pub(super) fn learning_rate(&self, step: usize) -> f64 {
        let steps = self.steps_per_epoch();
        self.recipe.learning_rate(self.state.epoch * steps + step, steps)
    }

    /// Images of the next step: a batch, or what remains of the epoch.
    fn images_of_step(&self) -> usize {
        let batch = self.recipe.batch_size;
        batch.min(self.data.train.len().saturating_sub(self.state.step * batch))
    }

    /// Refuses to go on if the loss of one of the epoch's first so many parts was no number.
    fn still_a_number(&self, diverged: Option<Diverged>, parts: usize) -> Result<()> {
        let Some(Diverged { loss, later }) = diverged else { return Ok(()) };
        let part = parts.saturating_sub(1).saturating_sub(later as usize);
        let step = part / self.recipe.accumulate;
        let (epoch, lr) = (self.state.epoch + 1, self.learning_rate(step));
        Err(Error::Diverged { loss, epoch, step: step + 1, lr })
    }
}
