//! JPEG files that are as hard to decode as photographs.

use std::path::Path;

use abn_data::rng::{Purpose, Stream};
use anyhow::{Context, Result};
use jpeg_encoder::{ColorType, Encoder, SamplingFactor};
use rayon::prelude::*;

pub const WIDTH: usize = 500;
pub const HEIGHT: usize = 375;
pub const CLASSES: u32 = 4;
/// As most of ImageNet: fine, and chroma at half the resolution.
const QUALITY: u8 = 90;
/// Sizes of the detail, in pixels, and how strong it is: a photograph's spectrum falls like this.
const DETAIL: [(usize, f32); 7] =
    [(128, 60.0), (64, 40.0), (32, 28.0), (16, 20.0), (8, 16.0), (4, 14.0), (2, 13.0)];
/// Sizes and strengths of the colours.
const COLOURS: [(usize, f32); 3] = [(128, 40.0), (32, 20.0), (8, 8.0)];
const SHAPES: u32 = 6;

/// Writes `count` images to class folders in `root`; how many bytes all of them are.
pub fn write(root: &Path, count: u32) -> Result<u64> {
    for class in 0..CLASSES {
        let folder = root.join(format!("class{class}"));
        std::fs::create_dir_all(&folder)
            .with_context(|| format!("cannot create {}", folder.display()))?;
    }
    let sizes = (0..count).into_par_iter().map(|number| {
        let path = root.join(format!("class{}/{number:05}.jpg", number % CLASSES));
        let mut bytes = Vec::new();
        let mut encoder = Encoder::new(&mut bytes, QUALITY);
        encoder.set_sampling_factor(SamplingFactor::R_4_2_0);
        encoder.encode(&pixels(number.into()), WIDTH as u16, HEIGHT as u16, ColorType::Rgb)?;
        std::fs::write(&path, &bytes)
            .with_context(|| format!("cannot write {}", path.display()))?;
        Ok(bytes.len() as u64)
    });
    sizes.sum::<Result<u64>>()
}

/// Noise of every size, as clouds and foliage have it, and a few shapes with edges.
fn pixels(number: u64) -> Vec<u8> {
    let mut random = Stream::new(Purpose::Augment, 0, 0, number);
    let mut light = vec![128.0; WIDTH * HEIGHT];
    add_noise(&mut light, &DETAIL, &mut random);
    let mut colours = [(); 2].map(|()| {
        let mut plane = vec![0.0; WIDTH * HEIGHT];
        add_noise(&mut plane, &COLOURS, &mut random);
        plane
    });
    for _ in 0..SHAPES {
        let mut below = |bound: usize| random.below(bound as u32) as f32;
        let (x, y, width, height) = (below(WIDTH), below(HEIGHT), below(100), below(100));
        let shades = [below(160) - 80.0, below(60) - 30.0, below(60) - 30.0];
        for at in 0..WIDTH * HEIGHT {
            let (dx, dy) = ((at % WIDTH) as f32 - x, (at / WIDTH) as f32 - y);
            if (dx / (width + 10.0)).powi(2) + (dy / (height + 10.0)).powi(2) < 1.0 {
                light[at] += shades[0];
                colours[0][at] += shades[1];
                colours[1][at] += shades[2];
            }
        }
    }
    let pixel = |at: usize| {
        let (light, warm, green) = (light[at], colours[0][at], colours[1][at]);
        [light + warm, light + green, light - warm].map(|value: f32| value as u8)
    };
    (0..WIDTH * HEIGHT).flat_map(pixel).collect()
}

/// Adds random values on grids of these spacings, interpolated between.
fn add_noise(plane: &mut [f32], octaves: &[(usize, f32)], random: &mut Stream) {
    for &(spacing, strength) in octaves {
        let columns = WIDTH / spacing + 2;
        let grid: Vec<f32> = (0..columns * (HEIGHT / spacing + 2))
            .map(|_| (random.below(1 << 16) as f32 / 32768.0 - 1.0) * strength)
            .collect();
        for (y, row) in plane.chunks_exact_mut(WIDTH).enumerate() {
            let (top, below) = (y / spacing, (y % spacing) as f32 / spacing as f32);
            let grid = &grid[top * columns..];
            for (x, value) in row.iter_mut().enumerate() {
                let (left, right) = (x / spacing, (x % spacing) as f32 / spacing as f32);
                let along = |at: usize| grid[at] + (grid[at + 1] - grid[at]) * right;
                let (upper, lower) = (along(left), along(left + columns));
                *value += upper + (lower - upper) * below;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_files_are_images_of_a_photographs_size() {
        let root = tempfile::tempdir().unwrap();
        let bytes = write(root.path(), 5).unwrap();
        // ImageNet's are about 110 kB; noise would be 200, a plain surface 5.
        assert!((40_000..160_000).contains(&(bytes / 5)), "{bytes}");
        let data = abn_data::FolderDataset::open(root.path()).unwrap();
        assert_eq!(data.files().len(), 5);
        let first = abn_data::read_image(&data.files()[0].0).unwrap();
        assert_eq!((first.width, first.height), (WIDTH, HEIGHT));
        assert_ne!(first, abn_data::read_image(&data.files()[1].0).unwrap());
    }
}
