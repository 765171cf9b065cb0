//! What the methods show of the same test images.

use abn_data::Sample;
use abn_explain::Method;
use abn_explain::pictures::{Caption, Panel, Shown, Style, View, png};
use abn_train::explain::picture;
use abn_train::report::page::Picture;
use anyhow::Result;
use candle_core::Tensor;
use serde::Serialize;

use super::Row;
use super::network::{Asked, Network};

/// Side of a picture, at least.
const SIDE: u32 = 128;

/// The panels of a network.
#[derive(Clone, Debug, Serialize)]
pub struct Panels {
    /// The network whose answers stand below them.
    pub network: String,
    /// What is beside the image, from left to right.
    pub methods: Vec<String>,
    /// One for each image.
    pub images: Vec<Image>,
}

/// A test image and its answer.
#[derive(Clone, Debug, Serialize)]
pub struct Image {
    /// Position in the test set.
    pub index: usize,
    /// The true class.
    pub truth: String,
    /// The answer.
    pub predicted: String,
    /// Its probability.
    pub probability: f32,
}

/// The panels of a row's ABN, or of its first network where that is missing.
///
/// Where the ABN has no CAM, for more than a linear layer follows its last feature map, the row's CAM
/// network shows its own, for the class that the ABN answers.
pub fn draw(row: &Row, samples: &[(usize, Sample)]) -> Result<Option<(Panels, Vec<Picture>)>> {
    let Some(network) = row.column("abn").or(row.networks.first().map(|(_, network)| network))
    else {
        return Ok(None);
    };
    let images: Vec<_> = samples.iter().map(|(_, sample)| sample.clone()).collect();
    let asked = network.ask(&images)?;
    let mut views = Vec::new();
    for (name, method) in network.methods() {
        views.push((name.to_owned(), explained(network, method, &asked)?));
    }
    if let Some(cam) = row.column("cam").filter(|_| network.run.model.class_weights().is_none()) {
        let inputs = cam.ask(&images)?.inputs;
        let asked = Asked { inputs, ..asked.clone() };
        // Before guided backprop, as in the others.
        let place = views.len().saturating_sub(1);
        views.insert(place, ("CAM (CAM net)".to_owned(), explained(cam, Method::Cam, &asked)?));
    }
    let classes = &network.run.card.classes;
    let (mut told, mut pictures) = (Vec::new(), Vec::new());
    for (i, (index, sample)) in samples.iter().enumerate() {
        let answer = asked.answers[i] as usize;
        let (truth, predicted) = (&classes[sample.label() as usize], &classes[answer]);
        let probability = asked.probabilities[i][answer];
        let of_truth = asked.probabilities[i][sample.label() as usize];
        let panel = Panel {
            image: picture(&sample.image)?,
            views: views
                .iter()
                .map(|(title, shown)| View { title: title.clone(), shown: shown[i].clone() })
                .collect(),
            caption: Caption::new(predicted, probability).truth(truth, of_truth),
        };
        let right = answer == sample.label() as usize;
        let percent = 100.0 * probability;
        let mut flat = String::new();
        for View { title, shown } in &panel.views {
            if shown.is_flat() {
                flat += &format!(" · {title} is flat");
            }
        }
        pictures.push(Picture {
            png: png(&panel.tiles(&Style { side: SIDE, ..Style::default() }))?,
            alt: format!("a test image ({truth}) and where {} looked", network.name),
            caption: match right {
                true => format!("{truth} ·\u{a0}{percent:.0}\u{a0}%{flat}"),
                false => format!("{truth}, taken for {predicted} ·\u{a0}{percent:.0}\u{a0}%{flat}"),
            },
            right,
        });
        let (truth, predicted) = (truth.clone(), predicted.clone());
        told.push(Image { index: *index, truth, predicted, probability });
    }
    let methods = views.into_iter().map(|(title, _)| title).collect();
    Ok(Some((Panels { network: network.name.clone(), methods, images: told }, pictures)))
}

/// What a method shows of each image, for the answers.
fn explained(network: &Network, method: Method, asked: &Asked) -> Result<Vec<Shown>> {
    let explain = method.explainer();
    let explained = explain.explain(&*network.run.model, &asked.inputs, &asked.answers)?;
    let shown = |index| Ok(Shown::new(&explained, index, asked.reaches[index])?);
    (0..asked.answers.len()).map(shown).collect()
}

/// The rows of these images in a batch.
pub fn rows(inputs: &Tensor, which: &[usize]) -> Result<Tensor> {
    let index: Vec<_> = which.iter().map(|&i| i as u32).collect();
    Ok(inputs.index_select(&Tensor::new(index, inputs.device())?, 0)?)
}
