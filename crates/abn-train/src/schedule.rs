//! The learning rate of each step.

use std::f64::consts::PI;
use std::fmt;
use std::str::FromStr;

use crate::{Error, Recipe, Result};

/// How the learning rate falls over a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Schedule {
    /// By the factor `gamma` at each of the `milestones`: PyTorch's `MultiStepLR`, stepped once
    /// after each epoch.
    #[default]
    Multistep,
    /// Along half a cosine, down to 0 at the end of the run: PyTorch's `CosineAnnealingLR` with
    /// `eta_min=0`, stepped after each optimizer step.
    Cosine,
}

impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Multistep => "multistep",
            Self::Cosine => "cosine",
        })
    }
}

impl FromStr for Schedule {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        match name {
            "multistep" => Ok(Self::Multistep),
            "cosine" => Ok(Self::Cosine),
            _ => Err(Error::Invalid(format!(
                "unknown schedule {name:?}; expected \"multistep\" or \"cosine\""
            ))),
        }
    }
}

impl Recipe {
    /// Learning rate of an optimizer step, counted from 0 at the start of the run.
    ///
    /// In the warm-up of W steps, step s takes the share (s + 1) / W of what the schedule says:
    /// PyTorch's `LinearLR(start_factor=1/W, total_iters=W-1)`. Milestones are counted from the
    /// start of the run; a cosine starts after the warm-up.
    pub fn learning_rate(&self, step: usize, steps_per_epoch: usize) -> f64 {
        let steps_per_epoch = steps_per_epoch.max(1);
        let warmup = self.warmup_epochs * steps_per_epoch;
        let rate = match self.schedule {
            Schedule::Multistep => {
                let epoch = step / steps_per_epoch;
                let reached = self.milestones.iter().filter(|&&m| m <= epoch).count();
                // One factor at a time, as PyTorch does: a power would round differently.
                (0..reached).fold(self.lr, |lr, _| lr * self.gamma)
            }
            Schedule::Cosine => {
                let falling = (self.epochs * steps_per_epoch).saturating_sub(warmup).max(1);
                let done = step.saturating_sub(warmup) as f64 / falling as f64;
                self.lr * (1.0 + (PI * done).cos()) / 2.0
            }
        };
        if step < warmup { rate * (step + 1) as f64 / warmup as f64 } else { rate }
    }

    /// Optimizer steps of an epoch over so many images.
    pub(crate) fn steps_per_epoch(&self, images: usize) -> usize {
        images.div_ceil(self.batch_size)
    }

    /// Images that go through the network at a time.
    pub fn part_size(&self) -> usize {
        self.batch_size.div_ceil(self.accumulate)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rates(recipe: &Recipe, steps_per_epoch: usize) -> Vec<f64> {
        let steps = recipe.epochs * steps_per_epoch;
        (0..steps).map(|step| recipe.learning_rate(step, steps_per_epoch)).collect()
    }

    #[track_caller]
    fn assert_close(actual: &[f64], expected: &[f64]) {
        assert_eq!(actual.len(), expected.len());
        for (step, (a, e)) in actual.iter().zip(expected).enumerate() {
            assert!((a - e).abs() < 1e-15, "step {step}: {a} against {e}");
        }
    }

    #[test]
    fn the_rate_falls_when_a_milestone_is_reached() {
        let recipe = Recipe { epochs: 5, milestones: vec![2, 3], ..Recipe::default() };
        let expected = [0.1, 0.1, 0.1 * 0.1, 0.1 * 0.1 * 0.1, 0.1 * 0.1 * 0.1];
        assert_eq!(rates(&recipe, 1), expected);
        let twice: Vec<_> = expected.into_iter().flat_map(|rate| [rate, rate]).collect();
        assert_eq!(rates(&recipe, 2), twice);
    }

    #[test]
    fn a_cosine_is_pytorchs() {
        // torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 12), before each of 12 steps.
        let recipe = Recipe { epochs: 6, schedule: Schedule::Cosine, ..Recipe::default() };
        let expected = [
            0.1,
            0.09829629131445342,
            0.09330127018922195,
            0.08535533905932738,
            0.07500000000000001,
            0.06294095225512605,
            0.05000000000000001,
            0.03705904774487397,
            0.025000000000000015,
            0.01464466094067263,
            0.006698729810778066,
            0.0017037086855465904,
        ];
        assert_close(&rates(&recipe, 2), &expected);
    }

    #[test]
    fn a_warm_up_is_pytorchs() {
        // LinearLR(start_factor=1/4, total_iters=3) with 4 warm-up steps, and after it
        // CosineAnnealingLR(8), joined by SequentialLR(milestones=[4]).
        let recipe = Recipe {
            epochs: 6,
            warmup_epochs: 2,
            schedule: Schedule::Cosine,
            milestones: vec![3, 5],
            ..Recipe::default()
        };
        let expected = [
            0.025,
            0.05,
            0.07500000000000001,
            0.1,
            0.1,
            0.09619397662556434,
            0.08535533905932738,
            0.0691341716182545,
            0.05,
            0.030865828381745515,
            0.014644660940672627,
            0.0038060233744356634,
        ];
        assert_close(&rates(&recipe, 2), &expected);
        // The same LinearLR chained with MultiStepLR([6, 10]).
        let recipe = Recipe { schedule: Schedule::Multistep, ..recipe };
        let expected = [0.025, 0.05, 0.075, 0.1, 0.1, 0.1, 0.01, 0.01, 0.01, 0.01, 0.001, 0.001];
        assert_close(&rates(&recipe, 2), &expected);
    }

    #[test]
    fn a_schedule_is_written_as_it_is_read() {
        for schedule in [Schedule::Multistep, Schedule::Cosine] {
            assert_eq!(schedule.to_string().parse::<Schedule>().unwrap(), schedule);
        }
        let said = "cosinus".parse::<Schedule>().unwrap_err().to_string();
        assert!(said.contains("cosinus") && said.contains("multistep"), "{said}");
    }
}
