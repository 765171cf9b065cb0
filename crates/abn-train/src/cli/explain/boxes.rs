//! `--boxes`: where the objects are, for the pointing game.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use abn_data::Image;
use abn_explain::faithfulness::Region;
use anyhow::{Context, Result, bail};

use super::images::Picture;

/// The first line of a file of boxes.
const HEADER: &str = "image,left,top,right,bottom";

/// The objects' boxes, in pixels of the images.
pub struct Boxes {
    file: PathBuf,
    of: BTreeMap<PathBuf, Vec<Region>>,
}

impl Boxes {
    /// Reads comma-separated values: an image, by its place from the file's folder, and its box; a
    /// line for each box of an image that has several.
    pub fn read(file: &Path) -> Result<Self> {
        let reading = || format!("cannot read {}", file.display());
        let text = fs::read_to_string(file).with_context(reading)?;
        let mut lines = text.lines().enumerate();
        if lines.next().is_none_or(|(_, head)| head.trim_start_matches('\u{feff}').trim() != HEADER)
        {
            bail!("{} does not begin with the line {HEADER}", file.display());
        }
        let mut boxes = Self { file: file.to_owned(), of: BTreeMap::new() };
        for (number, line) in lines.filter(|(_, line)| !line.trim().is_empty()) {
            let at = || format!("{}, line {}: {line:?}", file.display(), number + 1);
            let (image, region) = entry(line).with_context(at)?;
            let image = file.parent().unwrap_or(Path::new("")).join(image);
            let image = fs::canonicalize(&image)
                .with_context(|| format!("{}: no image {}", at(), image.display()))?;
            boxes.of.entry(image).or_default().push(region);
        }
        Ok(boxes)
    }

    /// An image's boxes.
    pub fn of(&self, picture: &Picture) -> &[Region] {
        let path = fs::canonicalize(&picture.path).ok();
        path.and_then(|path| self.of.get(&path)).map_or(&[], |regions| regions)
    }

    /// Refuses boxes of which none is of these images.
    pub fn check(&self, pictures: &[Picture]) -> Result<()> {
        match pictures.iter().any(|picture| !self.of(picture).is_empty()) {
            true => Ok(()),
            false => bail!("{} has a box of none of the images", self.file.display()),
        }
    }

    /// Refuses a box that is not all in its image.
    pub fn fit(&self, picture: &Picture, image: &Image) -> Result<()> {
        let beyond = |of: &&Region| of.right > image.width || of.bottom > image.height;
        match self.of(picture).iter().find(beyond) {
            None => Ok(()),
            Some(region) => bail!(
                "{}: the box {},{},{},{} is not all in {}, which is {}×{}",
                self.file.display(),
                region.left,
                region.top,
                region.right,
                region.bottom,
                picture.path.display(),
                image.width,
                image.height
            ),
        }
    }
}

/// An image and a box. Only the name may have commas.
fn entry(line: &str) -> Result<(&str, Region)> {
    let mut fields = line.rsplitn(5, ',');
    let mut edge = |name: &str| -> Result<usize> {
        let field = fields.next().unwrap_or_default().trim();
        field.parse().with_context(|| format!("{name} is {field:?}, expected a number of pixels"))
    };
    let (bottom, right) = (edge("bottom")?, edge("right")?);
    let (top, left) = (edge("top")?, edge("left")?);
    let image = fields.next().unwrap_or_default().trim();
    if image.is_empty() || left >= right || top >= bottom {
        bail!("expected {HEADER}, with left below right and top below bottom");
    }
    Ok((image, Region { left, top, right, bottom }))
}
