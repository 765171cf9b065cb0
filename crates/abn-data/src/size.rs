//! Heights and widths.

use std::fmt;

/// The size of an image, in pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    /// Rows.
    pub height: usize,
    /// Columns.
    pub width: usize,
}

impl Size {
    /// As high as wide.
    pub const fn square(side: usize) -> Self {
        Self { height: side, width: side }
    }

    /// The shorter side.
    pub fn shorter(&self) -> usize {
        self.height.min(self.width)
    }

    /// The size of this shape, to the nearest pixel, whose shorter side is `side`.
    pub fn with_shorter(&self, side: usize) -> Self {
        let shorter = self.shorter().max(1);
        let scaled = |length: usize| (length * side + shorter / 2) / shorter;
        Self { height: scaled(self.height), width: scaled(self.width) }
    }
}

impl From<usize> for Size {
    fn from(side: usize) -> Self {
        Self::square(side)
    }
}

/// `height×width`, as shapes are written.
impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}×{}", self.height, self.width)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shape_is_kept_to_the_nearest_pixel() {
        let cars = Size { height: 224, width: 323 };
        assert_eq!(cars.with_shorter(224), cars);
        assert_eq!(cars.with_shorter(64), Size { height: 64, width: 92 });
        assert_eq!(
            Size { height: 323, width: 224 }.with_shorter(32),
            Size { height: 46, width: 32 }
        );
        assert_eq!(Size::square(32).with_shorter(224), 224.into());
        assert_eq!(cars.to_string(), "224×323");
    }
}
