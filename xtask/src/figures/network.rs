//! A trained network, and what is asked of it.

use std::collections::BTreeSet;
use std::path::Path;

use abn_backbones::Variant;
use abn_core::{Features, Mode};
use abn_data::Sample;
use abn_explain::pictures::Reach;
use abn_explain::{Explain, Method, RandomMap};
use abn_ops::{Tracked, no_grad};
use abn_train::{Run, RunFolder};
use anyhow::Result;
use candle_core::{Device, Tensor};

/// Images that go through a network at a time.
const BATCH: usize = 64;

/// A trained network by its name on the page.
pub struct Network {
    /// Family, variant, dataset.
    pub name: String,
    /// The network as its last epoch left it, which is what tables report.
    pub run: Run,
}

/// Images and what a network says of them.
#[derive(Clone)]
pub struct Asked {
    /// As the network takes them (N, 3, H, W).
    pub inputs: Tensor,
    /// The likeliest class of each.
    pub answers: Vec<u32>,
    /// Probability of each class.
    pub probabilities: Vec<Vec<f32>>,
    /// How far what the network sees reaches over each image.
    pub reaches: Vec<Reach>,
}

/// A method's maps of a batch.
pub struct Mapped {
    /// The method's name on the page.
    pub method: String,
    /// Its maps (N, h, w).
    pub maps: Tensor,
    /// Name of the random map of the same grain; random maps have none.
    pub control: Option<String>,
}

impl Network {
    /// Opens a finished run on a device.
    pub fn open(name: &str, folder: &Path, device: &Device) -> Result<Self> {
        let run = Run::open_on(&RunFolder::new(folder).last(), device)?;
        Ok(Self { name: name.to_owned(), run })
    }

    /// Asks for the class of each image.
    pub fn ask(&self, samples: &[Sample]) -> Result<Asked> {
        let (inputs, reaches) = self.run.inputs(samples.iter().map(|sample| &sample.image))?;
        let mut asked = Asked { inputs, answers: Vec::new(), probabilities: Vec::new(), reaches };
        let model = &self.run.model;
        for images in batches(&asked.inputs)? {
            let output = no_grad(|| model.forward(&Tracked::constant(images), Mode::Eval))?;
            for row in abn_ops::softmax(output.logits.value())?.to_vec2::<f32>()? {
                // Of equals the first, as in `abn eval`.
                let best = (0..row.len()).rev().max_by(|&a, &b| row[a].total_cmp(&row[b]));
                asked.answers.push(best.unwrap_or(0) as u32);
                asked.probabilities.push(row);
            }
        }
        Ok(asked)
    }

    /// The last feature map of each image, its channels averaged over its pixels: what the last
    /// linear layer sees, in networks that have only one.
    pub fn features(&self, inputs: &Tensor) -> Result<Vec<Vec<f32>>> {
        let mut rows = Vec::new();
        for images in batches(inputs)? {
            let features =
                no_grad(|| self.run.model.features(&Tracked::constant(images), Mode::Eval))?;
            let Features { last, .. } = features;
            rows.extend(last.value().mean((1, 2))?.to_vec2::<f32>()?);
        }
        Ok(rows)
    }

    /// The methods of the figures that this network has, by their names on the page.
    pub fn methods(&self) -> Vec<(&'static str, Method)> {
        let mut methods = vec![
            ("ABN attention", Method::Attention),
            ("Grad-CAM", Method::GradCam),
            ("CAM", Method::Cam),
            ("guided backprop", Method::GuidedBackprop),
        ];
        methods.retain(|(_, method)| match method {
            Method::Attention => self.run.recipe.variant == Variant::Abn,
            Method::Cam => self.run.model.class_weights().is_some(),
            _ => true,
        });
        methods
    }

    /// The maps of each method for these classes, and random maps of each grain that there is.
    pub fn maps(&self, inputs: &Tensor, classes: &[u32]) -> Result<Vec<Mapped>> {
        let (mut found, mut grains) = (Vec::new(), BTreeSet::new());
        for (name, method) in self.methods() {
            let maps = self.maps_of(&*method.explainer(), inputs, classes)?;
            let (_, h, w) = maps.dims3()?;
            grains.insert((h, w));
            found.push(Mapped { method: name.to_owned(), maps, control: Some(random(h, w)) });
        }
        for (h, w) in grains {
            let maps = self.maps_of(&RandomMap::coarse(h, w), inputs, classes)?;
            found.push(Mapped { method: random(h, w), maps, control: None });
        }
        Ok(found)
    }

    fn maps_of(&self, explain: &dyn Explain, inputs: &Tensor, classes: &[u32]) -> Result<Tensor> {
        let mut maps = Vec::new();
        for (images, classes) in batches(inputs)?.into_iter().zip(classes.chunks(BATCH)) {
            maps.push(explain.maps(&*self.run.model, &images, classes)?);
        }
        Ok(Tensor::cat(&maps, 0)?)
    }
}

/// Name of a random map.
fn random(h: usize, w: usize) -> String {
    format!("random, {h}×{w}")
}

fn batches(inputs: &Tensor) -> Result<Vec<Tensor>> {
    let count = inputs.dims4()?.0;
    let batch = |first: usize| Ok(inputs.narrow(0, first, BATCH.min(count - first))?);
    (0..count).step_by(BATCH).map(batch).collect()
}
