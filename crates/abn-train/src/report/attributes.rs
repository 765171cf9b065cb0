//! Where a network for several tasks looked: its maps on faces, attribute by attribute.

use abn_data::{Dataset, Sample};
use abn_explain::pictures::{Caption, Heatmap, Panel, Shown, Style, View, png};
use abn_multitask::MultiTask;
use candle_core::Device;
use image::RgbImage;

use super::page::Picture;
use crate::attributes::TaskAnswers;
use crate::task_run::{TaskPrediction, part_of, predict};
use crate::{Card, Result, explain};

/// Pictures of a page have this many pixels to twice as many: see [`Style::side`].
const SIDE: u32 = 96;

/// A test image that has an attribute, what was answered, and where the network looked for it.
pub struct TaskLook {
    /// Position in the dataset.
    pub index: usize,
    /// The image.
    pub image: RgbImage,
    /// The attribute.
    pub task: String,
    /// The right answer's name.
    pub truth: String,
    /// The network's answer, and its probability.
    pub answer: (String, f32),
    /// The map.
    pub map: Heatmap,
}

/// For each task the first test images that have the attribute: one that was answered rightly, and
/// one wrongly. Of more than `most` tasks evenly spaced ones.
pub fn choose(answers: &[TaskAnswers], tasks: usize, most: usize) -> Vec<(usize, usize)> {
    let chosen = (0..tasks.min(most)).map(|i| i * tasks / tasks.min(most));
    let of = |task: usize| {
        [true, false].into_iter().filter_map(move |right| {
            let fits = |answer: &&TaskAnswers| {
                answer.labels[task] > 0 && (answer.predicted[task] == answer.labels[task]) == right
            };
            answers.iter().find(fits).map(|answer| (answer.index, task))
        })
    };
    chosen.flat_map(of).collect()
}

/// Asks a network, which is on `device`, for these images of a dataset, and looks at the map of one
/// task of each. Nothing of a network without maps.
///
/// # Errors
/// If an image cannot be had.
pub fn look(
    model: &dyn MultiTask,
    card: &Card,
    device: &Device,
    data: &dyn Dataset,
    chosen: &[(usize, usize)],
) -> Result<Vec<TaskLook>> {
    let mut looks = Vec::new();
    // The answers to one image are asked for once.
    let mut asked: Option<(usize, Sample, TaskPrediction)> = None;
    for &(index, t) in chosen {
        if asked.as_ref().is_none_or(|(before, ..)| *before != index) {
            let sample = data.get(index)?;
            let prediction =
                predict(model, card, device, std::slice::from_ref(&sample.image))?.remove(0);
            asked = Some((index, sample, prediction));
        }
        let Some((_, sample, prediction)) = &asked else { continue };
        let Some((answer, probability)) = prediction.answer(t) else { continue };
        let Some(map) = prediction.maps.as_ref().map(|maps| maps[t].clone()) else { continue };
        let name = |label: usize| card.tasks[t].answers.get(label).cloned().unwrap_or_default();
        looks.push(TaskLook {
            index,
            image: explain::picture(&sample.image)?,
            task: card.tasks[t].name.clone(),
            truth: name(sample.labels[t] as usize),
            answer: (name(answer), probability),
            map,
        });
    }
    Ok(looks)
}

/// What stands side by side in [`TaskLook::picture`].
pub const VIEWS: [&str; 4] = ["image", "map", "positive part", "negative part"];

impl TaskLook {
    /// Whether the answer is right.
    pub fn is_right(&self) -> bool {
        self.truth == self.answer.0
    }

    /// The image, the map, its positive part and its negative part, as in the paper's figure.
    ///
    /// # Errors
    /// If the picture cannot be written as PNG.
    pub fn picture(&self) -> Result<Picture> {
        let Self { index, task, truth, answer: (answer, probability), .. } = self;
        let view = |title: &str, map| View { title: title.to_owned(), shown: Shown::Heat(map) };
        let [_, both, positive, negative] = VIEWS;
        let views = vec![
            view(both, self.map.clone()),
            view(positive, part_of(&self.map, true)?),
            view(negative, part_of(&self.map, false)?),
        ];
        let caption = Caption::new(answer, *probability);
        let panel = Panel { image: self.image.clone(), views, caption };
        let style = Style { side: SIDE, gap: 4, ..Style::default() };
        Ok(Picture {
            png: png(&panel.tiles(&style))?,
            alt: format!("test image {index}, its map of {task}, and the map's two parts"),
            caption: match self.is_right() {
                true => format!("{task}: {truth} · {:.0} %", 100.0 * probability),
                false => {
                    format!("{task}: {truth}, answered {answer} · {:.0} %", 100.0 * probability)
                }
            },
            right: self.is_right(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_task_gets_a_right_and_a_wrong_answer() {
        let answers: Vec<_> =
            [([1, 0], [1, 0]), ([1, 0], [0, 1]), ([0, 0], [0, 0]), ([1, 0], [1, 0])]
                .into_iter()
                .enumerate()
                .map(|(index, (labels, predicted)): (_, ([u32; 2], [u32; 2]))| TaskAnswers {
                    index,
                    labels: labels.to_vec(),
                    predicted: predicted.to_vec(),
                })
                .collect();
        // Nobody has the second attribute.
        assert_eq!(choose(&answers, 2, 9), [(0, 0), (1, 0)]);
        assert_eq!(choose(&answers, 2, 1), [(0, 0), (1, 0)]);
    }
}
