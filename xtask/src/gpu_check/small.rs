//! Small datasets, for a quick look: the first images of Fashion-MNIST, in its own format.

use std::path::{Path, PathBuf};

use abn_data::{Dataset, Splits, idx};
use anyhow::Result;

/// The first so many training and test images, as the four files of a folder.
///
/// # Errors
/// If an image cannot be had, or a file cannot be written.
pub fn first(data: &Splits, (train, test): (usize, usize), to: &Path) -> Result<PathBuf> {
    std::fs::create_dir_all(to)?;
    for (name, set, count) in [("train", &data.train, train), ("t10k", &data.test, test)] {
        write(&**set, count.min(set.len()), name, to)?;
    }
    Ok(to.canonicalize()?)
}

fn write(set: &dyn Dataset, count: usize, name: &str, to: &Path) -> Result<()> {
    let (mut pixels, mut labels, mut shape) = (Vec::new(), Vec::new(), [count, 0, 0]);
    for index in 0..count {
        let sample = set.get(index)?;
        shape = [count, sample.image.height, sample.image.width];
        pixels.extend(sample.image.data);
        labels.push(u8::try_from(sample.labels[0])?);
    }
    let images = idx::encode(&shape, &pixels)?;
    std::fs::write(to.join(format!("{name}-images-idx3-ubyte")), images)?;
    std::fs::write(to.join(format!("{name}-labels-idx1-ubyte")), idx::encode(&[count], &labels)?)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_images_are_a_dataset() {
        let folder = tempfile::tempdir().unwrap();
        let whole = abn_data::open("fashion-mnist-mini", None).unwrap();
        let part = first(&whole, (30, 20), &folder.path().join("part")).unwrap();
        let splits = abn_data::open("fashion-mnist", Some(&part)).unwrap();
        assert_eq!((splits.train.len(), splits.test.len()), (30, 20));
        let (found, expected) = (splits.test.get(19).unwrap(), whole.test.get(19).unwrap());
        assert_eq!((found.image, found.labels), (expected.image, expected.labels));
    }
}
