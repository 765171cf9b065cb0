//! Cars as simple drawings, in CompCars' official layout. A car's badge tells the maker; its roof, its lights and
//! its wheels tell which of the maker's models it is. Colour, place, size and view tell neither.

use std::path::Path;

use abn_data::rng::{Purpose, Stream};
use anyhow::Result;
use rayon::prelude::*;

use super::canvas::{Canvas, Colour, Extent, between, colour, ground};
use super::{jpeg, mat, put};

const WIDTH: usize = 96;
const HEIGHT: usize = 64;
/// Images of each model to train and to test on.
const TRAIN: usize = 250;
const TEST: usize = 60;
/// Makers by number, as in a list with gaps; the badge's shape is their name.
const MAKERS: [(usize, &str); 4] = [(2, "Annulus"), (3, "Barra"), (6, "Delta"), (7, "Rombo")];
/// A maker's models, by roof, lights and wheels.
const KINDS: [&str; 3] = ["Coupe", "Sedan", "Van"];
/// Views by CompCars' numbers.
const VIEWS: [i32; 4] = [1, 2, 3, 4];
const CARS: u64 = 1;

/// A car of a list.
struct Car {
    view: i32,
    path: String,
    pixels: Vec<u8>,
    extent: Extent,
}

/// Writes images, labels, lists and names.
pub fn write(root: &Path, seed: u64) -> Result<()> {
    let models = MAKERS.len() * KINDS.len();
    let (train, test) = (TRAIN * models, TEST * models);
    let cars: Vec<Car> = (0..train + test).into_par_iter().map(|n| draw(seed, n)).collect();
    cars.par_iter().try_for_each(|car| {
        put(&root.join("image").join(&car.path), &jpeg(&car.pixels, WIDTH, HEIGHT)?)?;
        let Extent { left, top, width, height } = car.extent;
        let (right, bottom) = (left + width, top + height);
        let label = format!("{}\n1\n{} {} {right} {bottom}\n", car.view, left + 1, top + 1);
        put(&root.join("label").join(&car.path).with_extension("txt"), label.as_bytes())
    })?;
    let list = |cars: &[Car]| cars.iter().map(|car| format!("{}\n", car.path)).collect::<String>();
    let lists = root.join("train_test_split/classification");
    put(&lists.join("train.txt"), list(&cars[..train]).as_bytes())?;
    put(&lists.join("test.txt"), list(&cars[train..]).as_bytes())?;
    let mut makers = vec![""; 8];
    let mut names = vec![String::new(); 40];
    for (place, (number, name)) in MAKERS.iter().enumerate() {
        makers[number - 1] = name;
        for (kind, kind_name) in KINDS.iter().enumerate() {
            names[model_number(place, kind) - 1] = format!("{name} {kind_name}");
        }
    }
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let tables = mat::cells(&[("make_names", &makers), ("model_names", &names)]);
    put(&root.join("misc/make_model_name.mat"), &tables)
}

fn model_number(maker: usize, kind: usize) -> usize {
    3 + 10 * kind + 2 * maker
}

fn draw(seed: u64, number: usize) -> Car {
    let random = &mut Stream::new(Purpose::Synthetic, seed, CARS, number as u64);
    let model = number % (MAKERS.len() * KINDS.len());
    let (maker, kind) = (model / KINDS.len(), model % KINDS.len());
    let view = VIEWS[random.below(VIEWS.len() as u32) as usize];
    let plain = colour(random, 60, 235);
    let mut canvas = ground(WIDTH, HEIGHT, plain, random);
    let grey = 70 + random.below(60) as u8;
    canvas.rectangle((48.0, 58.0), (48.0, between(random, 10.0, 18.0)), [grey; 3]);
    canvas.drawn();
    let pen = Pen {
        u: between(random, 0.85, 1.1),
        x: 48.0 + between(random, -6.0, 6.0),
        y: 36.0 + between(random, -4.0, 4.0),
        paint: colour(random, 25, 225),
        maker,
        kind,
    };
    match view {
        1 => pen.front(&mut canvas, 0.0, 20.0, false),
        2 => pen.front(&mut canvas, 0.0, 20.0, true),
        3 => pen.side(&mut canvas, 0.0, 36.0),
        _ => {
            // Three quarters: the side, foreshortened, and the front beside it.
            pen.side(&mut canvas, -10.0, 24.0);
            pen.front(&mut canvas, 21.0, 13.0, false);
        }
    }
    let extent = canvas.drawn().unwrap_or(Extent { left: 0, top: 0, width: WIDTH, height: HEIGHT });
    let year = 2009 + random.below(7);
    let path = format!("{}/{}/{year}/{number:05}.jpg", MAKERS[maker].0, model_number(maker, kind));
    Car { view, path, pixels: canvas.developed(5, random), extent }
}

