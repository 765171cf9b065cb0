//! Maps as pictures: over the image, in panels of several methods, in sheets of several images.
//!
//! ```
//! use abn_explain::pictures::{Caption, ColourMap, Heatmap, Panel, Shown, Style, View, sheet};
//! use image::RgbImage;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let image = RgbImage::new(32, 32);
//! let map = Heatmap::new(2, 2, vec![0.1, 0.9, 0.3, 0.2], 1.0)?;
//! let panel = Panel {
//!     image,
//!     views: vec![View { title: "attention".into(), shown: Shown::Heat(map) }],
//!     caption: Caption::new("shirt", 0.853).truth("coat", 0.102),
//! };
//! let style = Style { side: 128, colours: ColourMap::Viridis, ..Style::default() };
//! let picture = sheet(&[panel.draw(&style)], 1); // an `image::RgbImage`
//! assert_eq!(picture.width(), 2 * 128 + style.gap);
//! # Ok(())
//! # }
//! ```

mod colours;
mod heatmap;
mod mask;
mod overlay;
mod panel;
mod sheet;
mod size;
#[cfg(test)]
mod tests;
mod text;

pub use colours::ColourMap;
pub use heatmap::{Heatmap, Reach};
pub use mask::from_mask;
pub use overlay::{ALPHA, overlay, signed};
pub use panel::{Caption, Panel, Shown, Style, View};
pub use sheet::{png, sheet};
pub use size::{enlarged, fitted};
