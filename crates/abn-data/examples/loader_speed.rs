//! What the loader costs: images/s of whole epochs, shuffled and augmented.
//!
//! `cargo run --release -p abn-data --features embedded --example loader_speed [THREADS]` measures
//! the embedded dataset, and a folder of 500×375 JPEG images that it makes for the occasion.

use std::error::Error;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use abn_data::{Dataset, Fit, FolderDataset, Loader, LoaderConfig, Transform, open};

const EPOCHS: u64 = 5;
const PHOTOS: u32 = 64;

fn main() -> Result<(), Box<dyn Error>> {
    if let Some(threads) = std::env::args().nth(1) {
        rayon::ThreadPoolBuilder::new().num_threads(threads.parse()?).build_global()?;
    }
    println!("{} threads", rayon::current_num_threads());

    let mini = open("fashion-mnist-mini", None)?;
    let small = Transform::standard(mini.fit, 32, mini.stats);
    println!("fashion-mnist-mini at 32×32: {:.0} images/s", speed(&mini.train, small)?);

    let folder = tempfile::tempdir()?;
    make_photos(&folder.path().join("class"))?;
    let photos: Arc<dyn Dataset> = Arc::new(FolderDataset::open(folder.path())?);
    let large = Transform::standard(Fit::Resize, 224, mini.stats);
    println!("500×375 JPEG at 224×224: {:.0} images/s", speed(&photos, large)?);
    Ok(())
}

/// Images per second, of the best epoch.
fn speed(dataset: &Arc<dyn Dataset>, transform: Transform) -> Result<f64, Box<dyn Error>> {
    let mut best = f64::INFINITY;
    for epoch in 0..EPOCHS {
        let config = LoaderConfig {
            batch_size: 64,
            shuffle: true,
            augment: true,
            epoch,
            ..Default::default()
        };
        let start = Instant::now();
        for batch in Loader::new(dataset.clone(), transform, config)? {
            std::hint::black_box(batch?);
        }
        best = best.min(start.elapsed().as_secs_f64());
    }
    Ok(dataset.len() as f64 / best)
}

/// Images with as much detail as a photograph: slow waves, and some noise.
fn make_photos(folder: &Path) -> Result<(), Box<dyn Error>> {
    std::fs::create_dir_all(folder)?;
    for i in 0..PHOTOS {
        let mut noise = i + 1;
        let photo = image::RgbImage::from_fn(500, 375, |x, y| {
            noise = noise.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let wave = ((x + 3 * i) as f32 / 40.0).sin() * (y as f32 / 30.0).cos() * 100.0 + 120.0;
            image::Rgb(
                [0, 1, 2].map(|channel| (wave + ((noise >> (24 + channel)) & 15) as f32) as u8),
            )
        });
        photo.save(folder.join(format!("{i:03}.jpg")))?;
    }
    Ok(())
}
