//! A set made to be explained: the class is a small shape at a random place among clutter, and where
//! the shape is, is known.
//!
//! Nothing but the shape tells the class: place, size, colours and clutter are drawn without regard
//! to it. So a network that answers rightly has seen the shape, and a map of where it looked that
//! points elsewhere is wrong about it.

use std::sync::Arc;

use crate::dataset::{Dataset, Image, Normalisation, Sample, Splits, Task};
use crate::error::{Error, Result};
use crate::rng::{Purpose, Stream};
use crate::transform::Fit;

/// Side of the images.
const SIDE: usize = 32;
/// Smallest and largest side of a shape.
const SIZES: (u32, u32) = (10, 12);
/// Strokes of clutter, fewest and most.
const STROKES: (u32, u32) = (8, 14);
/// The shapes, in the order of their labels.
const CLASSES: [&str; 5] = ["plus", "cross", "ring", "square", "triangle"];

/// Mean and standard deviation of the training images.
const STATS: Normalisation = Normalisation { mean: [0.276; 3], std: [0.200; 3] };

/// Where an object is: a box of pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// First column.
    pub left: usize,
    /// First row.
    pub top: usize,
    /// Columns.
    pub width: usize,
    /// Rows.
    pub height: usize,
}

/// A split of planted shapes, 32×32 in colour. Each image is drawn when it is asked for, from a
/// random stream of its own.
#[derive(Clone, Debug)]
pub struct Planted {
    /// Keeps the splits apart.
    split: u64,
    len: usize,
    tasks: [Task; 1],
}

impl Planted {
    /// The 10,000 images trained on.
    pub fn train() -> Self {
        Self::split(0, 10_000)
    }

    /// The 1,000 images tested on.
    pub fn test() -> Self {
        Self::split(1, 1_000)
    }

    fn split(split: u64, len: usize) -> Self {
        Self { split, len, tasks: [Task::classes(CLASSES.map(str::to_owned).into())] }
    }

    /// The image at `index` and where its shape is.
    ///
    /// # Errors
    /// If `index` is not below the number of images.
    pub fn with_bounds(&self, index: usize) -> Result<(Sample, Bounds)> {
        let label = self.label(index)?;
        let mut random = Stream::new(Purpose::Planted, self.split, 0, index as u64);
        let mut canvas = Canvas::new(&mut random);
        for _ in 0..between(&mut random, STROKES) {
            canvas.clutter(&mut random);
        }
        let bounds = canvas.plant(label, &mut random);
        let data = canvas.developed(&mut random);
        Ok((
            Sample {
                image: Image { width: SIDE, height: SIDE, channels: 3, data },
                labels: vec![label],
            },
            bounds,
        ))
    }
}

/// The dataset `planted`.
pub(crate) fn splits() -> Splits {
    Splits {
        name: "planted".into(),
        train: Arc::new(Planted::train()),
        test: Arc::new(Planted::test()),
        stats: STATS,
        fit: Fit::Pad,
        image_size: SIDE.into(),
    }
}

impl Dataset for Planted {
    fn len(&self) -> usize {
        self.len
    }

    fn tasks(&self) -> &[Task] {
        &self.tasks
    }

    fn image_shape(&self) -> Option<[usize; 3]> {
        Some([SIDE, SIDE, 3])
    }

    fn get(&self, index: usize) -> Result<Sample> {
        Ok(self.with_bounds(index)?.0)
    }

    fn labels(&self, index: usize) -> Result<Vec<u32>> {
        match index < self.len {
            true => Ok(vec![(index % CLASSES.len()) as u32]),
            false => Err(Error::Index { index, len: self.len }),
        }
    }
}

fn between(random: &mut Stream, (low, high): (u32, u32)) -> u32 {
    low + random.below(high - low + 1)
}

type Colour = [u8; 3];

/// Bright in at least one channel, so that it is seen on every ground.
fn colour(random: &mut Stream) -> Colour {
    let mut colour = [0; 3].map(|_| between(random, (60, 255)) as u8);
    colour[random.below(3) as usize] = between(random, (200, 255)) as u8;
    colour
}

struct Canvas {
    pixels: Vec<Colour>,
}

impl Canvas {
    fn new(random: &mut Stream) -> Self {
        let ground = [0; 3].map(|_| between(random, (20, 90)) as u8);
        Self { pixels: vec![ground; SIDE * SIDE] }
    }

    fn dot(&mut self, x: i32, y: i32, colour: Colour) {
        let side = SIDE as i32;
        if (0..side).contains(&x) && (0..side).contains(&y) {
            self.pixels[(y * side + x) as usize] = colour;
        }
    }

    /// A short stroke of the width and directions that the shapes are made of, or a spot.
    fn clutter(&mut self, random: &mut Stream) {
        let colour = colour(random);
        let (x, y) = (random.below(SIDE as u32) as i32, random.below(SIDE as u32) as i32);
        let (right, down) = [(1, 0), (0, 1), (1, 1), (1, -1)][random.below(4) as usize];
        for step in 0..between(random, (2, 6)) as i32 {
            let (x, y) = (x + right * step, y + down * step);
            self.dot(x, y, colour);
            // Its second pixel across: below a flat stroke, beside all others.
            self.dot(x + 1 - (right - down.abs()).max(0), y + (right - down.abs()).max(0), colour);
        }
    }

    /// Draws the class's shape, lines two pixels wide, wholly inside the image.
    fn plant(&mut self, label: u32, random: &mut Stream) -> Bounds {
        let colour = colour(random);
        let size = between(random, SIZES) as usize;
        let place = |random: &mut Stream| random.below((SIDE - size + 1) as u32) as usize;
        let (left, top) = (place(random), place(random));
        for y in 0..size {
            for x in 0..size {
                if covers(label, x as i32, y as i32, size as i32) {
                    self.dot((left + x) as i32, (top + y) as i32, colour);
                }
            }
        }
        Bounds { left, top, width: size, height: size }
    }

    /// Bytes, with noise.
    fn developed(&self, random: &mut Stream) -> Vec<u8> {
        let noisy = |value: &u8| {
            let noise = random.below(31) as i32 - 15;
            (i32::from(*value) + noise).clamp(0, 255) as u8
        };
        self.pixels.as_flattened().iter().map(noisy).collect()
    }
}

/// Whether the shape in a box of `size` covers the box's pixel.
fn covers(label: u32, x: i32, y: i32, size: i32) -> bool {
    let far = size - 1;
    match CLASSES[label as usize] {
        "plus" => (2 * x - far).abs() <= 2 || (2 * y - far).abs() <= 2,
        "cross" => (x - y).abs() <= 1 || (x + y - far).abs() <= 1,
        "ring" => {
            // Of doubled coordinates around the centre, whole in boxes of even and of odd size.
            let square = (2 * x - far).pow(2) + (2 * y - far).pow(2);
            square <= size.pow(2) && square > (size - 4).pow(2)
        }
        "square" => x.min(y).min(far - x).min(far - y) < 2,
        // Standing on its base: the sides climb half a column for each row.
        _ => y >= far - 1 || ((2 * x - far).abs() - y).abs() <= 2 && (2 * x - far).abs() <= y + 1,
    }
}

#[cfg(test)]
mod tests;
