//! Simple shapes, smoothed at their edges, and the box that was drawn in.

use abn_data::rng::Stream;

/// Red, green and blue.
pub type Colour = [u8; 3];

/// Samples along each axis of a pixel.
const FINE: usize = 3;

/// Pixels that something was drawn on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// First column.
    pub left: usize,
    /// First row.
    pub top: usize,
    /// Columns.
    pub width: usize,
    /// Rows.
    pub height: usize,
}

/// A picture; places are in pixels, from the top left corner of the first.
pub struct Canvas {
    width: usize,
    height: usize,
    fine: Vec<Colour>,
    /// First column and row, and those after the last, in samples; none is drawn on if empty.
    dirty: [usize; 4],
}

impl Canvas {
    pub fn new(width: usize, height: usize, ground: Colour) -> Self {
        let fine = vec![ground; width * FINE * height * FINE];
        Self { width, height, fine, dirty: [usize::MAX, usize::MAX, 0, 0] }
    }

    /// Paints where `inside` says so, of what lies in a box around (x, y).
    pub fn paint(
        &mut self,
        (x, y): (f32, f32),
        (half_width, half_height): (f32, f32),
        colour: Colour,
        inside: impl Fn(f32, f32) -> bool,
    ) {
        let range = |centre: f32, half: f32, size: usize| {
            let fine = FINE as f32;
            let first = ((centre - half) * fine).floor().clamp(0.0, (size * FINE) as f32);
            let last = ((centre + half) * fine).ceil().clamp(0.0, (size * FINE) as f32);
            first as usize..last as usize
        };
        for row in range(y, half_height, self.height) {
            for column in range(x, half_width, self.width) {
                let place = |at: usize| (at as f32 + 0.5) / FINE as f32;
                if inside(place(column) - x, place(row) - y) {
                    self.fine[row * self.width * FINE + column] = colour;
                    let [left, top, right, bottom] = self.dirty;
                    self.dirty = [
                        left.min(column),
                        top.min(row),
                        right.max(column + 1),
                        bottom.max(row + 1),
                    ];
                }
            }
        }
    }

    pub fn ellipse(&mut self, centre: (f32, f32), radii: (f32, f32), colour: Colour) {
        let inside = move |x: f32, y: f32| {
            (x / radii.0) * (x / radii.0) + (y / radii.1) * (y / radii.1) <= 1.0
        };
        self.paint(centre, radii, colour, inside);
    }

    /// The ring between an ellipse and one that is smaller by `thick`.
    pub fn ring(&mut self, centre: (f32, f32), radii: (f32, f32), thick: f32, colour: Colour) {
        let within =
            |x: f32, y: f32, (rx, ry): (f32, f32)| (x / rx) * (x / rx) + (y / ry) * (y / ry) <= 1.0;
        let inner = ((radii.0 - thick).max(0.01), (radii.1 - thick).max(0.01));
        self.paint(centre, radii, colour, move |x, y| within(x, y, radii) && !within(x, y, inner));
    }

    pub fn rectangle(&mut self, centre: (f32, f32), half: (f32, f32), colour: Colour) {
        self.paint(centre, half, colour, move |x, y| x.abs() <= half.0 && y.abs() <= half.1);
    }

    /// A part of the height `2·half_height` whose half widths are `upper` at its top and `lower` below.
    pub fn trapezoid(
        &mut self,
        centre: (f32, f32),
        (upper, lower): (f32, f32),
        half_height: f32,
        colour: Colour,
    ) {
        let widest = upper.max(lower);
        self.paint(centre, (widest, half_height), colour, move |x, y| {
            let down = (y + half_height) / (2.0 * half_height);
            x.abs() <= upper + (lower - upper) * down && y.abs() <= half_height
        });
    }

    /// A bow of parabola: `bend` pixels lower in its middle than at its ends.
    pub fn bow(&mut self, centre: (f32, f32), half: f32, bend: f32, thick: f32, colour: Colour) {
        let reach = bend.abs() + thick;
        self.paint(centre, (half, reach), colour, move |x, y| {
            let share = x / half;
            (y - bend * (0.5 - share * share)).abs() <= thick / 2.0
        });
    }

    /// The box of what was drawn since this was last asked, if anything was.
    pub fn drawn(&mut self) -> Option<Extent> {
        let [left, top, right, bottom] =
            std::mem::replace(&mut self.dirty, [usize::MAX, usize::MAX, 0, 0]);
        if left >= right {
            return None;
        }
        let (left, top) = (left / FINE, top / FINE);
        let (right, bottom) = (right.div_ceil(FINE), bottom.div_ceil(FINE));
        Some(Extent { left, top, width: right - left, height: bottom - top })
    }

