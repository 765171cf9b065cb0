//! Whether a map tells what the network's answer rests on.
//!
//! - *Deletion* and *insertion* (Petsiuk, Das and Saenko, "RISE", BMVC 2018): pixels are taken away,
//!   or given back, from the map's highest value to its lowest, and the probability of the class is
//!   followed. A faithful map makes it fall early (low area under the curve) and rise early (high area).
//! - *ROAD* (Rong et al., "A Consistent and Efficient Evaluation Strategy for Attribution Methods",
//!   ICML 2022): pixels are taken away most relevant first, and least relevant first, and filled in from
//!   their neighbours, so that neither the hole's shape nor a grey patch tells what was there.
//! - The *pointing game* (Zhang et al., "Top-Down Neural Attention by Excitation Backprop", IJCV 2018):
//!   whether the highest point of the map lies in the object's box.
//!
//! None means anything by itself: a network answers to holes as such. Compare with
//! [`RandomMap`](crate::RandomMap) on the same images.
//!
//! ```
//! use abn_backbones::{BuildOptions, Variant, find};
//! use abn_core::ParamStore;
//! use abn_explain::faithfulness::{Faithfulness, Mean};
//! use abn_explain::{Explain, GradCam};
//! use candle_core::{DType, Device, Tensor};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let params = ParamStore::new(0, DType::F32, Device::Cpu);
//! let model = find("resnet8")?.build(Variant::Baseline, &BuildOptions::new(10), params.var_builder())?;
//! let images = Tensor::ones((2, 3, 32, 32), DType::F32, &Device::Cpu)?;
//!
//! let maps = GradCam::default().maps(&*model, &images, &[3, 8])?;
//! let curves = Faithfulness::default().curves(&*model, &images, &[3, 8], &maps)?;
//! let deletion: Vec<_> = curves.iter().map(|curves| curves.deletion_area()).collect();
//! let Mean { mean, half_width, .. } = Mean::of(&deletion); // mean ± half_width, 95 %
//! # assert!(mean.is_finite() && half_width >= 0.0);
//! # Ok(())
//! # }
//! ```

mod fill;
mod impute;
mod interval;
mod order;
mod pointing;
mod summary;
#[cfg(test)]
mod tests;

use abn_core::{Classifier, Mode};
use abn_ops::{Tracked, no_grad};
use candle_core::{DType, Tensor};
use rayon::prelude::*;

pub use interval::Mean;
pub use pointing::{Hits, Marks, Region, peaks};
pub use summary::{Score, Summary, Verdict};

use crate::{Error, Explain, Result, resize, target};

/// How faithfulness is measured.
#[derive(Clone, Debug, PartialEq)]
pub struct Faithfulness {
    /// Steps of the deletion and insertion curves: each takes 1/`steps` of the pixels. Default: 16.
    pub steps: usize,
    /// Standard deviation of the Gaussian blur that insertion starts from, as a share of the image's
    /// side. Default: 1/8. (RISE: a kernel of 11 pixels at 224, which leaves much to be recognised
    /// in a small image.)
    pub blur: f64,
    /// Shares of the pixels that ROAD removes, each above 0 and below 1. Empty: no ROAD. Default:
    /// 0.1, 0.3, 0.5, 0.7, 0.9.
    pub removed: Vec<f64>,
    /// Standard deviation of the noise that ROAD adds to what it fills in, in units of the
    /// normalised image. Default: 0.01, as in the paper's code.
    pub noise: f64,
    /// Images that go through the network at a time. Default: 64.
    pub batch: usize,
}

impl Default for Faithfulness {
    fn default() -> Self {
        let removed = vec![0.1, 0.3, 0.5, 0.7, 0.9];
        Self { steps: 16, blur: 0.125, removed, noise: 0.01, batch: 64 }
    }
}

/// How the probability of an image's class changes with what the network sees.
#[derive(Clone, Debug, PartialEq)]
pub struct Curves {
    /// With 0, 1/s, …, 1 of the pixels replaced by 0 (the mean of the training images, as inputs are
    /// normalised), those highest in the map first.
    pub deletion: Vec<f64>,
    /// With 0, 1/s, …, 1 of the pixels as they are, those highest in the map first, and the others blurred.
    pub insertion: Vec<f64>,
    /// For each share that ROAD removes, those highest in the map removed (MoRF).
    pub most_removed: Vec<f64>,
    /// For each share that ROAD removes, those lowest in the map removed (LeRF).
    pub least_removed: Vec<f64>,
}

