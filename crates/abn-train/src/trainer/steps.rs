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
use crate::replay::{Input, Kept, Replayed, Turn};
use crate::step::{Step, Task, part_seed, step_seed};
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
            let (whole, images) = (self.images_of_step(), self.images_of_parts());
            let number = parts - self.state.step * recipe.accumulate;
            let turn = Turn { whole, images: &images, number };
            let (mut counted, done) = self.part(&mut step, part?, turn)?;
            let stop = team.count(&mut counted, self.options.stop.load(Ordering::Relaxed))?;
            parts += 1;
            let found = ledger.add(&mut tally, &counted, turn.is_last(), team)?;
            self.still_a_number(found, parts)?;
            bar.step(counted.images, ledger.loss());
            if !turn.is_last() {
                continue;
            }
            if !done {
                self.finish_step(&mut step)?;
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

    /// Goes through the network with a part of a step. What was counted on the host, and whether nothing more is
    /// to be done for it, since the device replays the whole step.
    fn part(&mut self, step: &mut Step, part: Part, turn: Turn) -> Result<(Tally, bool)> {
        let (whole, lr) = (turn.whole, self.learning_rate(self.state.step));
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
        let mut counted = model.tally();
        if let Some(replay) = &mut self.replay {
            let seed = part_seed(task.seed, turn.number as u64, task.rank);
            replay.make_room(training.optimizer.moved())?;
            let work = |inputs: &[Input], lr: &Tensor, kept: Option<&Kept>| {
                task.others = None;
                let (mut step, mut each) = (Step::default(), Vec::new());
                for input in inputs {
                    let mut counted = model.tally();
                    input.run(|part| step.add(&mut task, part, &mut counted))?;
                    each.push(counted);
                }
                let Some(gradients) = step.finished(whole) else { return Ok(each) };
                let Some(kept) = kept else {
                    training.step(gradients, Rate::There(lr), before)?;
                    return Ok(each);
                };
                for (parameter, room) in kept {
                    if let Some(gradient) = gradients.get(parameter) {
                        room.set(gradient)?;
                    }
                }
                Ok(each)
            };
            match in_pool(|| replay.part(&part, turn, lr, seed, work))? {
                Replayed::Done(counted, None) => return Ok((counted, true)),
                Replayed::Done(counted, Some(gradients)) => {
                    *step = Step::known(gradients, whole);
                    return Ok((counted, false));
                }
                Replayed::NotYet => {}
                Replayed::Refused(why) => {
                    self.reporter.say(&format!("going on without CUDA graphs: {why}"));
                }
            }
        }
        in_pool(|| step.add(&mut task, part, &mut counted))?;
        Ok((counted, false))
    }

    /// Ends the step, which has all its parts.
    fn finish_step(&mut self, step: &mut Step) -> Result<()> {
        let Some(mut gradients) = step.finished(self.images_of_step()) else { return Ok(()) };
        if let Some(others) = &mut self.gradients {
            others.finish(&mut gradients)?;
        }
        let rate = Rate::Here(self.learning_rate(self.state.step));
        let before = self.steps_before();
        in_pool(|| self.training.step(gradients, rate, before))
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

    /// This process's images of each part of the next step.
    fn images_of_parts(&self) -> Vec<usize> {
        let (whole, part, shard) =
            (self.images_of_step(), self.recipe.part_size(), self.team.shard());
        let parts = (0..whole).step_by(part).map(|before| part.min(whole - before));
        parts.map(|images| shard.range(images).len()).collect()
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
