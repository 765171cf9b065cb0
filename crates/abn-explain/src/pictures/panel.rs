//! One image and what several methods say of it.

use image::{Rgb, RgbImage, imageops};

use super::sheet::grid;
use super::text::{self, LINE, Weight};
use super::{ColourMap, Heatmap, Reach, fitted, overlay, signed};
use crate::{Explained, Result};

const WHITE: Rgb<u8> = Rgb([255; 3]);

/// What a method shows.
#[derive(Clone, Debug, PartialEq)]
pub enum Shown {
    /// A map, drawn [over the image](overlay).
    Heat(Heatmap),
    /// Values of red, green and blue, drawn [around grey](signed): guided backprop.
    Signed([Heatmap; 3]),
}

impl Shown {
    /// What a method says of the image at `index` of a batch: the gradient where it has one, the
    /// map otherwise. `reach` as in [`Heatmap::new`].
    ///
    /// # Errors
    /// If the batch has no such image.
    pub fn new(explained: &Explained, index: usize, reach: impl Into<Reach>) -> Result<Self> {
        let reach = reach.into();
        let Some(gradients) = &explained.gradients else {
            return Ok(Self::Heat(Heatmap::from_tensor(&explained.maps.get(index)?, reach)?));
        };
        let gradient = gradients.get(index)?;
        let channel = |c: usize| Heatmap::from_tensor(&gradient.get(c)?, reach);
        Ok(Self::Signed([channel(0)?, channel(1)?, channel(2)?]))
    }

    /// The method's picture, of the image's size.
    pub fn draw(&self, image: &RgbImage, colours: ColourMap) -> RgbImage {
        match self {
            Self::Heat(map) => overlay(image, map, colours),
            Self::Signed(channels) => signed(channels, image.dimensions()),
        }
    }

    /// Whether there is nothing to see: one value everywhere.
    pub fn is_flat(&self) -> bool {
        match self {
            Self::Heat(map) => map.is_flat(),
            Self::Signed(channels) => channels.iter().all(Heatmap::is_flat),
        }
    }
}

/// A method's picture and its name.
#[derive(Clone, Debug, PartialEq)]
pub struct View {
    /// Stands above the picture; of a [flat](Shown::is_flat) one that it is flat, too.
    pub title: String,
    /// The picture.
    pub shown: Shown,
}

/// What stands below an image: the answer, and whether it is right.
#[derive(Clone, Debug, PartialEq)]
pub struct Caption {
    /// The answer and its probability.
    pub predicted: (String, f32),
    /// The true class and the probability that it was given, if it is known.
    pub truth: Option<(String, f32)>,
    /// More lines.
    pub notes: Vec<String>,
}

impl Caption {
    /// The answer and its probability, in 0 to 1.
    pub fn new(predicted: &str, probability: f32) -> Self {
        Self { predicted: (predicted.to_owned(), probability), truth: None, notes: Vec::new() }
    }

    /// The true class and the probability that it was given.
    #[must_use]
    pub fn truth(self, class: &str, probability: f32) -> Self {
        Self { truth: Some((class.to_owned(), probability)), ..self }
    }

    /// One more line.
    #[must_use]
    pub fn note(mut self, line: impl Into<String>) -> Self {
        self.notes.push(line.into());
        self
    }

    /// Whether the answer is right, if that is known.
    pub fn is_right(&self) -> Option<bool> {
        self.truth.as_ref().map(|(class, _)| *class == self.predicted.0)
    }

    /// The lines, each of at most `room` letters: long names are cut, so that the probability stays.
    pub(super) fn lines(&self, room: usize) -> Vec<String> {
        let line = |what: &str, (class, probability): &(String, f32)| {
            let share = format!(" {:.1} %", 100.0 * probability);
            let name = room.saturating_sub(what.len() + share.chars().count());
            text::cut(&format!("{what}{}{share}", text::cut(class, name)), room)
        };
        let mut lines = match self.is_right() {
            None => vec![line("", &self.predicted)],
            Some(true) => vec![line("right: ", &self.predicted)],
            Some(false) => vec![line("WRONG: ", &self.predicted)],
        };
        if let (Some(truth), Some(false)) = (&self.truth, self.is_right()) {
            lines.push(line("true:  ", truth));
        }
        lines.extend(self.notes.iter().map(|note| text::cut(note, room)));
        lines
    }