    /// The picture's bytes, (H, W, 3), with noise of at most `noise`.
    pub fn developed(&self, noise: u32, random: &mut Stream) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.width * self.height * 3);
        for row in 0..self.height {
            for column in 0..self.width {
                for channel in 0..3 {
                    let mut sum = 0;
                    for y in 0..FINE {
                        for x in 0..FINE {
                            let at = (row * FINE + y) * self.width * FINE + column * FINE + x;
                            sum += i32::from(self.fine[at][channel]);
                        }
                    }
                    let mean = sum / (FINE * FINE) as i32;
                    let noise = random.below(2 * noise + 1) as i32 - noise as i32;
                    bytes.push((mean + noise).clamp(0, 255) as u8);
                }
            }
        }
        bytes
    }
}

/// A number from `low` to `high`, in steps of a thousandth of their distance.
pub fn between(random: &mut Stream, low: f32, high: f32) -> f32 {
    low + (high - low) * random.below(1001) as f32 / 1000.0
}

/// A colour with each channel from `low` to `high`.
pub fn colour(random: &mut Stream, low: u8, high: u8) -> Colour {
    [(); 3].map(|()| low + random.below(u32::from(high - low) + 1) as u8)
}

/// A grey from `low` to `high`, each channel off by at most `tint`.
pub fn greyish(random: &mut Stream, low: u8, high: u8, tint: u8) -> Colour {
    let [grey, ..] = colour(random, low, high);
    [(); 3].map(|()| {
        let off = random.below(2 * u32::from(tint) + 1) as u8;
        grey.saturating_sub(tint).saturating_add(off)
    })
}

/// One of these.
pub fn one<T: Copy, const N: usize>(random: &mut Stream, of: [T; N]) -> T {
    of[random.below(N as u32) as usize]
}

/// A background: plain, with some large spots that mean nothing.
pub fn ground(width: usize, height: usize, plain: Colour, random: &mut Stream) -> Canvas {
    let mut canvas = Canvas::new(width, height, plain);
    for _ in 0..random.below(5) {
        let place = (between(random, 0.0, width as f32), between(random, 0.0, height as f32));
        let radii = (between(random, 4.0, 18.0), between(random, 4.0, 18.0));
        let shade =
            plain.map(|value| value.saturating_sub(20).saturating_add(random.below(41) as u8));
        match random.coin() {
            true => canvas.ellipse(place, radii, shade),
            false => canvas.rectangle(place, radii, shade),
        }
    }
    canvas.drawn();
    canvas
}

#[cfg(test)]
mod tests {
    use super::*;
    use abn_data::rng::Purpose;

    #[test]
    fn the_box_is_that_of_what_was_drawn() {
        let mut canvas = Canvas::new(20, 10, [0; 3]);
        assert_eq!(canvas.drawn(), None);
        canvas.rectangle((5.0, 4.0), (2.0, 1.0), [255; 3]);
        let extent = Extent { left: 3, top: 3, width: 4, height: 2 };
        assert_eq!((canvas.drawn(), canvas.drawn()), (Some(extent), None));
        // What is off the picture does not count.
        canvas.ellipse((19.0, 9.0), (3.0, 3.0), [255; 3]);
        let extent = Extent { left: 16, top: 6, width: 4, height: 4 };
        assert_eq!(canvas.drawn(), Some(extent));
        canvas.ellipse((40.0, 40.0), (3.0, 3.0), [255; 3]);
        assert_eq!(canvas.drawn(), None);
        let mut random = Stream::new(Purpose::Synthetic, 0, 0, 0);
        let bytes = canvas.developed(0, &mut random);
        assert_eq!(bytes.len(), 600);
        assert_eq!((bytes[(3 * 20 + 3) * 3], bytes[(3 * 20 + 7) * 3]), (255, 0));
    }

    #[test]
    fn a_bow_is_lower_in_its_middle() {
        let mut canvas = Canvas::new(20, 20, [0; 3]);
        canvas.bow((10.0, 10.0), 8.0, 6.0, 1.5, [200; 3]);
        let mut random = Stream::new(Purpose::Synthetic, 0, 0, 0);
        let bytes = canvas.developed(0, &mut random);
        let row = |column: usize| {
            let dark = |row: &usize| bytes[(row * 20 + column) * 3];
            (0..20).max_by_key(dark).unwrap()
        };
        assert!(
            row(10) > row(3) + 3 && row(10) > row(16) + 3,
            "{} {} {}",
            row(3),
            row(10),
            row(16)
        );
    }
}