/// Where and how large a car is drawn, and which.
struct Pen {
    u: f32,
    x: f32,
    y: f32,
    paint: Colour,
    maker: usize,
    kind: usize,
}

const GLASS: Colour = [45, 55, 70];
const DARK: Colour = [22, 22, 24];

impl Pen {
    fn at(&self, dx: f32, dy: f32) -> (f32, f32) {
        (self.x + dx * self.u, self.y + dy * self.u)
    }

    fn len(&self, length: f32) -> f32 {
        length * self.u
    }

    fn shaded(&self, by: f32) -> Colour {
        self.paint.map(|value| (f32::from(value) * by) as u8)
    }

    /// Height of the roof over the body, and half widths above and below, of half lengths.
    fn roof(&self) -> (f32, f32, f32) {
        [(6.0, 0.28, 0.72), (7.5, 0.42, 0.70), (10.0, 0.72, 0.84)][self.kind]
    }

    /// From the side: `half` its length.
    fn side(&self, canvas: &mut Canvas, dx: f32, half: f32) {
        let (height, above, below) = self.roof();
        let roof = self.at(dx - half * 0.08, -4.0 - height / 2.0);
        let widths = (self.len(half * above), self.len(half * below));
        canvas.trapezoid(roof, widths, self.len(height / 2.0), self.paint);
        let inner = (widths.0 - self.len(2.0), widths.1 - self.len(3.0));
        canvas.trapezoid(roof, inner, self.len(height / 2.0 - 1.6), GLASS);
        canvas.rectangle(roof, (self.len(0.8), self.len(height / 2.0)), self.paint);
        canvas.rectangle(self.at(dx, 2.0), (self.len(half), self.len(6.0)), self.paint);
        canvas.rectangle(self.at(dx, 7.0), (self.len(half), self.len(1.2)), self.shaded(0.6));
        for side in [-0.6, 0.6] {
            self.wheel(canvas, self.at(dx + half * side, 8.0), half / 36.0);
        }
        // The lights' edges: front at the right, rear at the left.
        self.light(canvas, self.at(dx + half - 2.2, 0.0), 0.75, [250, 240, 190]);
        self.light(canvas, self.at(dx - half + 2.2, 0.0), 0.75, [200, 25, 30]);
        self.badge(canvas, self.at(dx + half * 0.12, 1.5), 3.6);
    }

    /// From the front or the rear: `half` its width.
    fn front(&self, canvas: &mut Canvas, dx: f32, half: f32, rear: bool) {
        let (height, above, below) = self.roof();
        let roof = self.at(dx, -4.0 - height / 2.0);
        let widths = (self.len(half * (above + 0.25).min(0.9)), self.len(half * (below + 0.12)));
        for side in [-0.78, 0.78] {
            canvas.rectangle(
                self.at(dx + half * side, 11.0),
                (self.len(half * 0.16), self.len(4.0)),
                DARK,
            );
        }
        canvas.trapezoid(roof, widths, self.len(height / 2.0), self.shaded(0.9));
        let inner = (widths.0 - self.len(1.8), widths.1 - self.len(2.6));
        canvas.trapezoid(roof, inner, self.len(height / 2.0 - 1.4), GLASS);
        canvas.rectangle(self.at(dx, 3.0), (self.len(half), self.len(7.5)), self.shaded(0.9));
        canvas.rectangle(self.at(dx, 9.5), (self.len(half), self.len(1.5)), self.shaded(0.55));
        let shine = if rear { [200, 25, 30] } else { [250, 240, 190] };
        for side in [-0.72, 0.72] {
            self.light(canvas, self.at(dx + half * side, 0.0), half / 20.0, shine);
        }
        self.badge(
            canvas,
            self.at(dx, if rear { -0.5 } else { 2.5 }),
            4.4 * (half / 20.0).max(0.8),
        );
        let plate = self.at(dx, if rear { 7.0 } else { 8.6 });
        canvas.rectangle(plate, (self.len(half * 0.3), self.len(1.4)), [235, 235, 230]);
    }