/// Area under evenly spaced values over 0 to 1, by trapezia.
fn area(curve: &[f64]) -> f64 {
    let ends = curve.first().zip(curve.last()).map_or(0.0, |(first, last)| (first + last) / 2.0);
    (curve.iter().sum::<f64>() - ends) / curve.len().saturating_sub(1).max(1) as f64
}

impl Curves {
    /// Area under the deletion curve, 0 to 1; lower is better.
    pub fn deletion_area(&self) -> f64 {
        area(&self.deletion)
    }

    /// Area under the insertion curve, 0 to 1; higher is better.
    pub fn insertion_area(&self) -> f64 {
        area(&self.insertion)
    }

    /// ROAD in one number: half of what the least relevant pixels leave over what the most relevant
    /// leave, averaged over the shares; −½ to ½, higher is better, a random map is at 0. The
    /// `grad-cam` package's `ROADCombined`. `None` without shares.
    pub fn road(&self) -> Option<f64> {
        let sum: f64 = self.least_removed.iter().zip(&self.most_removed).map(|(l, m)| l - m).sum();
        let count = self.most_removed.len();
        (count > 0).then(|| sum / (2 * count) as f64)
    }
}

impl Faithfulness {
    /// Curves for each image, of maps for the classes given.
    ///
    /// Maps are enlarged to the images' size ([`resize::bilinear`]) first. Pixels of equal value come
    /// in one fixed random order, so a constant map is a random one.
    ///
    /// # Shapes
    /// `images` (N, 3, H, W) as the model takes them, N `classes`, `maps` (N, h, w).
    ///
    /// # Errors
    /// If the counts differ, a class is not the model's, a map has values that are no numbers, or a
    /// setting is out of range.
    pub fn curves(
        &self,
        model: &dyn Classifier,
        images: &Tensor,
        classes: &[u32],
        maps: &Tensor,
    ) -> Result<Vec<Curves>> {
        self.check()?;
        target::check(images, classes)?;
        let (n, channels, height, width) = images.dims4()?;
        if maps.dims3()?.0 != n {
            return Err(Error::Measure(format!("{} maps for {n} images", maps.dims3()?.0)));
        }
        let maps = resize::bilinear(&maps.to_dtype(DType::F32)?, height, width)?;
        let maps = maps.flatten_from(1)?.to_vec2::<f32>()?;
        if let Some(image) = maps.iter().position(|map| map.iter().any(|v| v.is_nan())) {
            return Err(Error::Measure(format!("the map of image {image} has no numbers")));
        }
        let ties = order::ties(height * width);
        let pixels = images.to_dtype(DType::F32)?.flatten_from(1)?.to_vec2::<f32>()?;
        let shape = fill::Shape { channels, height, width };
        let mut curves = Vec::with_capacity(n);
        // A few images at a time: each becomes dozens.
        let at_a_time = (PIXELS / (height * width).max(1)).clamp(1, 8);
        for first in (0..n).step_by(at_a_time) {
            let chunk = first..(first + at_a_time).min(n);
            let variants: Vec<_> = chunk
                .clone()
                .into_par_iter()
                .map(|i| self.variants(shape, &pixels[i], &order::descending(&maps[i], &ties)))
                .collect();
            let classes: Vec<_> = chunk
                .flat_map(|image| std::iter::repeat_n(classes[image], self.variants_each()))
                .collect();
            let variants: Vec<_> = variants.into_iter().flatten().collect();
            let found = self.probabilities(model, images, shape, &variants, &classes)?;
            curves.extend(found.chunks_exact(self.variants_each()).map(|of| self.sorted(of)));
        }
        Ok(curves)
    }

    /// Curves of a method on images, one class each: [`Explain::maps`] and [`Faithfulness::curves`].
    ///
    /// # Errors
    /// As these.
    pub fn of(
        &self,
        explain: &dyn Explain,
        model: &dyn Classifier,
        images: &Tensor,
        classes: &[u32],
    ) -> Result<Vec<Curves>> {
        let mut curves = Vec::new();
        for (index, classes) in classes.chunks(self.batch.max(1)).enumerate() {
            let images = images.narrow(0, index * self.batch, classes.len())?;
            let maps = explain.maps(model, &images, classes)?;
            curves.extend(self.curves(model, &images, classes, &maps)?);
        }
        Ok(curves)
    }

