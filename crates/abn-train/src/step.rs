//! The gradient of one optimizer step, computed in as many parts as the recipe says.

use std::mem;
use std::sync::Arc;

use abn_ops::{Across, Meter, synchronised};
use candle_core::backprop::GradStore;
use candle_core::{Device, Tensor};

use crate::Result;
use crate::network::{Network, Pass};
use crate::parallel::Gradients;
use crate::part::Part;
use crate::tally::Tally;

/// Black images, of share 0, that keep a process in step that has none of its own in a part: enough for
/// batch norm.
const STAND_INS: usize = 2;

/// A step in progress.
#[derive(Default)]
pub(crate) struct Step {
    /// Sum over the parts so far.
    gradients: GradStore,
    /// Images of all processes so far.
    images: usize,
    parts: u64,
}

/// What a step is computed on, and how.
pub(crate) struct Task<'a> {
    pub model: &'a Network,
    pub device: &'a Device,
    /// Images of the step, over all processes.
    pub whole: usize,
    /// Of them those of one part.
    pub part: usize,
    /// The step's.
    pub seed: u64,
    pub smoothing: f64,
    /// This process's number.
    pub rank: usize,
    /// Whom batch norm shares a part with, if it does; told whether this process's images count.
    pub statistics: &'a (dyn Fn(bool) -> Option<Arc<dyn Across>> + Sync),
    /// What counts the step on a GPU.
    pub meter: Option<&'a Meter>,
    /// The way of the gradients to other processes, if there are any.
    pub others: Option<&'a mut Gradients>,
}

impl Step {
    /// Takes in this process's images of the step's next part, and counts them. A loss that is no
    /// number gives gradients that are none.
    ///
    /// Without [`Task::statistics`], batch norm sees this process's images of the part.
    pub fn add(&mut self, task: &mut Task, part: Part, tally: &mut Tally) -> Result<()> {
        let seed = part_seed(task.seed, self.parts, task.rank);
        // The mean over the step's images is that of its parts, each by its share of them.
        let images = part.len();
        let share = images as f32 / task.whole as f32;
        self.images += task.part.min(task.whole - self.images);
        self.parts += 1;
        let part = if images == 0 { part.stand_ins(STAND_INS)? } else { part };
        let mut others = task.others.as_mut().filter(|_| self.images >= task.whole);
        let mut complete = |parameter: &Tensor, store: &mut GradStore| {
            if let Some(others) = &mut others {
                others.complete(parameter, store);
            }
        };
        let (device, smoothing, meter) = (task.device, task.smoothing, task.meter);
        let pass = Pass { device, seed, smoothing, share, meter };
        let gradients = &mut self.gradients;
        let train = || task.model.train(part, &pass, gradients, tally, &mut complete);
        match (task.statistics)(images > 0) {
            Some(across) => synchronised(across, train),
            None => train(),
        }?;
        if images == 0 {
            tally.clear();
        }
        Ok(())
    }

    /// A step of so many images, of which the gradient is known.
    pub fn known(gradients: GradStore, images: usize) -> Self {
        Self { gradients, images, parts: 1 }
    }

    /// The step's gradient, once it has all its `whole` images; the next step begins.
    pub fn finished(&mut self, whole: usize) -> Option<GradStore> {
        (self.images >= whole).then(|| mem::take(self).gradients)
    }
}

/// Seed of a step's dropout masks.
pub(crate) fn step_seed(seed: u64, epoch: u64, step: u64) -> u64 {
    [seed, epoch, step].into_iter().fold(0, absorb)
}

/// Seed of the dropout masks of a process's part of a step, by the step's seed and the part's number. The first part
/// has that of a step that is not in parts, the first process that of one that is alone.
pub(crate) fn part_seed(seed: u64, part: u64, rank: usize) -> u64 {
    let seed = if part == 0 { seed } else { absorb(seed, part) };
    if rank == 0 { seed } else { absorb(seed, u64::MAX - rank as u64) }
}

