//! Error and loss on a dataset.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use abn_core::{Classifier, Loss, Mode, Output};
use abn_data::{Dataset, LoaderConfig, Transform};
use abn_ops::{PackedWeights, Tracked, in_pool, no_grad};
use candle_core::{Device, Tensor};

use crate::Result;
use crate::evaluation::{Answer, Evaluation};
use crate::feed::Feed;
use crate::part::Part;
use crate::tally::Tally;

/// A batch's labels on the host and where the network is.
pub(crate) struct Labels {
    pub values: Vec<u32>,
    pub tensor: Tensor,
}

/// A forward pass and its loss, the labels smoothed by this much.
pub(crate) fn forward(
    model: &dyn Classifier,
    part: Part,
    mode: Mode,
    smoothing: f64,
) -> Result<(Output, Loss, Labels)> {
    let tensor = part.classes()?;
    let output = model.forward(&Tracked::constant(part.images), mode)?;
    let loss = abn_core::smoothed_loss(&output, &tensor, smoothing)?;
    Ok((output, loss, Labels { values: part.known, tensor }))
}

/// Asks a network, which is on `device`, for every image of a dataset in its order, in evaluation
/// mode; every image counts, in the last batch too. `None` if `stop` was set meanwhile.
///
/// # Errors
/// If an image cannot be had, or does not fit the network.
pub fn evaluate(
    model: &dyn Classifier,
    dataset: Arc<dyn Dataset>,
    transform: Transform,
    batch_size: usize,
    device: &Device,
    stop: &AtomicBool,
) -> Result<Option<Evaluation>> {
    let config = LoaderConfig { batch_size, ..LoaderConfig::default() };
    evaluate_part(model, &Feed::new(dataset, transform, device)?, config, stop)
}

/// [`evaluate()`] of a process's part of each batch.
pub(crate) fn evaluate_part(
    model: &dyn Classifier,
    feed: &Feed,
    config: LoaderConfig,
    stop: &AtomicBool,
) -> Result<Option<Evaluation>> {
    let dataset = feed.dataset();
    let (mut tally, mut answers) = (Tally::default(), Vec::with_capacity(dataset.len()));
    let classes = dataset.class_names().to_vec();
    let packed = PackedWeights::new();
    for part in feed.epoch(config, 0)? {
        if stop.load(Ordering::Relaxed) {
            return Ok(None);
        }
        let part = part?;
        if part.len() == 0 {
            continue; // other processes' images
        }
        let indices = part.indices.clone();
        let answer = || no_grad(|| forward(model, part, Mode::Eval, 0.0));
        let (output, loss, labels) = in_pool(|| packed.reuse(answer))?;
        tally.add(&output, &loss, &labels.values)?;
        let scores = output.logits.value();
        let probabilities = abn_ops::softmax(scores)?.to_vec2::<f32>()?;
        let rows = scores.to_vec2::<f32>()?.into_iter().zip(probabilities);
        for ((index, label), (scores, probabilities)) in
            indices.into_iter().zip(labels.values).zip(rows)
        {
            answers.push(Answer::new(index, label, &scores, &probabilities));
        }
    }
    Ok(Some(Evaluation { tally, answers, classes }))
}
