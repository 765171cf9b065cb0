//! Test images with the answers they got, and where the network looked.

use abn_backbones::Variant;
use abn_core::{Classifier, Mode};
use abn_data::Dataset;
use abn_explain::Method;
use abn_explain::pictures::{Caption, Panel, Shown, Style, View, png};
use abn_ops::{Tracked, no_grad};
use candle_core::Device;
use image::RgbImage;

use super::page::Picture;
use crate::evaluation::{Answer, highest};
use crate::{Card, Result, explain};

/// Images that go through the network at a time.
const BATCH: usize = 32;
/// Pictures of a page have this many pixels to twice as many: see [`Style::side`].
const SIDE: u32 = 112;

/// A test image, the answer it got, and where the network looked.
pub struct Look {
    /// Position in the dataset.
    pub index: usize,
    /// The image.
    pub image: RgbImage,
    /// Its true class.
    pub label: usize,
    /// The answer.
    pub predicted: usize,
    /// Probability of each class.
    pub probabilities: Vec<f32>,
    /// What the method shows of the answer.
    pub view: View,
}

/// What shows where this network looks: the attention map of an ABN, Grad-CAM of any other.
pub fn method_for(variant: Variant) -> Method {
    match variant {
        Variant::Abn => Method::Attention,
        // A control has a map, but one that is the same everywhere.
        _ => Method::GradCam,
    }
}

/// Asks a network, which is on `device`, for these images of a dataset, and a method for where it looked for its answers.
///
/// # Errors
/// If an image cannot be had, or the network lacks what the method needs.
pub fn look(
    model: &dyn Classifier,
    card: &Card,
    device: &Device,
    data: &dyn Dataset,
    indices: &[usize],
    method: Method,
) -> Result<Vec<Look>> {
    let explainer = method.explainer();
    let mut looks = Vec::with_capacity(indices.len());
    for indices in indices.chunks(BATCH) {
        let samples = indices.iter().map(|&index| data.get(index));
        let samples = samples.collect::<abn_data::Result<Vec<_>>>()?;
        let (inputs, reaches) = card.inputs(samples.iter().map(|sample| &sample.image))?;
        let inputs = inputs.to_device(device)?;
        let image = Tracked::constant(inputs.clone());
        let output = no_grad(|| model.forward(&image, Mode::Eval))?;
        let scores = output.logits.value().to_vec2::<f32>()?;
        let predicted: Vec<_> = scores.iter().map(|scores| highest(scores)).collect();
        let classes: Vec<_> = predicted.iter().map(|&class| class as u32).collect();
        let explained = explainer.explain(model, &inputs, &classes)?;
        let probabilities = abn_ops::softmax(output.logits.value())?.to_vec2::<f32>()?;
        for (i, (sample, probabilities)) in samples.iter().zip(probabilities).enumerate() {
            let shown = Shown::new(&explained, i, reaches[i])?;
            looks.push(Look {
                index: indices[i],
                image: explain::picture(&sample.image)?,
                label: sample.label() as usize,
                predicted: predicted[i],
                probabilities,
                view: View { title: method.to_string(), shown },
            });
        }
    }
    Ok(looks)
}

impl Look {
    /// Whether the answer is right.
    pub fn is_right(&self) -> bool {
        self.predicted == self.label
    }

    /// The image, the method's picture and the answer, in the words of these classes.
    pub fn panel(&self, classes: &[String]) -> Panel {
        let of = |class: usize| (name(classes, class), self.probability(class));
        let ((predicted, probability), (truth, its)) = (of(self.predicted), of(self.label));
        let caption = Caption::new(&predicted, probability).truth(&truth, its);
        Panel { image: self.image.clone(), views: vec![self.view.clone()], caption }
    }

    /// For a page's gallery: the image beside the method's picture, the answer as its text.
    ///
    /// # Errors
    /// If the picture cannot be written as PNG.
    pub fn picture(&self, classes: &[String]) -> Result<Picture> {
        let style = Style { side: SIDE, gap: 4, ..Style::default() };
        let share = 100.0 * self.probability(self.predicted);
        let (truth, answer) = (name(classes, self.label), name(classes, self.predicted));
        let right = self.is_right();
        let caption = match right {
            true => format!("{truth} ·\u{a0}{share:.0}\u{a0}%"),
            false => format!("{truth}, taken for {answer} ·\u{a0}{share:.0}\u{a0}%"),
        };
        let alt = format!("test image {} ({truth}), and its {}", self.index, self.view.title);
        let png = png(&self.panel(classes).tiles(&style))?;
        Ok(Picture { png, alt, caption, right })
    }

