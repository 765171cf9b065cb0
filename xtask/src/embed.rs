//! `cargo xtask embed-fashion-mnist`: makes the embedded dataset from the full one.
//!
//! The manifest `datasets/fashion-mnist.toml` says what the full files (unpacked: distributors
//! compress them anew) and the made ones must be, so that a subset of anything else is refused.

use std::fs;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use abn_data::{FASHION_MNIST_CLASSES, SUBSET_PER_CLASS, idx};
use anyhow::{Context, Result, bail, ensure};
use flate2::read::GzDecoder;
use flate2::{Compression, GzBuilder};
use serde::Deserialize;
use sha2::{Digest, Sha256};

use crate::fetch::hex;

const MANIFEST: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../datasets/fashion-mnist.toml");
const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../datasets/fashion-mnist");

/// Make the embedded Fashion-MNIST subset from the full files
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Folder with the four official files, gzipped or not
    #[arg(long, value_name = "FOLDER", default_value = "/usr/share/datasets/fashion-mnist")]
    from: PathBuf,

    /// Write nothing; fail if the committed files are not what would be made
    #[arg(long)]
    check: bool,
}

/// What is read of `datasets/fashion-mnist.toml`.
#[derive(Deserialize)]
struct Manifest {
    download: Vec<Files>,
    embedded: Files,
}

#[derive(Deserialize)]
struct Files {
    files: Vec<File>,
}

#[derive(Deserialize)]
struct File {
    #[serde(alias = "path")]
    name: String,
    bytes: u64,
    sha256: String,
}

/// Runs the command.
///
/// # Errors
/// If the full files are missing or not the official ones, or the result differs from the
/// manifest or, with `--check`, from the committed files.
pub fn run(args: &Args) -> Result<()> {
    let manifest = Manifest::read()?;
    let folder = Path::new(FOLDER);
    let read = |name: &str| -> Result<(PathBuf, Vec<u8>)> {
        let mut full = manifest.download.iter().flat_map(|download| &download.files);
        let file = full.find(|file| file.name == name);
        let file = file.with_context(|| format!("the manifest does not list {name}"))?;
        let (path, bytes) = unpacked(&args.from, name)?;
        file.verify(&bytes).with_context(|| path.display().to_string())?;
        Ok((path, bytes))
    };
    let mut made = Vec::new();
    for (split, per_class) in [("train", SUBSET_PER_CLASS.0), ("t10k", SUBSET_PER_CLASS.1)] {
        let images_name = format!("{split}-images-idx3-ubyte");
        let labels_name = format!("{split}-labels-idx1-ubyte");
        let (images, labels) = subset(read(&images_name)?, read(&labels_name)?, per_class)?;
        made.push((images_name + ".gz", images));
        made.push((labels_name + ".gz", labels));
    }
    for (name, bytes) in &made {
        let listed = manifest.embedded.files.iter().find(|file| file.name == *name);
        let listed = listed.with_context(|| format!("the manifest does not list {name}"))?;
        listed.verify(bytes).with_context(|| format!("the {name} that was made"))?;
    }
    // All four are right: only now is anything written.
    for (name, bytes) in &made {
        let path = folder.join(name);
        if args.check {
            let committed = fs::read(&path).with_context(|| path.display().to_string())?;
            if committed != *bytes {
                bail!("{} is not what `cargo xtask embed-fashion-mnist` makes", path.display());
            }
        } else {
            fs::write(&path, bytes).with_context(|| path.display().to_string())?;
        }
        println!("{name}: {} bytes{}", bytes.len(), if args.check { ", as made" } else { "" });
    }
    Ok(())
}

impl Manifest {
    fn read() -> Result<Self> {
        let text =
            fs::read_to_string(MANIFEST).with_context(|| format!("cannot read {MANIFEST}"))?;
        toml::from_str(&text).context(MANIFEST)
    }
}

impl File {
    fn verify(&self, bytes: &[u8]) -> Result<()> {
        let found = hex(&Sha256::digest(bytes));
        ensure!(
            (bytes.len() as u64, &found) == (self.bytes, &self.sha256),
            "expected {} bytes with SHA-256 {}, found {} bytes with {found}",
            self.bytes,
            self.sha256,
            bytes.len()
        );
        Ok(())
    }
}

/// The idx files of a subset: the first `per_class` of each class, in file order.
fn subset(
    (images_path, images): (PathBuf, Vec<u8>),
    (labels_path, labels): (PathBuf, Vec<u8>),
    per_class: usize,
) -> Result<(Vec<u8>, Vec<u8>)> {
    let images = idx::parse_images(&images, &images_path)?;
    let labels = idx::parse_labels(&labels, &labels_path, FASHION_MNIST_CLASSES.len())?;
    let mut taken = [0; FASHION_MNIST_CLASSES.len()];
    let (mut pixels, mut classes) = (Vec::new(), Vec::new());
    for (image, &label) in images.pixels.chunks_exact(images.rows * images.columns).zip(&labels) {
        let taken = &mut taken[usize::from(label)];
        if *taken < per_class {
            *taken += 1;
            pixels.extend_from_slice(image);
            classes.push(label);
        }
    }
    let shape = [classes.len(), images.rows, images.columns];
    Ok((pack(&idx::encode(&shape, &pixels)?)?, pack(&idx::encode(&shape[..1], &classes)?)?))
}

/// The content of a file that lies there as it is (`cargo xtask fetch`) or gzipped (Debian).
fn unpacked(folder: &Path, name: &str) -> Result<(PathBuf, Vec<u8>)> {
    let plain = folder.join(name);
    if plain.is_file() {
        let bytes = fs::read(&plain).with_context(|| plain.display().to_string())?;
        return Ok((plain, bytes));
    }
    let path = folder.join(format!("{name}.gz"));
    let file = fs::File::open(&path).with_context(|| {
        let path = path.display();
        format!(
            "cannot read {path}; `cargo xtask fetch fashion-mnist` or \
             `apt-get install dataset-fashion-mnist` has it, --from names its folder"
        )
    })?;
    let mut bytes = Vec::new();
    GzDecoder::new(file).read_to_end(&mut bytes).with_context(|| path.display().to_string())?;
    Ok((path, bytes))
}

/// Gzipped without time or name, so that the same content gives the same bytes.
fn pack(bytes: &[u8]) -> Result<Vec<u8>> {
    let mut encoder = GzBuilder::new().mtime(0).write(Vec::new(), Compression::best());
    encoder.write_all(bytes)?;
    Ok(encoder.finish()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_committed_files_are_the_manifests() {
        let manifest = Manifest::read().unwrap();
        assert_eq!(manifest.embedded.files.len(), 4);
        for file in &manifest.embedded.files {
            file.verify(&fs::read(Path::new(FOLDER).join(&file.name)).unwrap()).unwrap();
        }
    }

    #[test]
    fn a_subset_is_the_first_of_each_class_in_file_order() {
        let pixels: Vec<u8> = (0..6).collect();
        let images = idx::encode(&[6, 1, 1], &pixels).unwrap();
        let labels = idx::encode(&[6], &[3, 3, 0, 3, 0, 9]).unwrap();
        let path = || PathBuf::from("made");
        let (images, labels) = subset((path(), images), (path(), labels), 2).unwrap();
        assert_eq!(idx::parse_images(&images, &path()).unwrap().pixels, [0, 1, 2, 4, 5]);
        assert_eq!(idx::parse_labels(&labels, &path(), 10).unwrap(), [3, 3, 0, 0, 9]);
    }
}
