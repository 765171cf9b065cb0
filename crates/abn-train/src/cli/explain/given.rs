//! A map of the user's own in place of the network's.

use std::path::{Path, PathBuf};

use abn_backbones::Variant;
use abn_core::Mode;
use abn_explain::pictures::{Heatmap, Reach, from_mask};
use abn_ops::{Tracked, no_grad};
use abn_train::{Run, read_npy};
use anyhow::{Result, bail};
use candle_core::Tensor;
use image::{GrayImage, Luma};

use super::images;

/// What the user gave.
pub struct Given {
    pub file: PathBuf,
    kind: Kind,
}

enum Kind {
    /// Covers the image.
    Mask(GrayImage),
    /// The map itself, as the network has it.
    Map(Heatmap),
}

impl Given {
    /// Reads the file, and refuses what cannot be a map of this network.
    pub fn open(file: &Path, run: &Run) -> Result<Self> {
        if !matches!(run.recipe.variant, Variant::Abn | Variant::Control) {
            bail!(
                "--attention: {} is a {} network, which has no attention map; train one with --variant abn",
                run.checkpoint.display(),
                run.recipe.variant
            );
        }
        let npy = file.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("npy"));
        let kind = if npy { Kind::Map(array(file, run)?) } else { Kind::Mask(mask(file)?) };
        Ok(Self { file: file.to_owned(), kind })
    }

    /// The map of an image over which the network's input reaches this far; `size` is the map's
    /// (width, height).
    fn placed(&self, size: (usize, usize), reach: Reach) -> abn_explain::Result<Heatmap> {
        match &self.kind {
            Kind::Mask(mask) => from_mask(mask, size, reach),
            Kind::Map(map) => Heatmap::new(map.width(), map.height(), map.values().to_vec(), reach),
        }
    }

    /// Each image's map, and the probabilities (N, K) that the network gives with it.
    pub fn answer(
        &self,
        run: &Run,
        inputs: &Tensor,
        reaches: &[Reach],
    ) -> Result<(Vec<Heatmap>, Vec<Vec<f32>>)> {
        let size = map_size(run, inputs)?;
        let maps: Vec<_> =
            reaches.iter().map(|&reach| self.placed(size, reach)).collect::<Result<_, _>>()?;
        let values: Vec<f32> = maps.iter().flat_map(|map| map.values()).copied().collect();
        let shape = (maps.len(), 1, size.1, size.0);
        let map = Tracked::constant(Tensor::from_vec(values, shape, run.params.device())?);
        let image = Tracked::constant(inputs.clone());
        let logits = no_grad(|| {
            let features = run.model.features_with(&image, &map, Mode::Eval)?;
            run.model.classify(&features.last, Mode::Eval)
        })?;
        Ok((maps, abn_ops::softmax(logits.value())?.to_vec2()?))
    }
}

/// (width, height) of the network's map.
fn map_size(run: &Run, inputs: &Tensor) -> Result<(usize, usize)> {
    let image = Tracked::constant(inputs.narrow(0, 0, 1)?);
    let features = no_grad(|| run.model.features(&image, Mode::Eval))?;
    let Some(attention) = features.attention else { bail!("the network gave no map") };
    let (_, _, height, width) = attention.map.value().dims4()?;
    Ok((width, height))
}

fn array(file: &Path, run: &Run) -> Result<Heatmap> {
    let array = read_npy(file)?;
    let (width, height) = map_size(run, &run.zeros(1)?)?;
    if (array.columns, array.rows) != (width, height) {
        bail!(
            "{} has {} rows and {} columns; expected a map of this network, {height} by {width}",
            file.display(),
            array.rows,
            array.columns
        );
    }
    if array.values.iter().any(|value| !value.is_finite()) {
        bail!("{} has values that are no numbers", file.display());
    }
    Ok(Heatmap::new(width, height, array.values, 1.0)?)
}

/// A grey picture. JPEG makes colours of grey that differ by a little.
fn mask(file: &Path) -> Result<GrayImage> {
    const TOLERANCE: u8 = 8;
    let picture = abn_train::explain::picture(&images::read(file)?)?;
    let coloured = picture.pixels().any(|pixel| {
        let [r, g, b] = pixel.0;
        r.max(g).max(b) - r.min(g).min(b) > TOLERANCE
    });
    if coloured {
        bail!("{} has colours; expected a grey picture, white where to look", file.display());
    }
    let (width, height) = picture.dimensions();
    Ok(GrayImage::from_fn(width, height, |x, y| Luma([picture.get_pixel(x, y).0[1]])))
}
