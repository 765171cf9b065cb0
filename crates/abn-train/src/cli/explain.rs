use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::{Path, PathBuf};

use abn_backbones::Variant;
use abn_explain::pictures::{ColourMap, enlarged, overlay};
use abn_train::{Error, Prediction, Run, explain};
use anyhow::{Context, Result, bail};
use clap::Args;

use super::{Compute, print};

/// Smaller pictures are enlarged to this side, in pixels, for the eye.
const READABLE: u32 = 256;
/// Classes told for each image.
const TOP: usize = 5;

#[derive(Args)]
pub struct ExplainArgs {
    /// Folder of a run (its best/ is taken, or else its last/), or one of these two
    #[arg(long, value_name = "RUN")]
    checkpoint: PathBuf,
    /// Images, of any size (PNG or JPEG)
    #[arg(long, value_name = "FILE", required = true, num_args = 1..)]
    image: Vec<PathBuf>,
    /// Folder for the pictures, NAME-attention.png for each image
    #[arg(long, value_name = "DIR", default_value = ".")]
    out: PathBuf,
    #[command(flatten)]
    compute: Compute,
}

impl ExplainArgs {
    pub fn run(self) -> Result<()> {
        self.compute.set_up()?;
        let run = Run::open(&self.checkpoint)?;
        if run.recipe.variant != Variant::Abn {
            bail!(
                "{} is a {} network, which has no attention map to show; train one with --variant abn",
                self.checkpoint.display(),
                run.recipe.variant
            );
        }
        let targets = self.targets()?;
        // Every image is read before anything is written.
        let images = self
            .image
            .iter()
            .map(|path| {
                abn_data::read_image(path).map_err(|error| Error::Image {
                    path: path.clone(),
                    problem: error.to_string(),
                })
            })
            .collect::<abn_train::Result<Vec<_>>>()?;
        let predictions = run.predict(&images)?;
        std::fs::create_dir_all(&self.out)
            .with_context(|| format!("cannot create {}", self.out.display()))?;
        let mut text = String::new();
        for (((path, target), image), prediction) in
            self.image.iter().zip(&targets).zip(&images).zip(&predictions)
        {
            let Some(map) = &prediction.attention else { bail!("the network gave no map") };
            let picture = enlarged(explain::picture(image)?, READABLE);
            overlay(&picture, map, ColourMap::Jet)
                .save(target)
                .with_context(|| format!("cannot write {}", target.display()))?;
            describe(&mut text, path, target, prediction, &run.card.classes)?;
        }
        print(&text)
    }

    /// Where each picture goes; two images may not share a place.
    fn targets(&self) -> Result<Vec<PathBuf>> {
        let mut taken = BTreeMap::new();
        let mut targets = Vec::new();
        for path in &self.image {
            let name = path.file_stem().unwrap_or(path.as_os_str()).to_string_lossy();
            let target = self.out.join(format!("{name}-attention.png"));
            if let Some(other) = taken.insert(target.clone(), path) {
                bail!(
                    "{} and {} would both become {}; explain them one by one",
                    other.display(),
                    path.display(),
                    target.display()
                );
            }
            targets.push(target);
        }
        Ok(targets)
    }
}

fn describe(
    text: &mut String,
    path: &Path,
    target: &Path,
    prediction: &Prediction,
    classes: &[String],
) -> Result<()> {
    writeln!(text, "{} → {}", path.display(), target.display())?;
    for (class, probability) in prediction.top(TOP) {
        writeln!(text, "  {:5.1} %  {}", 100.0 * probability, classes[class])?;
    }
    Ok(())
}