    /// Round, square or a slit, by the model; `wide` is its width over that of a whole one.
    fn light(&self, canvas: &mut Canvas, at: (f32, f32), wide: f32, shine: Colour) {
        let wide = self.len(wide);
        match self.kind {
            0 => canvas.ellipse(at, (3.0 * wide, self.len(3.0)), shine),
            1 => canvas.rectangle(at, (2.6 * wide, self.len(2.6)), shine),
            _ => canvas.rectangle(at, (4.4 * wide, self.len(1.1)), shine),
        }
    }

    /// Its rim is a ring, a disc or a cross, by the model.
    fn wheel(&self, canvas: &mut Canvas, at: (f32, f32), wide: f32) {
        let radii = |r: f32| (self.len(r * wide.max(0.75)), self.len(r));
        canvas.ellipse(at, radii(5.4), DARK);
        let rim = [205, 208, 212];
        match self.kind {
            0 => canvas.ring(at, radii(3.8), self.len(1.2), rim),
            1 => canvas.ellipse(at, radii(3.0), rim),
            _ => {
                canvas.rectangle(at, (radii(3.8).0, self.len(0.8)), rim);
                canvas.rectangle(at, (self.len(0.8), radii(3.8).1), rim);
            }
        }
    }

    /// Dark on a white plate: ring, bars, triangle or rhombus, by the maker.
    fn badge(&self, canvas: &mut Canvas, at: (f32, f32), size: f32) {
        let size = self.len(size);
        canvas.ellipse(at, (size, size), [248, 248, 248]);
        let inner = size * 0.72;
        match self.maker {
            0 => canvas.ring(at, (inner, inner), inner * 0.45, DARK),
            1 => {
                for row in [-0.55, 0.55] {
                    let bar = (at.0, at.1 + row * inner);
                    canvas.rectangle(bar, (inner * 0.85, inner * 0.26), DARK);
                }
            }
            2 => canvas.trapezoid(at, (0.0, inner), inner * 0.8, DARK),
            _ => canvas.paint(at, (inner, inner), DARK, |x, y| x.abs() + y.abs() <= inner),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_model_is_seen_from_everywhere_in_both_lists() {
        let mut seen = std::collections::BTreeMap::new();
        for number in 0..480 {
            let car = draw(0, number);
            let model = car.path.split('/').take(2).collect::<Vec<_>>().join("/");
            *seen.entry((model, car.view)).or_insert(0) += 1;
            let Extent { left, top, width, height } = car.extent;
            assert!(left + width <= WIDTH && top + height <= HEIGHT, "{number}");
            assert!(width >= 25 && height >= 15, "{number}: {:?}", car.extent);
        }
        assert_eq!(seen.len(), MAKERS.len() * KINDS.len() * VIEWS.len(), "{seen:?}");
    }

    /// Two makers' cars of one model, drawn by one stream, differ at the badge only.
    #[test]
    fn only_the_badge_tells_the_maker() {
        let picture = |maker| {
            let pen = Pen { u: 1.0, x: 48.0, y: 36.0, paint: [90, 120, 60], maker, kind: 1 };
            let mut canvas = Canvas::new(WIDTH, HEIGHT, [200; 3]);
            pen.side(&mut canvas, 0.0, 36.0);
            canvas.developed(0, &mut Stream::new(Purpose::Synthetic, 0, CARS, 0))
        };
        let (one, other) = (picture(0), picture(3));
        let differ: Vec<_> = (0..one.len()).filter(|&i| one[i] != other[i]).collect();
        assert!(!differ.is_empty());
        for at in differ {
            let (column, row) = (at / 3 % WIDTH, at / 3 / WIDTH);
            assert!((48..58).contains(&column) && (33..42).contains(&row), "{column}, {row}");
        }
    }
}
