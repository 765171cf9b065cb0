//! Sums over the images of an epoch.

use abn_core::{Loss, Output};
use abn_ops::Metered;
use candle_core::Tensor;
use serde::{Deserialize, Serialize};

use crate::Result;
use crate::evaluation::highest;

/// Sums of losses and errors over images, from which means and percentages follow.
///
/// Written and read back exactly (sums as the bits of an `f64`), so an epoch that was stopped in
/// its middle ends as if it had not been.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Tally {
    /// Images seen.
    pub images: usize,
    /// Answers to each image: 1, or the number of tasks.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    tasks: usize,
    /// Answers the perception branch got wrong.
    pub wrong: usize,
    /// Answers the attention branch got wrong, if there is one.
    pub wrong_attention: Option<usize>,
    /// Loss of both branches.
    loss: Sum,
    /// Loss of the perception branch.
    perception: Sum,
    /// Loss of the attention branch.
    attention: Sum,
}

/// A sum that is written as its bits: JSON readers round decimal fractions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(from = "u64", into = "u64")]
struct Sum(f64);

impl From<u64> for Sum {
    fn from(bits: u64) -> Self {
        Self(f64::from_bits(bits))
    }
}

impl From<Sum> for u64 {
    fn from(sum: Sum) -> Self {
        sum.0.to_bits()
    }
}

fn one() -> usize {
    1
}

fn is_one(tasks: &usize) -> bool {
    *tasks == 1
}

impl Default for Tally {
    fn default() -> Self {
        Self::of_tasks(1)
    }
}

/// Mean losses of a batch of images with answers to several tasks, and how many of these were wrong.
pub(crate) struct TaskSums {
    pub images: usize,
    pub total: f64,
    pub perception: f64,
    pub attention: Option<f64>,
    pub wrong: usize,
    pub wrong_attention: Option<usize>,
}

impl Tally {
    /// Nothing yet, of images with so many answers.
    pub(crate) fn of_tasks(tasks: usize) -> Self {
        let (loss, perception, attention) = Default::default();
        Self { images: 0, tasks, wrong: 0, wrong_attention: None, loss, perception, attention }
    }

    /// Counts a batch with several answers to each image.
    pub(crate) fn add_tasks(&mut self, batch: &TaskSums) {
        let images = batch.images as f64;
        self.images += batch.images;
        self.loss.0 += batch.total * images;
        self.perception.0 += batch.perception * images;
        self.wrong += batch.wrong;
        if let (Some(loss), Some(wrong)) = (batch.attention, batch.wrong_attention) {
            self.attention.0 += loss * images;
            *self.wrong_attention.get_or_insert_default() += wrong;
        }
    }

    /// Counts a batch and gives its loss, which may not be a number.
    pub(crate) fn add(&mut self, output: &Output, loss: &Loss, labels: &[u32]) -> Result<f64> {
        let images = labels.len();
        // The losses are means over the batch, whose last one may be smaller.
        let sum = |loss: &Tensor| Ok::<_, candle_core::Error>(scalar(loss)? * images as f64);
        let total = sum(loss.total.value())?;
        self.images += images;
        self.loss.0 += total;
        self.perception.0 += sum(loss.perception.value())?;
        self.wrong += wrong(output.logits.value(), labels)?;
        if let (Some(attention), Some(loss)) = (&output.attention, &loss.attention) {
            self.attention.0 += sum(loss.value())?;
            *self.wrong_attention.get_or_insert_default() +=
                wrong(attention.logits.value(), labels)?;
        }
        Ok(total / images as f64)
    }

    /// What a GPU counted, of images whose number it does not know.
    pub(crate) fn metered(read: &Metered, attention: bool) -> Self {
        Self {
            wrong: read.wrong as usize,
            wrong_attention: attention.then_some(read.wrong_attention as usize),
            loss: Sum(read.total),
            perception: Sum(read.perception),
            attention: Sum(read.attention),
            ..Self::default()
        }
    }

    /// Counts images of which a GPU counts everything else.
    pub(crate) fn add_images(&mut self, images: usize, attention: bool) {
        self.images += images;
        if attention {
            self.wrong_attention.get_or_insert_default();
        }
    }