    fn check(&self) -> Result<()> {
        let refuse = |what: String| Err(Error::Measure(what));
        let Self { steps, blur, noise, batch, removed } = self;
        match (steps, batch) {
            (0, _) => return refuse("curves need a step or more".into()),
            (_, 0) => return refuse("a batch needs an image or more".into()),
            _ => {}
        }
        if !(*blur > 0.0 && blur.is_finite() && *noise >= 0.0 && noise.is_finite()) {
            return refuse(format!("blur {blur} must be above 0, noise {noise} not below"));
        }
        match removed.iter().find(|share| !(**share > 0.0 && **share < 1.0)) {
            Some(share) => {
                refuse(format!("a share of {share} to remove; expected 0 to 1, without both"))
            }
            None => Ok(()),
        }
    }

    /// The image, `steps` of deletion, `steps` of insertion, and twice the shares of ROAD.
    fn variants_each(&self) -> usize {
        1 + 2 * self.steps + 2 * self.removed.len()
    }

    fn variants(&self, shape: fill::Shape, image: &[f32], order: &[u32]) -> Vec<Vec<f32>> {
        let count = |share: f64| (share * order.len() as f64).round() as usize;
        let steps = (0..=self.steps).map(|step| count(step as f64 / self.steps as f64));
        let steps: Vec<_> = steps.collect();
        let blurred = fill::blurred(shape, image, self.blur);
        let mut variants = vec![image.to_vec()];
        let mut seen = image.to_vec();
        for pair in steps.windows(2) {
            fill::replace(shape, &mut seen, &order[pair[0]..pair[1]], |_| 0.0);
            variants.push(seen.clone());
        }
        seen.clone_from(&blurred);
        for pair in steps.windows(2) {
            variants.push(seen.clone());
            fill::replace(shape, &mut seen, &order[pair[0]..pair[1]], |place| image[place]);
        }
        let shares = || self.removed.iter().map(|&share| count(share).min(order.len() - 1));
        let most = shares().map(|gone| &order[..gone]);
        let gone: Vec<_> = most.chain(shares().map(|gone| &order[order.len() - gone..])).collect();
        let imputed = |gone: &&[u32]| impute::noisy_linear(shape, image, gone, self.noise);
        variants.par_extend(gone.par_iter().map(imputed));
        variants
    }

    /// The inverse of [`variants`](Self::variants): what was said of them, to curves.
    fn sorted(&self, of: &[f64]) -> Curves {
        let (steps, shares) = (self.steps, self.removed.len());
        let (whole, deleted, rest) = (of[0], &of[1..=steps], &of[1 + steps..]);
        let (inserted, rest) = rest.split_at(steps);
        Curves {
            deletion: [&[whole], deleted].concat(),
            insertion: [inserted, &[whole]].concat(),
            most_removed: rest[..shares].to_vec(),
            least_removed: rest[shares..].to_vec(),
        }
    }

    /// Probability of each variant's class.
    fn probabilities(
        &self,
        model: &dyn Classifier,
        like: &Tensor,
        shape: fill::Shape,
        variants: &[Vec<f32>],
        classes: &[u32],
    ) -> Result<Vec<f64>> {
        let fill::Shape { channels, height, width } = shape;
        let mut found = Vec::with_capacity(variants.len());
        for (variants, classes) in variants.chunks(self.batch).zip(classes.chunks(self.batch)) {
            let batch = Tensor::from_vec(
                variants.concat(),
                (variants.len(), channels, height, width),
                like.device(),
            )?;
            let images = Tracked::constant(batch.to_dtype(like.dtype())?);
            let output = no_grad(|| model.forward(&images, Mode::Eval))?;
            let probabilities = abn_ops::softmax(output.logits.value())?.to_dtype(DType::F64)?;
            for (row, &class) in probabilities.to_vec2::<f64>()?.iter().zip(classes) {
                let count = row.len();
                found.push(*row.get(class as usize).ok_or(Error::Class { class, count })?);
            }
        }
        Ok(found)
    }
}

/// Pixels of images whose variants are in memory at a time.
const PIXELS: usize = 200_000;
