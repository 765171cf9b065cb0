//! Faces as simple drawings, in CelebA's official layout. What of an attribute is drawn, lies in a box that
//! is kept: `boxes.txt` has a line `IMAGE ATTRIBUTE LEFT TOP WIDTH HEIGHT` for each part of it.

use std::fmt::Write;
use std::path::Path;

use abn_data::rng::{Purpose, Stream};
use anyhow::Result;
use rayon::prelude::*;

use super::canvas::{Extent, between, colour, ground, one};
use super::{jpeg, put};

const SIDE: usize = 64;
/// Training, validation and test images.
const PARTITIONS: [usize; 3] = [2400, 300, 500];
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
    put(&root.join("list_eval_partition.txt"), partitions.as_bytes())?;
    put(&root.join("boxes.txt"), boxes.as_bytes())
}

/// Each attribute is there half of the time, whatever the others are; nothing else depends on them.
fn draw(seed: u64, number: u64) -> Face {
    let random = &mut Stream::new(Purpose::Synthetic, seed, FACES, number);
    let present: [bool; ATTRIBUTES.len()] = std::array::from_fn(|_| random.coin());
    let has = |name: &str| ATTRIBUTES.iter().zip(present).any(|(a, present)| *a == name && present);
    let mut canvas = ground(SIDE, SIDE, random);
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
    let shirt = colour(random, 30, 220);

    // Shoulders, neck, and what may hang on it.
    canvas.ellipse(at(0.0, 30.0), (24.0 * u, 13.0 * u), shirt);
    canvas.rectangle(at(0.0, 16.0), (5.0 * u, 5.0 * u), darker(0.85));
    canvas.drawn();
    if has("Wearing_Necktie") {
        let tie = colour(random, 10, 120);
        canvas.trapezoid(at(0.0, 21.5), (2.6 * u, 1.6 * u), 1.6 * u, tie);
        canvas.trapezoid(at(0.0, 27.5), (1.6 * u, 3.6 * u), 4.6 * u, tie);
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
        let gold = one(random, [[250, 215, 60], [225, 235, 245], [220, 40, 70]]);
        for side in [-1.0, 1.0] {
            canvas.ellipse(at(13.8 * side, 5.6), (1.9 * u, 2.3 * u), gold);
            keep("Wearing_Earrings", canvas.drawn());
        }
    }
    if has("Rosy_Cheeks") {
        let rose = [skin[0].saturating_add(15), darker(0.68)[1], darker(0.72)[2]];
        for side in [-1.0, 1.0] {
            canvas.ellipse(at(7.2 * side, 4.6), (3.0 * u, 2.4 * u), rose);
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
        let frame = colour(random, 5, 70);
        for side in [-1.0, 1.0] {
            canvas.ring(at(5.1 * side, -2.4), (4.3 * u, 3.7 * u), 1.1 * u, frame);
            canvas.rectangle(at(10.9 * side, -3.0), (1.7 * u, 0.5 * u), frame);
        }
        canvas.rectangle(at(0.0, -3.0), (1.1 * u, 0.5 * u), frame);
        keep("Eyeglasses", canvas.drawn());
    }
    let beard = hair.map(|v: u8| v.saturating_sub(15));
    if has("Mustache") {
        canvas.bow(at(0.0, 6.1), 4.6 * u, -1.6 * u, 2.0 * u, beard);
        keep("Mustache", canvas.drawn());
    }
    let lips = [150u8.saturating_add((shade * 50.0) as u8), 60, 66];
    match has("Smiling") {
        true => {
            canvas.bow(at(0.0, 9.3), 5.4 * u, 4.4 * u, 1.7 * u, lips);
            keep("Smiling", canvas.drawn());
        }
        false => {
            let bend = between(random, -1.8, 0.0);
            canvas.bow(at(0.0, 9.3), 4.4 * u, bend * u, 1.6 * u, lips);
        }
    }
    canvas.drawn();
    if has("Goatee") {
        canvas.ellipse(at(0.0, 15.4), (3.6 * u, 2.9 * u), beard);
        keep("Goatee", canvas.drawn());
    }
    // A fringe, over which a hat may sit.
    canvas.paint(at(0.0, -11.0), (12.0 * u, 6.5 * u), hair, |dx, dy| {
        let (dx, dy) = (dx / u, dy / u - 11.0);
        dx * dx / 156.0 + dy * dy / 272.0 <= 1.0 && dy < -9.5 - dx * dx / 60.0
    });
    canvas.drawn();
    if has("Wearing_Hat") {
        let felt = colour(random, 10, 230);
        let band = colour(random, 10, 230);
        canvas.trapezoid(at(0.0, -16.0), (8.0 * u, 11.0 * u), 5.5 * u, felt);
        canvas.rectangle(at(0.0, -11.8), (11.0 * u, 1.3 * u), band);
        canvas.ellipse(at(0.0, -10.0), (17.0 * u, 2.0 * u), felt);
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
