//! What a table would train, and for how long.

use std::collections::BTreeMap;

use std::time::Instant;

use abn_core::{Mode, ParamStore};
use abn_multitask::MultiTask;
use abn_ops::{Tracked, in_pool};
use abn_train::{Network, Recipe};
use anyhow::{Result, bail};
use candle_core::backprop::GradStore;
use candle_core::{DType, Device, Tensor};

use super::Planned;
use super::file::{Cell, TableFile};
use super::render::{count, duration};
use crate::bench::step::{Batch, Trainer};

/// Timed steps; the fastest counts, so that a moment of other work does not.
const STEPS: usize = 2;
/// Pixels of a measured batch: 16 images of 32×32, or 2 of 224×224 where that would be none.
const PIXELS: usize = 16 * 32 * 32;
const LEAST: usize = 2;

/// Prints every run with its epochs and an estimate of its time.
pub fn print(table: &TableFile, cells: &[Cell<'_>], plan: &[Planned]) -> Result<()> {
    println!("{}: {} runs, on {} threads", table.title, plan.len(), rayon::current_num_threads());
    println!("Each network is measured for a few steps; evaluation and loading come on top.\n");
    let mut speeds = BTreeMap::new();
    let (mut total, mut first) = (0.0, 0.0);
    for planned in plan {
        let (recipe, cell) = (&planned.recipe, &cells[planned.cell]);
        let (classes, images) = (cell.dataset.classes, cell.dataset.images);
        let images = recipe.images_per_class.map_or(images, |n| images.min(n * classes));
        let size = cell.input_size()?;
        let pixels = size.height * size.width;
        let key = (recipe.model.clone(), cell.column.name.clone(), classes, pixels);
        let speed = match speeds.get(&key) {
            Some(&speed) => speed,
            None => {
                let speed = match cell.dataset.tasks {
                    1 => images_per_second(recipe, classes, pixels)?,
                    tasks => of_tasks(cell, tasks)?,
                };
                speeds.insert(key, speed);
                speed
            }
        };
        let seconds = (recipe.epochs * images) as f64 / speed;
        println!(
            "{:<58} {:>18}  {:>3} epochs of {:>8} images at {:>6.1}/s  {:>12}",
            planned.name,
            recipe.model,
            recipe.epochs,
            count(images as u64),
            speed,
            duration(seconds)
        );
        total += seconds;
        first += if recipe.seed == 0 { seconds } else { 0.0 };
    }
    println!(
        "\nAltogether about {} on this machine; {} for one seed.",
        duration(total),
        duration(first)
    );
    Ok(())
}

/// Training speed on images of so many pixels, measured on square ones.
fn images_per_second(recipe: &Recipe, classes: usize, pixels: usize) -> Result<f64> {
    let size = (pixels as f64).sqrt().round() as usize;
    let images = (PIXELS / pixels).max(LEAST);
    let batch = Batch { images, size, classes, dropout: None };
    let mut trainer = Trainer::new(&recipe.model, recipe.variant, batch, &Device::Cpu)?;
    trainer.step()?; // the first one fills caches and allocates
    let mut best = f64::INFINITY;
    for _ in 0..STEPS {
        best = best.min(trainer.step()?);
    }
    Ok(images as f64 / best)
}

/// Training speed of a network for several tasks, without the update of its weights.
fn of_tasks(cell: &Cell<'_>, tasks: usize) -> Result<f64> {
    let card = cell.card()?;
    let params = ParamStore::new(0, DType::F32, Device::Cpu);
    let Network::Tasks(model) = card.build(&params)? else { bail!("no network of several tasks") };
    let size = card.input.image_size();
    let images = (PIXELS / (size.height * size.width)).max(LEAST);
    let input = Tracked::constant(card.input.zeros(images)?);
    let labels = Tensor::zeros((images, tasks), DType::U32, &Device::Cpu)?;
    let step = |model: &dyn MultiTask| -> Result<f64> {
        let (start, mut gradients) = (Instant::now(), GradStore::default());
        in_pool(|| {
            model.backward_into(&input, &labels, Mode::Train { seed: 0 }, 1.0, &mut gradients)
        })?;
        Ok(start.elapsed().as_secs_f64())
    };
    step(&*model)?; // the first one fills caches and allocates
    let mut best = f64::INFINITY;
    for _ in 0..STEPS {
        best = best.min(step(&*model)?);
    }
    Ok(images as f64 / best)
}
