//! `cargo xtask synthesize`: small drawn sets in the official formats of CelebA and CompCars, for the quick
//! profiles of their tables. They are no photographs, and `SYNTHETIC.txt` says so in their folder.

mod canvas;
mod cars;
pub mod faces;
mod mat;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use jpeg_encoder::{ColorType, Encoder, SamplingFactor};
use serde::Deserialize;

/// Good enough that thin lines stay.
const QUALITY: u8 = 94;
/// Goes up when the drawings change, so that older folders are made anew.
const VERSION: u32 = 3;
const NOTE: &str = "SYNTHETIC.txt";

/// Draw a small synthetic set in the official format of CelebA (faces) or CompCars (cars)
#[derive(clap::Args)]
pub struct Args {
    /// What is drawn
    #[arg(value_enum)]
    kind: Kind,
    /// Folder for it: new, empty, or one that this command made
    dir: PathBuf,
    /// Seed of the drawings
    #[arg(long, default_value_t = 0)]
    seed: u64,
}

/// What is drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// 3,200 faces with eight attributes, as `celeba`
    Faces,
    /// 3,720 cars, twelve models of four makers, as `compcars`
    Cars,
}

impl Kind {
    /// The folder that tables draw it into.
    pub fn folder(self) -> &'static str {
        match self {
            Self::Faces => "synthetic-faces",
            Self::Cars => "synthetic-cars",
        }
    }
}

pub fn run(args: &Args) -> Result<()> {
    match ensure(args.kind, args.seed, &args.dir)? {
        true => println!("drew {}", args.dir.display()),
        false => println!("{} is already there", args.dir.display()),
    }
    Ok(())
}

/// Draws the set into `root` unless it is there; whether it was drawn.
///
/// # Errors
/// If the folder holds something else, or cannot be written.
pub fn ensure(kind: Kind, seed: u64, root: &Path) -> Result<bool> {
    let (what, command) = match kind {
        Kind::Faces => ("faces in the format of CelebA", "faces"),
        Kind::Cars => ("cars in the format of CompCars", "cars"),
    };
    let note = format!(
        "Synthetic: {what}, drawn by `cargo xtask synthesize {command} --seed {seed}` (version {VERSION}).\n\
         No photographs; numbers on them say nothing of the dataset whose format they have.\n"
    );
    match fs::read_to_string(root.join(NOTE)) {
        Ok(found) if found == note => return Ok(false),
        // Another seed or version, or other drawings: ours to replace.
        Ok(found) if found.starts_with("Synthetic: ") => {
            fs::remove_dir_all(root)
                .with_context(|| format!("cannot replace {}", root.display()))?;
        }
        _ if root.read_dir().is_ok_and(|mut entries| entries.next().is_some()) => bail!(
            "{} is not empty and holds no drawings; expected a new folder, or one with {NOTE}",
            root.display()
        ),
        _ => {}
    }
    // Under another name until it is whole: an interrupt leaves nothing that looks like a set.
    let part = root.with_extension("part");
    if part.exists() {
        fs::remove_dir_all(&part).with_context(|| format!("cannot replace {}", part.display()))?;
    }
    match kind {
        Kind::Faces => faces::write(&part, seed)?,
        Kind::Cars => cars::write(&part, seed)?,
    }
    put(&part.join(NOTE), note.as_bytes())?;
    if root.exists() {
        fs::remove_dir(root).with_context(|| format!("cannot replace {}", root.display()))?;
    }
    fs::rename(&part, root).with_context(|| format!("cannot make {}", root.display()))?;
    Ok(true)
}

/// Writes a file, with its folders.
fn put(path: &Path, bytes: &[u8]) -> Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    }
    fs::write(path, bytes).with_context(|| format!("cannot write {}", path.display()))
}

fn jpeg(pixels: &[u8], width: usize, height: usize) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut encoder = Encoder::new(&mut bytes, QUALITY);
    encoder.set_sampling_factor(SamplingFactor::R_4_4_4);
    encoder.encode(pixels, width as u16, height as u16, ColorType::Rgb)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests;