    /// Adds what was counted elsewhere.
    pub(crate) fn add_all(&mut self, other: &Self) {
        self.images += other.images;
        self.wrong += other.wrong;
        self.loss.0 += other.loss.0;
        self.perception.0 += other.perception.0;
        if let Some(wrong) = other.wrong_attention {
            self.attention.0 += other.attention.0;
            *self.wrong_attention.get_or_insert_default() += wrong;
        }
    }

    /// Forgets what was counted, but not whether there is an attention branch.
    pub(crate) fn clear(&mut self) {
        let wrong_attention = self.wrong_attention.map(|_| 0);
        *self = Self { wrong_attention, ..Self::of_tasks(self.tasks) };
    }

    /// What is counted, in numbers that can be added up; counts are exact. The attention branch's
    /// are below 0 if there is none.
    pub(crate) fn to_numbers(&self) -> [f64; 6] {
        let wrong = self.wrong_attention.map_or(-1.0, |wrong| wrong as f64);
        let sums = [self.loss.0, self.perception.0, self.attention.0];
        let [loss, perception, attention] = sums;
        [self.images as f64, self.wrong as f64, wrong, loss, perception, attention]
    }

    /// Takes over such numbers, in the order of [`to_numbers`](Self::to_numbers).
    pub(crate) fn set_numbers(&mut self, numbers: &[f64]) {
        if let &[images, wrong, wrong_attention, loss, perception, attention, ..] = numbers {
            self.images = images as usize;
            self.wrong = wrong as usize;
            self.wrong_attention = (wrong_attention >= 0.0).then_some(wrong_attention as usize);
            self.loss = Sum(loss);
            self.perception = Sum(perception);
            self.attention = Sum(attention);
        }
    }

    fn mean(&self, sum: f64) -> f64 {
        sum / self.images.max(1) as f64
    }

    /// Mean loss, both branches summed.
    pub fn loss(&self) -> f64 {
        self.mean(self.loss.0)
    }

    /// Mean loss of the perception branch.
    pub fn loss_perception(&self) -> f64 {
        self.mean(self.perception.0)
    }

    /// Mean loss of the attention branch, if there is one.
    pub fn loss_attention(&self) -> Option<f64> {
        self.wrong_attention.map(|_| self.mean(self.attention.0))
    }

    /// Top-1 error of the perception branch in percent, the mean over the tasks.
    pub fn error(&self) -> f64 {
        self.error_of(self.wrong)
    }

    fn error_of(&self, wrong: usize) -> f64 {
        self.mean(100.0 * wrong as f64) / self.tasks as f64
    }

    /// Top-1 error of the attention branch in percent, if there is one.
    pub fn error_attention(&self) -> Option<f64> {
        self.wrong_attention.map(|wrong| self.error_of(wrong))
    }
}

fn scalar(tensor: &Tensor) -> candle_core::Result<f64> {
    Ok(f64::from(tensor.to_scalar::<f32>()?))
}

/// How many rows of scores do not have their highest (the first of equals) at the label.
fn wrong(logits: &Tensor, labels: &[u32]) -> Result<usize> {
    let rows = logits.to_vec2::<f32>()?;
    Ok(rows.iter().zip(labels).filter(|(row, label)| highest(row) != **label as usize).count())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_read_back_exactly() {
        let tally = Tally {
            images: 7,
            tasks: 1,
            wrong: 2,
            wrong_attention: Some(3),
            loss: Sum(0.1 + 0.2),
            perception: Sum(1.0 / 3.0),
            attention: Sum(1e-17),
        };
        let text = serde_json::to_string(&tally).unwrap();
        assert_eq!(serde_json::from_str::<Tally>(&text).unwrap(), tally);
        let mut same = Tally::default();
        same.set_numbers(&tally.to_numbers());
        assert_eq!(same, tally);
        let mut sum = Tally::default();
        sum.add_all(&tally);
        assert_eq!(sum, tally);
        assert_eq!(tally.error(), 200.0 / 7.0);
    }
}
