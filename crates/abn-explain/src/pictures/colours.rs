//! Colours of a map's values.

use std::fmt;
use std::str::FromStr;

use image::Rgb;

use crate::{Error, Result};

/// Which colours a map's values get.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ColourMap {
    /// Dark blue, blue, cyan, yellow, red, dark red: Matlab's and the paper's. Its steps look larger
    /// at cyan and yellow than elsewhere.
    #[default]
    Jet,
    /// Dark violet, green, yellow: matplotlib's default. Equal steps look equal, in grey too.
    Viridis,
}

impl ColourMap {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Jet, Self::Viridis];

    /// The colour of a value in 0 to 1; what lies outside has the nearer end's, and what is no
    /// number that of 0.
    pub fn colour(self, value: f32) -> Rgb<u8> {
        let value = if value.is_nan() { 0.0 } else { value.clamp(0.0, 1.0) };
        match self {
            Self::Jet => {
                // Each channel is a trapezium of height 1 around its own centre.
                let channel = |centre: f32| {
                    let height = (1.5 - (4.0 * value - centre).abs()).clamp(0.0, 1.0);
                    (255.0 * height).round() as u8
                };
                Rgb([channel(3.0), channel(2.0), channel(1.0)])
            }
            Self::Viridis => {
                let colour = colorous::VIRIDIS.eval_continuous(f64::from(value));
                Rgb([colour.r, colour.g, colour.b])
            }
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Jet => "jet",
            Self::Viridis => "viridis",
        }
    }
}

impl fmt::Display for ColourMap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for ColourMap {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        Self::ALL.into_iter().find(|colours| colours.name() == name).ok_or_else(|| {
            let known = Self::ALL.map(Self::name).join(", ");
            Error::UnknownColours { name: name.to_owned(), known }
        })
    }
}