    /// Green, red, or dark grey if nobody knows.
    fn background(&self) -> Rgb<u8> {
        match self.is_right() {
            None => Rgb([73, 80, 87]),
            Some(true) => Rgb([28, 110, 56]),
            Some(false) => Rgb([192, 22, 30]),
        }
    }
}

/// How panels look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Style {
    /// The images' longer sides have this many pixels to twice as many: small ones are enlarged by
    /// whole factors, large ones made smaller.
    pub side: u32,
    /// The maps' colours.
    pub colours: ColourMap,
    /// Pixels between the pictures.
    pub gap: u32,
    /// Pictures side by side, at most; more of them stand in rows of about equal length.
    pub columns: usize,
}

impl Style {
    /// Pictures of one size in rows.
    fn arranged(&self, pictures: &[RgbImage]) -> RgbImage {
        let rows = pictures.len().div_ceil(self.columns.max(1));
        grid(pictures, pictures.len().div_ceil(rows.max(1)), self.gap)
    }
}

impl Default for Style {
    fn default() -> Self {
        Self { side: 256, colours: ColourMap::Jet, gap: 6, columns: usize::MAX }
    }
}

/// An image, what methods show of it, and the answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Panel {
    /// The image.
    pub image: RgbImage,
    /// The methods, from left to right.
    pub views: Vec<View>,
    /// The answer.
    pub caption: Caption,
}

impl Panel {
    /// The image and the methods' pictures, each under its name, and the answer below: on green if it
    /// is right, on red if it is wrong.
    pub fn draw(&self, style: &Style) -> RgbImage {
        const MARGIN: u32 = 6;
        let titles = self.titles();
        let tiles = self.pictures(style).into_iter().zip(&titles).map(|(picture, title)| {
            let (width, height) = picture.dimensions();
            let mut tile = RgbImage::from_pixel(width, LINE + height, WHITE);
            imageops::replace(&mut tile, &picture, 0, LINE.into());
            let title = text::cut(title, text::letters(width));
            text::write(&mut tile, (0, 1), &title, Weight::Regular, Rgb([0; 3]));
            tile
        });
        let tiles = style.arranged(&tiles.collect::<Vec<_>>());
        let (width, height) = tiles.dimensions();
        let lines = self.caption.lines(text::letters(width.saturating_sub(2 * MARGIN)));
        let foot = LINE * lines.len() as u32 + 4;
        let mut panel = RgbImage::from_pixel(width, height + foot, self.caption.background());
        imageops::replace(&mut panel, &tiles, 0, 0);
        for (place, line) in (0u32..).zip(&lines) {
            let weight = if place == 0 { Weight::Bold } else { Weight::Regular };
            let corner = (MARGIN, height + 4 + place * LINE);
            text::write(&mut panel, corner, line, weight, WHITE);
        }
        panel
    }

    /// The image and the methods' pictures without words: for pages, whose words are text.
    pub fn tiles(&self, style: &Style) -> RgbImage {
        style.arranged(&self.pictures(style))
    }

    /// The image and the methods' pictures, of one size.
    fn pictures(&self, style: &Style) -> Vec<RgbImage> {
        let image = fitted(self.image.clone(), style.side);
        let views = self.views.iter().map(|view| view.shown.draw(&image, style.colours));
        let mut pictures: Vec<_> = views.collect();
        pictures.insert(0, image);
        pictures
    }

    fn titles(&self) -> Vec<String> {
        let of = |view: &View| match view.shown.is_flat() {
            true => format!("{} (flat)", view.title),
            false => view.title.clone(),
        };
        std::iter::once("input".to_owned()).chain(self.views.iter().map(of)).collect()
    }
}
