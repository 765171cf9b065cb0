//! What a table would train, and for how long.

use std::collections::BTreeMap;

use abn_data::Size;
use abn_train::Recipe;
use anyhow::Result;

use super::Planned;
use super::file::TableFile;
use super::render::{count, duration};
use crate::bench::step::{Batch, Trainer};

/// Timed steps; the fastest counts, so that a moment of other work does not.
const STEPS: usize = 2;
/// Pixels of a measured batch: 16 images of 32×32, or 2 of 224×224 where that would be none.
const PIXELS: usize = 16 * 32 * 32;
const LEAST: usize = 2;

/// Prints every run with its epochs and an estimate of its time.
pub fn print(table: &TableFile, plan: &[Planned]) -> Result<()> {
    println!("{}: {} runs, on {} threads", table.title, plan.len(), rayon::current_num_threads());
    println!("Each network is measured for a few steps; evaluation and loading come on top.\n");
    let mut speeds = BTreeMap::new();
    let (mut total, mut first) = (0.0, 0.0);
    for planned in plan {
        let recipe = &planned.recipe;
        let dataset = table.dataset.iter().find(|d| d.name == recipe.dataset);
        let (classes, images) = dataset.map_or((10, 0), |d| (d.classes, d.images));
        let images = recipe.images_per_class.map_or(images, |n| images.min(n * classes));
        let [height, width] = dataset.map_or([1, 1], |dataset| dataset.shape);
        let size = recipe.input_size(Size { height, width })?;
        let pixels = size.height * size.width;
        let key = (recipe.model.clone(), recipe.variant, classes, pixels);
        let speed = match speeds.get(&key) {
            Some(&speed) => speed,
            None => {
                let speed = images_per_second(recipe, classes, pixels)?;
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
    let batch = Batch { images, size, classes };
    let mut trainer = Trainer::new(&recipe.model, recipe.variant, batch)?;
    trainer.step()?; // the first one fills caches and allocates
    let mut best = f64::INFINITY;
    for _ in 0..STEPS {
        best = best.min(trainer.step()?);
    }
    Ok(images as f64 / best)
}
