//! Faces as simple drawings, in CelebA's official layout. What of an attribute is drawn, lies in a box that
//! is kept: `boxes.txt` has a line `IMAGE ATTRIBUTE LEFT TOP WIDTH HEIGHT` for each part of it.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::path::Path;

use abn_data::rng::{Purpose, Stream};
use abn_explain::faithfulness::Region;
use anyhow::{Context, Result, bail};
use rayon::prelude::*;

use super::canvas::{Colour, Extent, between, greyish, ground, one};
use super::{jpeg, put};

const SIDE: usize = 64;
/// Training, validation and test images.
const PARTITIONS: [usize; 3] = [2400, 300, 500];
const PARTITION: &str = "list_eval_partition.txt";
const BOXES: &str = "boxes.txt";
/// As CelebA calls them.
pub const ATTRIBUTES: [&str; 8] = [
    "Eyeglasses",
    "Goatee",
    "Mustache",
    "Rosy_Cheeks",
    "Smiling",
    "Wearing_Earrings",
    "Wearing_Hat",
    "Wearing_Necktie",
];

/// How far what is grey may be from it.
const TINT: u8 = 18;

/// Distinguishes faces from cars among the random streams.
const FACES: u64 = 0;

/// A drawing, its attributes and where each is drawn.
struct Face {
    pixels: Vec<u8>,
    present: [bool; ATTRIBUTES.len()],
    boxes: Vec<(usize, Extent)>,
}

/// Writes images, lists and boxes.
pub fn write(root: &Path, seed: u64) -> Result<()> {
    let count: usize = PARTITIONS.iter().sum();
    let faces: Vec<Face> = (0..count).into_par_iter().map(|n| draw(seed, n as u64)).collect();
    let name = |number: usize| format!("{:06}.jpg", number + 1);
    faces.par_iter().enumerate().try_for_each(|(number, face)| {
        put(&root.join("img_align_celeba").join(name(number)), &jpeg(&face.pixels, SIDE, SIDE)?)
    })?;
    let mut attributes = format!("{count}\n{} \n", ATTRIBUTES.join(" "));
    let (mut partitions, mut boxes) = (String::new(), String::new());
    for (number, face) in faces.iter().enumerate() {
        let name = name(number);
        let _ = write!(attributes, "{name}");
        for present in face.present {
            let _ = write!(attributes, " {:>2}", if present { 1 } else { -1 });
        }
        attributes.push('\n');
        let first = |partition: usize| PARTITIONS[..partition].iter().sum::<usize>();
        let partition = (1..PARTITIONS.len()).filter(|p| number >= first(*p)).count();
        let _ = writeln!(partitions, "{name} {partition}");
        for (attribute, Extent { left, top, width, height }) in &face.boxes {
            let attribute = ATTRIBUTES[*attribute];
            let _ = writeln!(boxes, "{name} {attribute} {left} {top} {width} {height}");
        }
    }
    put(&root.join("list_attr_celeba.txt"), attributes.as_bytes())?;
    put(&root.join(PARTITION), partitions.as_bytes())?;
    put(&root.join(BOXES), boxes.as_bytes())
}

/// Where the attributes of each test image are drawn, by image and attribute: nowhere, or in one or more boxes.
/// `None` of data that has no `boxes.txt`.
///
/// # Errors
/// If a file cannot be read, or a line of it is none of [`write`]'s.
pub fn boxes(root: &Path) -> Result<Option<Vec<Vec<Vec<Region>>>>> {
    let file = root.join(BOXES);
    if !file.exists() {
        return Ok(None);
    }
    let read = |name: &str| {
        let file = root.join(name);
        fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))
    };
    let partition = read(PARTITION)?;
    let test = partition.lines().filter_map(|line| line.strip_suffix(" 2"));
    let places: BTreeMap<&str, usize> = test.enumerate().map(|(i, name)| (name, i)).collect();
    let mut boxes = vec![vec![Vec::new(); ATTRIBUTES.len()]; places.len()];
    for (number, line) in read(BOXES)?.lines().enumerate() {
        let fields: Vec<_> = line.split(' ').collect();
        let sides: Option<Vec<usize>> =
            fields.iter().skip(2).map(|field| field.parse().ok()).collect();
        let attribute = fields.get(1).and_then(|name| ATTRIBUTES.iter().position(|a| a == name));
        let (Some(attribute), Some([left, top, width, height])) = (attribute, sides.as_deref())
        else {
            bail!(
                "{}, line {}: expected `IMAGE ATTRIBUTE LEFT TOP WIDTH HEIGHT`, found {line:?}",
                file.display(),
                number + 1
            );
        };
        if let Some(&place) = places.get(fields[0]) {
            let (right, bottom) = (left + width, top + height);
            let region = Region { left: *left, top: *top, right, bottom };
            boxes[place][attribute].push(region);
        }
    }
    Ok(Some(boxes))
}

