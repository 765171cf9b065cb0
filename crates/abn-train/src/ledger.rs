//! How what training steps counted comes to the host.

use std::sync::Arc;

use abn_ops::{Branch, Meter, TaskBranch, Tracked};
use candle_core::Tensor;

use crate::Result;
use crate::parallel::Team;
use crate::tally::Tally;

/// On a GPU, at least so many parts of steps are counted before the host reads what they gave.
const PARTS: u64 = 32;

/// The counts of an epoch's steps, part by part.
///
/// On the CPU each part's are there at once. On a GPU they stay there ([`Meter`]), so that no step waits
/// for the one before, and are read after every [`PARTS`] parts or some more, and at the end.
pub(crate) struct Ledger {
    meter: Option<Arc<Meter>>,
    /// On a GPU, parts since it was read.
    waiting: u64,
    /// Images of all processes in these.
    images: usize,
    /// Whether the network has an attention branch.
    attention: bool,
    /// Loss of the last part that was read, or the mean of the last ones.
    loss: f64,
}

/// A loss that is no number.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Diverged {
    pub loss: f64,
    /// How many parts came after the one with that loss.
    pub later: u64,
}

impl Ledger {
    /// Of an epoch whose steps this meter counts, if there is one. It is at 0.
    pub fn new(meter: Option<Arc<Meter>>) -> Self {
        Self { meter, waiting: 0, images: 0, attention: false, loss: f64::NAN }
    }

    /// The last loss that is known: of the last part, or on a GPU the mean of some parts before.
    pub fn loss(&self) -> f64 {
        self.loss
    }

    /// Takes in what a part counted over all processes, on a GPU its images alone; the tally gets what is
    /// known by now. On a GPU, a loss that is no number is found up to [`PARTS`] parts late, and after the `last`
    /// part of a step only, before which the device may not have been told to do the step.
    pub fn add(
        &mut self,
        tally: &mut Tally,
        counted: &Tally,
        last: bool,
        team: &Team,
    ) -> Result<Option<Diverged>> {
        if self.meter.is_none() {
            tally.add_all(counted);
            self.loss = counted.loss();
            return Ok(self.diverged());
        }
        self.waiting += 1;
        self.images += counted.images;
        self.attention = counted.wrong_attention.is_some();
        // The first step's at once, so that there is a loss to show.
        if last && (self.loss.is_nan() || self.waiting >= PARTS) {
            return self.settle(tally, team);
        }
        Ok(None)
    }

    /// The tally gets what it does not have yet.
    pub fn settle(&mut self, tally: &mut Tally, team: &Team) -> Result<Option<Diverged>> {
        let Some(meter) = self.meter.as_ref().filter(|_| self.waiting > 0) else { return Ok(None) };
        let read = meter.take()?;
        let mut sums = Tally::metered(&read, self.attention);
        team.count(&mut sums, false)?;
        sums.images = self.images;
        let parts = self.waiting;
        (self.waiting, self.images) = (0, 0);
        tally.add_all(&sums);
        self.loss = sums.loss();
        // Which part it was, if it was this process's loss; or else the last one.
        let here =
            read.diverged.map(|(part, loss)| Diverged { loss, later: parts.saturating_sub(part) });
        Ok(here.or_else(|| self.diverged()))
    }

    fn diverged(&self) -> Option<Diverged> {
        (!self.loss.is_finite()).then_some(Diverged { loss: self.loss, later: 0 })
    }
}

/// Counts a part on a GPU.
pub(crate) fn measure(
    meter: &Meter,
    output: &abn_core::Output,
    loss: &abn_core::Loss,
    labels: &Tensor,
) -> Result<()> {
    let attention = output.attention.as_ref().zip(loss.attention.as_ref());
    let attention = attention
        .map(|(attention, loss)| Branch { scores: attention.logits.value(), loss: loss.value() });
    let perception = Branch { scores: output.logits.value(), loss: loss.perception.value() };
    Ok(meter.add(loss.total.value(), perception, attention, labels)?)
}

/// Counts a part with several tasks on a GPU.
pub(crate) fn measure_tasks(
    meter: &Meter,
    step: &abn_multitask::Step,
    labels: &Tensor,
) -> Result<()> {
    let perception = TaskBranch {
        scores: step.output.logits.iter().map(Tracked::value).collect(),
        losses: step.perception.iter().collect(),
    };
    let attention = step.output.attention.as_ref().map(|attention| TaskBranch {
        scores: attention.logits.iter().map(Tracked::value).collect(),
        losses: step.attention.iter().collect(),
    });
    Ok(meter.add_tasks(&perception, attention.as_ref(), labels)?)
}