/// splitmix64's finaliser, once for each number.
fn absorb(state: u64, number: u64) -> u64 {
    let z = state.wrapping_add(0x9e37_79b9_7f4a_7c15) ^ number;
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use abn_core::{Classifier, Features, Mode};
    use abn_ops::Tracked;
    use candle_core::{Device, Tensor, Var};

    use super::*;

    #[test]
    fn every_step_has_its_own_seed() {
        let seeds: BTreeSet<_> = (0..4u64)
            .flat_map(|seed| {
                (0..4).flat_map(move |epoch| (0..4).map(move |step| step_seed(seed, epoch, step)))
            })
            .collect();
        assert_eq!(seeds.len(), 64);
    }

    /// One linear layer over the pixels; what a part gives does not depend on the others.
    struct Linear(Var);

    impl Classifier for Linear {
        fn features(&self, image: &Tracked, _: Mode) -> abn_core::Result<Features> {
            Ok(Features { last: image.clone(), attention: None })
        }

        fn classify(&self, last: &Tracked, _: Mode) -> abn_core::Result<Tracked> {
            let pixels = abn_ops::reshape(last, (last.dims()[0], 12))?;
            let weight = Tracked::parameter(self.0.as_tensor().clone());
            Ok(abn_ops::linear(&pixels, &weight, None)?)
        }

        fn class_weights(&self) -> Option<&Tensor> {
            None
        }
    }

    /// Images `range` of a batch.
    fn part(range: std::ops::Range<usize>) -> Part {
        let pixel = |i: usize| ((i * 37 % 101) as f32 - 50.0) / 25.0;
        let batch = abn_data::Batch {
            images: range.clone().flat_map(|n| (0..12).map(move |i| pixel(n * 12 + i))).collect(),
            labels: range.clone().map(|n| (n * 5 % 3) as u32).collect(),
            tasks: 1,
            shape: [range.len(), 3, 2, 2],
            indices: range.collect(),
        };
        Part::new(batch, &Device::Cpu).unwrap()
    }

    /// A step of seven images.
    fn task(model: &Network, rank: usize, part: usize) -> Task<'_> {
        Task {
            model,
            device: &Device::Cpu,
            whole: 7,
            part,
            seed: 1,
            smoothing: 0.1,
            rank,
            statistics: &|_| None,
            meter: None,
            others: None,
        }
    }

    fn linear() -> (Network, Var) {
        let weights: Vec<f32> = (0..36).map(|i| (i * 29 % 17) as f32 / 40.0 - 0.2).collect();
        let weight =
            Var::from_tensor(&Tensor::from_vec(weights, (3, 12), &Device::Cpu).unwrap()).unwrap();
        (Network::Classes(Box::new(Linear(weight.clone()))), weight)
    }

    #[test]
    fn the_gradient_of_the_parts_is_that_of_the_whole() {
        let (model, weight) = linear();
        let gradient = |parts: &[std::ops::Range<usize>]| {
            let (mut step, mut tally) = (Step::default(), Tally::default());
            for part in parts {
                assert!(step.finished(7).is_none(), "{parts:?} are not whole yet");
                step.add(&mut task(&model, 0, part.len()), self::part(part.clone()), &mut tally)
                    .unwrap();
            }
            let gradients = step.finished(7).expect("the parts are the whole");
            assert!(step.finished(7).is_none(), "the next step has begun");
            let gradient = gradients.get(&weight).unwrap().flatten_all().unwrap();
            (gradient.to_vec1::<f32>().unwrap(), tally)
        };
        let (whole, tally) = gradient(std::slice::from_ref(&(0..7)));
        assert!(whole.iter().any(|g| g.abs() > 0.1), "{whole:?}");
        for parts in [vec![0..4, 4..7], vec![0..3, 3..6, 6..7], (0..7).map(|n| n..n + 1).collect()]
        {
            let (sum, summed) = gradient(&parts);
            for (sum, whole) in sum.iter().zip(&whole) {
                assert!((sum - whole).abs() < 1e-6, "{parts:?}: {sum} against {whole}");
            }
            assert_eq!((summed.images, summed.wrong), (tally.images, tally.wrong));
            assert!((summed.loss() - tally.loss()).abs() < 1e-6);
        }
    }
    #[test]
    fn processes_without_images_add_nothing() {
        let (model, weight) = linear();
        let shares = [0..4, 4..7, 7..7];
        let steps = shares.clone().map(|images| {
            let (mut step, mut tally) = (Step::default(), Tally::default());
            step.add(&mut task(&model, 1, 7), part(images), &mut tally).unwrap();
            let gradients = step.finished(7).expect("everybody's images are the step's");
            (
                gradients.get(&weight).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap(),
                tally,
            )
        });
        let [first, second, none] = &steps;
        assert!(none.0.iter().all(|&g| g == 0.0), "{:?}", none.0);
        assert_eq!(none.1, Tally::default());
        let (mut step, mut tally) = (Step::default(), Tally::default());
        step.add(&mut task(&model, 0, 7), part(0..7), &mut tally).unwrap();
        let whole = step.finished(7).unwrap();
        let whole = whole.get(&weight).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
        for ((whole, a), b) in whole.iter().zip(&first.0).zip(&second.0) {
            assert!((whole - (a + b)).abs() < 1e-6, "{whole} against {a} + {b}");
        }
        assert_eq!(first.1.images + second.1.images, tally.images);
    }
}