    fn probability(&self, class: usize) -> f32 {
        self.probabilities.get(class).copied().unwrap_or(f32::NAN)
    }
}

fn name(classes: &[String], class: usize) -> String {
    classes.get(class).cloned().unwrap_or_else(|| class.to_string())
}

/// Positions of the images to show: right answers, evenly by class, and wrong ones.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chosen {
    /// The first of each class in the dataset's order, then the second of each, until there are
    /// enough; of more classes than wanted images, evenly spaced ones. In order of classes.
    pub right: Vec<usize>,
    /// Those of which the network was surest, surest first.
    pub wrong: Vec<usize>,
}

impl Chosen {
    /// At most `count` of each kind.
    pub fn new(answers: &[Answer], classes: usize, count: usize) -> Self {
        let mut wrong: Vec<_> = answers.iter().filter(|a| a.predicted != a.label).collect();
        // Stable: of equals those that come first.
        wrong.sort_by(|a, b| b.probability.total_cmp(&a.probability));
        let wrong = wrong.iter().take(count).map(|answer| answer.index).collect();

        let mut by_class = vec![Vec::new(); classes];
        for answer in answers.iter().filter(|a| a.predicted == a.label) {
            if let Some(class) = by_class.get_mut(answer.label as usize) {
                class.push(answer.index);
            }
        }
        by_class.retain(|class| !class.is_empty());
        let kinds = by_class.len();
        let mut taken = vec![0; kinds];
        if kinds > count {
            (0..count).for_each(|i| taken[i * kinds / count] = 1);
        }
        let mut left = count.saturating_sub(taken.iter().sum());
        while left > 0 && taken.iter().zip(&by_class).any(|(taken, class)| *taken < class.len()) {
            for (taken, class) in taken.iter_mut().zip(&by_class) {
                if left > 0 && *taken < class.len() {
                    *taken += 1;
                    left -= 1;
                }
            }
        }
        let right = by_class.iter().zip(taken).flat_map(|(class, taken)| &class[..taken]);
        Self { right: right.copied().collect(), wrong }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answers(given: &[(u32, u32, f32)]) -> Vec<Answer> {
        let answer = |(index, &(label, predicted, probability))| Answer {
            index,
            label,
            predicted,
            probability,
            rank: u32::from(label != predicted),
        };
        given.iter().enumerate().map(answer).collect()
    }

    #[test]
    fn the_surest_wrong_answers_and_right_ones_of_every_class() {
        let given = answers(&[
            (0, 0, 0.9), // 0
            (0, 1, 0.4), // 1, wrong
            (2, 2, 0.8), // 2
            (0, 0, 0.5), // 3
            (2, 0, 0.7), // 4, wrong
            (0, 0, 0.6), // 5
            (1, 2, 0.7), // 6, wrong
            (2, 2, 0.3), // 7
        ]);
        let chosen = Chosen::new(&given, 3, 3);
        assert_eq!(chosen, Chosen { right: vec![0, 3, 2], wrong: vec![4, 6, 1] });
        let chosen = Chosen::new(&given, 3, 2);
        assert_eq!(chosen, Chosen { right: vec![0, 2], wrong: vec![4, 6] });
        let chosen = Chosen::new(&given, 3, 99);
        assert_eq!(chosen, Chosen { right: vec![0, 3, 5, 2, 7], wrong: vec![4, 6, 1] });
        assert_eq!(Chosen::new(&[], 3, 2), Chosen { right: vec![], wrong: vec![] });
    }

    #[test]
    fn of_many_classes_some_are_shown() {
        let given: Vec<_> = (0..100).map(|class| (class, class, 0.5)).collect();
        let chosen = Chosen::new(&answers(&given), 100, 4);
        assert_eq!(chosen.right, [0, 25, 50, 75]);
    }
}
