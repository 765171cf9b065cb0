//! The gradient of one optimizer step, computed in as many parts as the recipe says.

use std::mem;

use abn_data::Batch;
use candle_core::backprop::GradStore;

use crate::Result;
use crate::network::Network;
use crate::tally::Tally;

/// A step in progress.
#[derive(Default)]
pub(crate) struct Step {
    /// Sum over the parts so far.
    gradients: GradStore,
    images: usize,
    parts: u64,
}

impl Step {
    /// Takes in the next part of a step of `whole` images and gives the part's mean loss. One
    /// that is no number adds nothing.
    ///
    /// `seed` is the step's; batch norm sees the part.
    pub fn add(
        &mut self,
        model: &Network,
        part: Batch,
        whole: usize,
        seed: u64,
        smoothing: f64,
        tally: &mut Tally,
    ) -> Result<f64> {
        // The first part has the seed of a step that is not in parts.
        let seed = if self.parts == 0 { seed } else { absorb(seed, self.parts) };
        // The mean over the step's images is that of its parts, each by its share of them.
        let images = part.indices.len();
        let share = images as f32 / whole as f32;
        let mean = model.train(part, seed, smoothing, share, &mut self.gradients, tally)?;
        if !mean.is_finite() {
            return Ok(mean);
        }
        self.images += images;
        self.parts += 1;
        Ok(mean)
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
    fn batch(range: std::ops::Range<usize>) -> Batch {
        let pixel = |i: usize| ((i * 37 % 101) as f32 - 50.0) / 25.0;
        Batch {
            images: range.clone().flat_map(|n| (0..12).map(move |i| pixel(n * 12 + i))).collect(),
            labels: range.clone().map(|n| (n * 5 % 3) as u32).collect(),
            tasks: 1,
            shape: [range.len(), 3, 2, 2],
            indices: range.collect(),
        }
    }

    #[test]
    fn the_gradient_of_the_parts_is_that_of_the_whole() {
        let weights: Vec<f32> = (0..36).map(|i| (i * 29 % 17) as f32 / 40.0 - 0.2).collect();
        let weight =
            Var::from_tensor(&Tensor::from_vec(weights, (3, 12), &Device::Cpu).unwrap()).unwrap();
        let model = Network::Classes(Box::new(Linear(weight.clone())));
        let gradient = |parts: &[std::ops::Range<usize>]| {
            let (mut step, mut tally) = (Step::default(), Tally::default());
            for part in parts {
                assert!(step.finished(7).is_none(), "{parts:?} are not whole yet");
                step.add(&model, batch(part.clone()), 7, 1, 0.1, &mut tally).unwrap();
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
}