/// A colour that differs by little from this one.
fn near(random: &mut Stream, colour: Colour) -> Colour {
    colour.map(|value| value.saturating_sub(10).saturating_add(random.below(21) as u8))
}

/// Each attribute is there half of the time, whatever the others are; nothing else depends on them. Each has a
/// colour of its own, and all else is greyish or of the colours of skin and hair, so that small networks learn in
/// minutes what to look for.
///
/// The attributes are filled shapes, none of them thin or wide. Where the attention branch's score is a map's maximum, one
/// cell that sees the attribute is enough, and it sees far: in ResNet-8 at 32×32, 42 of these pixels to a side in
/// theory and a third of that with some weight. The cell is on the attribute only if what it sees there is most of
/// the attribute: of a thin frame's glasses or of a hat as wide as the picture's half, it may be the one beside it.
fn draw(seed: u64, number: u64) -> Face {
    let random = &mut Stream::new(Purpose::Synthetic, seed, FACES, number);
    let present: [bool; ATTRIBUTES.len()] = std::array::from_fn(|_| random.coin());
    let has = |name: &str| ATTRIBUTES.iter().zip(present).any(|(a, present)| *a == name && present);
    let plain = greyish(random, 60, 235, TINT);
    let mut canvas = ground(SIDE, SIDE, plain, random);
    let mut boxes = Vec::new();
    let mut keep = |name: &str, drawn: Option<Extent>| {
        let attribute = ATTRIBUTES.iter().position(|attribute| *attribute == name);
        boxes.extend(attribute.zip(drawn));
    };

    // `u` is the unit that everything is measured in: the face is 13 by 17 of them, to both sides.
    let u = between(random, 0.85, 1.12);
    let (x, y) = (32.0 + between(random, -5.0, 5.0), 33.0 + between(random, -4.0, 4.0));
    let at = |dx: f32, dy: f32| (x + dx * u, y + dy * u);
    let shade = between(random, 0.35, 1.0);
    let skin = [235.0, 190.0, 155.0].map(|v: f32| (v * shade) as u8);
    let darker = |by: f32| skin.map(|v| (f32::from(v) * by) as u8);
    let hair =
        one(random, [[30, 22, 18], [92, 58, 30], [200, 165, 90], [130, 130, 130], [140, 60, 30]]);
    let shirt = greyish(random, 30, 220, TINT);

    // Shoulders, neck, and what may hang on it.
    canvas.ellipse(at(0.0, 30.0), (24.0 * u, 13.0 * u), shirt);
    canvas.rectangle(at(0.0, 16.0), (5.0 * u, 5.0 * u), darker(0.85));
    canvas.drawn();
    if has("Wearing_Necktie") {
        let tie = near(random, [0, 190, 190]);
        canvas.trapezoid(at(0.0, 21.2), (3.6 * u, 2.2 * u), 2.0 * u, tie);
        canvas.trapezoid(at(0.0, 27.5), (2.2 * u, 4.6 * u), 4.6 * u, tie);
        keep("Wearing_Necktie", canvas.drawn());
    }
    // Hair behind the head, ears, head.
    let long = between(random, 0.0, 5.0);
    canvas.ellipse(at(0.0, -3.0 + long * 0.5), (14.5 * u, (15.5 + long * 0.5) * u), hair);
    for side in [-1.0, 1.0] {
        canvas.ellipse(at(13.0 * side, 0.0), (2.6 * u, 3.6 * u), darker(0.92));
    }
    canvas.ellipse(at(0.0, 0.0), (12.5 * u, 16.5 * u), skin);
    canvas.drawn();
    if has("Wearing_Earrings") {
        let gold = near(random, [245, 235, 20]);
        for side in [-1.0, 1.0] {
            canvas.ellipse(at(14.6 * side, 6.8), (3.0 * u, 3.8 * u), gold);
            keep("Wearing_Earrings", canvas.drawn());
        }
    }
    if has("Rosy_Cheeks") {
        let rose = near(random, [245, 60, 160]);
        for side in [-1.0, 1.0] {
            canvas.ellipse(at(7.6 * side, 4.8), (3.5 * u, 2.8 * u), rose);
            keep("Rosy_Cheeks", canvas.drawn());
        }
    }
    // Eyes, brows, nose.
    let iris = one(random, [[60, 40, 25], [60, 100, 160], [70, 120, 70]]);
    let gaze = between(random, -0.6, 0.6);
    for side in [-1.0, 1.0] {
        canvas.ellipse(at(5.0 * side, -2.6), (2.5 * u, 1.6 * u), [245, 245, 245]);
        canvas.ellipse(at(5.0 * side + gaze, -2.6), (1.2 * u, 1.3 * u), iris);
        canvas.bow(at(5.0 * side, -6.2), 3.0 * u, -0.8 * u, 1.0 * u, hair);
    }
    canvas.trapezoid(at(0.0, 1.6), (0.7 * u, 1.9 * u), 2.6 * u, darker(0.82));
    canvas.drawn();
    if has("Eyeglasses") {
        let frame = near(random, [30, 60, 235]);
        for side in [-1.0, 1.0] {
            canvas.ellipse(at(5.3 * side, -2.4), (4.7 * u, 4.2 * u), frame);
            canvas.rectangle(at(10.9 * side, -3.2), (1.7 * u, 0.8 * u), frame);
        }
        canvas.rectangle(at(0.0, -3.2), (1.1 * u, 0.8 * u), frame);
        keep("Eyeglasses", canvas.drawn());
    }
    if has("Mustache") {
        let dark = near(random, [105, 20, 150]);
        canvas.bow(at(0.0, 6.0), 5.4 * u, -1.6 * u, 3.4 * u, dark);
        keep("Mustache", canvas.drawn());
    }
    match has("Smiling") {
        true => {
            let lips = near(random, [225, 25, 30]);
            canvas.bow(at(0.0, 9.6), 6.2 * u, 4.0 * u, 3.0 * u, lips);
            keep("Smiling", canvas.drawn());
        }
        false => {
            let bend = between(random, -1.8, 0.0);
            canvas.bow(at(0.0, 9.3), 4.4 * u, bend * u, 1.6 * u, darker(0.7));
        }
    }
    canvas.drawn();
    if has("Goatee") {
        canvas.ellipse(at(0.0, 16.0), (4.6 * u, 3.4 * u), near(random, [20, 120, 40]));
        keep("Goatee", canvas.drawn());
    }
    // A fringe, over which a hat may sit.
    canvas.paint(at(0.0, -11.0), (12.0 * u, 6.5 * u), hair, |dx, dy| {
        let (dx, dy) = (dx / u, dy / u - 11.0);
        dx * dx / 156.0 + dy * dy / 272.0 <= 1.0 && dy < -9.5 - dx * dx / 60.0
    });
    canvas.drawn();
    if has("Wearing_Hat") {
        let felt = near(random, [250, 130, 10]);
        let band = greyish(random, 10, 230, TINT);
        canvas.trapezoid(at(0.0, -15.8), (7.0 * u, 9.0 * u), 4.4 * u, felt);
        canvas.rectangle(at(0.0, -12.6), (8.8 * u, 0.8 * u), band);
        canvas.ellipse(at(0.0, -11.0), (13.0 * u, 1.8 * u), felt);
        keep("Wearing_Hat", canvas.drawn());
    }
    Face { pixels: canvas.developed(5, random), present, boxes }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_attribute_has_a_box_if_and_only_if_it_is_there() {
        for number in 0..200 {
            let face = draw(0, number);
            for attribute in 0..ATTRIBUTES.len() {
                let boxes: Vec<_> = face.boxes.iter().filter(|(a, _)| *a == attribute).collect();
                assert_eq!(face.present[attribute], !boxes.is_empty(), "{number}");
                for (_, extent) in boxes {
                    let Extent { left, top, width, height } = *extent;
                    assert!(left + width <= SIDE && top + height <= SIDE, "{extent:?}");
                    // Small enough that looking there is no chance, large enough to be seen.
                    let share = (width * height) as f32 / (SIDE * SIDE) as f32;
                    assert!((0.002..0.2).contains(&share), "{}: {extent:?}", ATTRIBUTES[attribute]);
                }
            }
        }
    }

    /// Only what is inside an attribute's boxes depends on it: its colours come from the same stream, so the
    /// drawing is compared by how often each attribute is there.
    #[test]
    fn every_attribute_is_there_half_of_the_time() {
        let mut counts = [0; ATTRIBUTES.len()];
        for number in 0..400 {
            for (count, present) in counts.iter_mut().zip(draw(0, number).present) {
                *count += u32::from(present);
            }
        }
        assert!(counts.iter().all(|count| (150..250).contains(count)), "{counts:?}");
    }
}
