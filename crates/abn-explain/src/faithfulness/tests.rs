//! Each measure against its definition, and on a network of which one knows what it looks at.

use abn_core::{Classifier, Features, Mode};
use abn_ops::Tracked;
use candle_core::{DType, Device, Tensor};

use super::fill::{Shape, blurred};
use super::impute::noisy_linear;
use super::*;
use crate::RandomMap;

const SIDE: usize = 24;
const OBJECT: usize = 6;

/// Class 1 for what is bright, wherever it is; what is dark does not count.
struct Bright;

impl Classifier for Bright {
    fn features(&self, image: &Tracked, _: Mode) -> abn_core::Result<Features> {
        Ok(Features { last: image.clone(), attention: None })
    }

    fn classify(&self, last: &Tracked, _: Mode) -> abn_core::Result<Tracked> {
        let sums = last.value().relu()?.flatten_from(1)?.sum_keepdim(1)?;
        let score = ((sums * (8.0 / (3 * OBJECT * OBJECT) as f64))? - 4.0)?;
        Ok(Tracked::constant(Tensor::cat(&[&score.zeros_like()?, &score], 1)?))
    }

    fn class_weights(&self) -> Option<&Tensor> {
        None
    }
}

/// A bright square on a dark, uneven ground, at a place of its own in each image.
fn planted(count: usize) -> (Tensor, Vec<Region>) {
    let mut pixels = Vec::new();
    let mut regions = Vec::new();
    for image in 0..count {
        let (left, top) = (image * 7 % (SIDE - OBJECT), image * 5 % (SIDE - OBJECT));
        let region = Region { left, top, right: left + OBJECT, bottom: top + OBJECT };
        for place in 0..3 * SIDE * SIDE {
            let at = (place % SIDE, place / SIDE % SIDE);
            let ground = -0.2 - 0.1 * ((place * 31 + image) as f32 * 0.71).sin();
            pixels.push(if region.contains(at) { 1.0 } else { ground });
        }
        regions.push(region);
    }
    (Tensor::from_vec(pixels, (count, 3, SIDE, SIDE), &Device::Cpu).unwrap(), regions)
}

fn masks(regions: &[Region]) -> Tensor {
    let values = regions.iter().flat_map(|region| {
        (0..SIDE * SIDE).map(|at| f32::from(u8::from(region.contains((at % SIDE, at / SIDE)))))
    });
    Tensor::from_iter(values, &Device::Cpu).unwrap().reshape(((), SIDE, SIDE)).unwrap()
}

fn means(curves: &[Curves]) -> [f64; 3] {
    let mean =
        |of: &dyn Fn(&Curves) -> f64| Mean::of(&curves.iter().map(of).collect::<Vec<_>>()).mean;
    [mean(&Curves::deletion_area), mean(&Curves::insertion_area), mean(&|c| c.road().unwrap())]
}

#[test]
fn a_perfect_map_beats_a_random_one_and_that_its_opposite() {
    let (images, regions) = planted(40);
    let classes = vec![1; 40];
    let measure = Faithfulness { batch: 5, ..Faithfulness::default() };
    let perfect = masks(&regions);
    let inverse = perfect.affine(-1.0, 1.0).unwrap();
    let of = |maps: &Tensor| means(&measure.curves(&Bright, &images, &classes, maps).unwrap());
    let [deleted, inserted, road] = of(&perfect);
    let [deleted_inverse, inserted_inverse, road_inverse] = of(&inverse);
    for control in [RandomMap::fine(), RandomMap::coarse(6, 6)] {
        let curves = measure.of(&control, &Bright, &images, &classes).unwrap();
        let [deleted_random, inserted_random, road_random] = means(&curves);
        assert!(deleted + 0.1 < deleted_random, "{deleted} {deleted_random}");
        assert!(deleted_random + 0.1 < deleted_inverse, "{deleted_random} {deleted_inverse}");
        assert!(inserted > inserted_random + 0.1, "{inserted} {inserted_random}");
        assert!(inserted_random > inserted_inverse + 0.1, "{inserted_random} {inserted_inverse}");
        assert!(road > road_random + 0.1 && road_random > road_inverse + 0.1);
        // What is high in a random map is low in as many others.
        let Mean { mean, half_width, .. } =
            Mean::of(&curves.iter().map(|c| c.road().unwrap()).collect::<Vec<_>>());
        assert!(mean.abs() < 1.5 * half_width, "{mean} ± {half_width} knows something");
    }
    // The object is 1/16 of the image: after one of 16 steps nothing of it is left.
    let curves = measure.curves(&Bright, &images, &classes, &perfect).unwrap();
    for Curves { deletion, insertion, .. } in &curves {
        assert_eq!((deletion.len(), insertion.len()), (17, 17));
        assert!(deletion[0] > 0.98 && deletion[1..].iter().all(|p| *p < 0.02), "{deletion:?}");
        assert!(insertion[0] < 0.9 && insertion[1] > 0.98, "{insertion:?}");
        assert_eq!(insertion[16], deletion[0], "both have the image at an end");
    }
}

#[test]
fn summaries_compare_image_by_image() {
    let (images, regions) = planted(12);
    let perfect = masks(&regions);
    let measure = Faithfulness::default();
    let of = |maps: &Tensor| measure.curves(&Bright, &images, &[1; 12], maps).unwrap();
    let (good, bad) = (of(&perfect), of(&perfect.affine(-1.0, 1.0).unwrap()));
    let random = measure.of(&RandomMap::fine(), &Bright, &images, &[1; 12]).unwrap();
    use Verdict::{Better, Untold, Worse};
    assert_eq!(Summary::new(&good, Some(&random)).verdicts(), [Better; 3]);
    assert_eq!(Summary::new(&bad, Some(&random)).verdicts(), [Worse; 3]);
    assert_eq!(Summary::new(&good, Some(&good)).verdicts(), [Untold; 3]);
    assert_eq!(Summary::new(&good, None).verdicts(), [Untold; 3]);
    assert_eq!(Summary::new(&good[..1], Some(&random[..1])).verdicts(), [Untold; 3], "one image");
    let Summary { deletion, .. } = Summary::new(&good, Some(&random));
    let areas = |curves: &[Curves]| curves.iter().map(Curves::deletion_area).collect::<Vec<_>>();
    assert_eq!(deletion.value, Mean::of(&areas(&good)));
    let differences: Vec<_> = areas(&good).iter().zip(areas(&random)).map(|(a, b)| a - b).collect();
    assert_eq!(deletion.over_control, Some(Mean::of(&differences)));
}

#[test]
fn a_map_of_the_background_is_called_one() {
    let hits = |hits: usize| Hits::of(&(0..100).map(|i| i < hits).collect::<Vec<_>>());
    let random = hits(10);
    assert_eq!(hits(90).marks(&random), Marks::Object);
    assert_eq!(hits(14).marks(&random), Marks::Nothing);
    assert_eq!(hits(0).marks(&random), Marks::Background);
    assert_eq!(Hits::of(&[]).marks(&random), Marks::Nothing);
}

#[test]
fn a_constant_map_is_a_random_one() {
    let (images, _) = planted(12);
    let flat = Tensor::zeros((12, 3, 3), DType::F32, &Device::Cpu).unwrap();
    let measure = Faithfulness::default();
    let constant = means(&measure.curves(&Bright, &images, &[1; 12], &flat).unwrap());
    let random = measure.of(&RandomMap::fine(), &Bright, &images, &[1; 12]).unwrap();
    for (constant, random) in constant.into_iter().zip(means(&random)) {
        assert!((constant - random).abs() < 0.03, "{constant} {random}");
    }
    let (first, again) = (peaks(&flat, SIDE, SIDE).unwrap(), peaks(&flat, SIDE, SIDE).unwrap());
    assert_eq!(first, again);
    assert_ne!(first[0], (0, 0), "the first pixel is no random one");
}

/// The curves of a map, from the images made one by one.
#[test]
fn curves_are_what_their_definition_says() {
    let (images, _) = planted(2);
    let maps = RandomMap::fine().maps(&Bright, &images, &[1, 0]).unwrap();
    let measure = Faithfulness { steps: 4, removed: vec![0.25], ..Faithfulness::default() };
    let found = measure.curves(&Bright, &images, &[1, 0], &maps).unwrap();
    let area = SIDE * SIDE;
    let shape = Shape { channels: 3, height: SIDE, width: SIDE };
    for (i, class) in [1usize, 0].into_iter().enumerate() {
        let image = images.get(i).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
        let map = maps.get(i).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
        let rank = |pixel: usize| map.iter().filter(|v| **v > map[pixel]).count();
        let soft = blurred(shape, &image, measure.blur);
        let said = |shown: &dyn Fn(usize) -> f32| {
            let values: Vec<_> = (0..3 * area).map(shown).collect();
            let values = Tensor::from_vec(values, (1, 3, SIDE, SIDE), &Device::Cpu).unwrap();
            let output = Bright.forward(&Tracked::constant(values), Mode::Eval).unwrap();
            let row = output.logits.value().to_vec2::<f32>().unwrap()[0].clone();
            f64::from(row[class]).exp() / row.iter().map(|v| f64::from(*v).exp()).sum::<f64>()
        };
        for step in 0..=4 {
            let first = |place: usize| rank(place % area) < area * step / 4;
            let deleted = said(&|p| if first(p) { 0.0 } else { image[p] });
            let inserted = said(&|p| if first(p) { image[p] } else { soft[p] });
            assert!((found[i].deletion[step] - deleted).abs() < 1e-5);
            assert!((found[i].insertion[step] - inserted).abs() < 1e-5);
        }
        let gone = |chosen: &dyn Fn(usize) -> bool| {
            let pixels: Vec<_> = (0..area).filter(|p| chosen(rank(*p))).map(|p| p as u32).collect();
            let filled = noisy_linear(shape, &image, &pixels, measure.noise);
            said(&|p| filled[p])
        };
        let most = gone(&|rank| rank < area / 4);
        let least = gone(&|rank| rank >= area - area / 4);
        assert!((found[i].most_removed[0] - most).abs() < 1e-5);
        assert!((found[i].least_removed[0] - least).abs() < 1e-5);
        assert!((found[i].road().unwrap() - (least - most) / 2.0).abs() < 1e-5);
        let Curves { deletion: d, .. } = &found[i];
        let expected = (d[0] / 2.0 + d[1] + d[2] + d[3] + d[4] / 2.0) / 4.0;
        assert!((found[i].deletion_area() - expected).abs() < 1e-12);
    }
}

/// Every removed pixel is the weighted mean of its neighbours, which has one solution: by sweeps
/// over the definition until nothing moves.
#[test]
fn imputation_solves_its_equations() {
    let shape = Shape { channels: 2, height: 9, width: 7 };
    let image: Vec<f32> = (0..2 * 63).map(|i| (i as f32 * 1.3).sin()).collect();
    // Corners, an edge, single pixels and a large hole.
    let gone: Vec<u32> =
        (0..63).filter(|p| [0, 6, 56, 62, 3].contains(p) || (20..55).contains(p)).collect();
    let found = noisy_linear(shape, &image, &gone, 0.0);
    let mut expected: Vec<f64> = image.iter().map(|&v| v.into()).collect();
    for _ in 0..5000 {
        for channel in 0..2 {
            for &pixel in &gone {
                let (y, x) = (pixel as isize / 7, pixel as isize % 7);
                let (mut sum, mut weights) = (0.0, 0.0);
                for (dy, dx) in (-1..=1).flat_map(|dy| (-1..=1).map(move |dx| (dy, dx))) {
                    let inside = (0..9).contains(&(y + dy)) && (0..7).contains(&(x + dx));
                    if (dy, dx) == (0, 0) || !inside {
                        continue;
                    }
                    let weight = if dy == 0 || dx == 0 { 1.0 / 6.0 } else { 1.0 / 12.0 };
                    sum += weight * expected[channel * 63 + ((y + dy) * 7 + x + dx) as usize];
                    weights += weight;
                }
                expected[channel * 63 + pixel as usize] = sum / weights;
            }
        }
    }
    for (place, (found, expected)) in found.iter().zip(&expected).enumerate() {
        assert!((f64::from(*found) - expected).abs() < 1e-5, "{place}: {found} {expected}");
    }
    // The same by the `grad-cam` package: NoisyLinearImputer(noise=0).
    let package = [(0, 0.3475), (3, 0.0412), (20, -0.4393), (62, 0.0264), (100, 0.0133)];
    for (place, expected) in package {
        assert!((found[place] - expected).abs() < 1e-4, "{place}: {} {expected}", found[place]);
    }
    let noisy = noisy_linear(shape, &image, &gone, 0.1);
    let noise: Vec<_> = noisy.iter().zip(&found).map(|(a, b)| f64::from(a - b)).collect();
    let deviation = (noise.iter().map(|v| v * v).sum::<f64>() / (2 * gone.len()) as f64).sqrt();
    assert!((0.06..0.14).contains(&deviation), "{deviation}");
    assert!((0..126).all(|p| gone.contains(&(p % 63)) || noise[p as usize] == 0.0));
}

#[test]
fn blur_keeps_what_is_flat_and_spreads_what_is_not() {
    let shape = Shape { channels: 1, height: 16, width: 16 };
    assert!(blurred(shape, &[0.5; 256], 0.125).iter().all(|v| (v - 0.5).abs() < 1e-6));
    let mut point = [0.0; 256];
    point[8 * 16 + 8] = 1.0;
    let soft = blurred(shape, &point, 0.125);
    // σ is 2 pixels: the kernel at 0 is 1/(2πσ²), a little more as it is cut off, and falls with e^(−d²/2σ²).
    assert!((soft[8 * 16 + 8] - 0.0399).abs() < 0.001, "{}", soft[8 * 16 + 8]);
    let ratio = soft[8 * 16 + 11] / soft[8 * 16 + 8];
    assert!((ratio - (-9.0f32 / 8.0).exp()).abs() < 0.01, "{ratio}");
    assert_eq!(soft[5 * 16 + 8], soft[8 * 16 + 5]);
}

#[test]
fn the_pointing_game_knows_where_the_object_is() {
    let (_, regions) = planted(12);
    let maps = masks(&regions);
    let hits = |maps: &Tensor| {
        let peaks = peaks(maps, SIDE, SIDE).unwrap();
        peaks.iter().zip(&regions).filter(|(peak, region)| region.contains(**peak)).count()
    };
    assert_eq!(hits(&maps), 12);
    assert_eq!(hits(&maps.affine(-1.0, 0.0).unwrap()), 0);
    // Rows before columns: a map turned over its diagonal points elsewhere.
    assert!(hits(&maps.transpose(1, 2).unwrap().contiguous().unwrap()) < 12);
    let region = Region { left: 2, top: 3, right: 5, bottom: 4 };
    assert!(region.contains((4, 3)) && !region.contains((5, 3)) && !region.contains((3, 4)));
    assert!(region.with_margin(1).contains((5, 4)) && region.with_margin(9).contains((0, 0)));
    assert_eq!(region.chance(10, 10), 0.03);
}

#[test]
fn intervals() {
    let mean = Mean::of(&[1.0, 2.0, 3.0, 6.0]);
    assert_eq!((mean.mean, mean.count), (3.0, 4));
    // s² = 14/3; 1.96 · √(14/3/4)
    assert!((mean.half_width - 2.117).abs() < 1e-3, "{}", mean.half_width);
    assert_eq!(Mean::of(&[2.0]).half_width, 0.0);
    assert_eq!(Mean::of(&[]).mean, 0.0);
    // Wilson 1927: 9 of 10 is 0.596 to 0.982.
    let hits: Vec<_> = (0..10).map(|i| i > 0).collect();
    let (mean, (low, high)) = Mean::share(&hits);
    assert_eq!(mean.mean, 0.9);
    assert!((low - 0.5958).abs() < 1e-3 && (high - 0.9821).abs() < 1e-3, "{low} {high}");
    let (_, (low, high)) = Mean::share(&[true; 10]);
    assert!(low > 0.7 && high > 0.9999, "{low} {high}");
}

#[test]
fn results_do_not_depend_on_threads_or_batches() {
    let (images, regions) = planted(10);
    let maps = masks(&regions);
    let on = |threads: usize, batch: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let measure = Faithfulness { batch, ..Faithfulness::default() };
        pool.install(|| measure.curves(&Bright, &images, &[1; 10], &maps).unwrap())
    };
    let expected = on(1, 64);
    assert_eq!(on(2, 64), expected);
    assert_eq!(on(2, 7), expected);
    let alone = RandomMap::coarse(4, 4).maps(&Bright, &images.narrow(0, 6, 1).unwrap(), &[1]);
    let together = RandomMap::coarse(4, 4).maps(&Bright, &images, &[1; 10]).unwrap();
    let flat = |maps: Tensor| maps.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    assert_eq!(flat(together.narrow(0, 6, 1).unwrap()), flat(alone.unwrap()));
}

#[test]
fn what_cannot_be_measured_is_an_error() {
    let (images, regions) = planted(2);
    let maps = masks(&regions);
    let measure = Faithfulness::default();
    let said = |measure: &Faithfulness, classes: &[u32], maps: &Tensor| {
        measure.curves(&Bright, &images, classes, maps).unwrap_err().to_string()
    };
    assert!(said(&measure, &[1], &maps).contains("1 classes for 2 images"));
    assert!(said(&measure, &[1, 2], &maps).contains("class 2 of a model with 2"));
    assert!(said(&measure, &[1, 1], &maps.narrow(0, 0, 1).unwrap()).contains("1 maps for 2"));
    let nan = (&maps / 0.0).unwrap();
    let nan = (&nan - &nan).unwrap();
    assert!(said(&measure, &[1, 1], &nan).contains("map of image 0"));
    let broken = [
        Faithfulness { steps: 0, ..measure.clone() },
        Faithfulness { batch: 0, ..measure.clone() },
        Faithfulness { blur: 0.0, ..measure.clone() },
        Faithfulness { noise: f64::NAN, ..measure.clone() },
        Faithfulness { removed: vec![0.5, 1.0], ..measure.clone() },
    ];
    for measure in broken {
        assert!(said(&measure, &[1, 1], &maps).contains("faithfulness"), "{measure:?}");
    }
    let curves = Faithfulness { removed: vec![], ..measure };
    let curves = curves.curves(&Bright, &images, &[1, 1], &maps).unwrap();
    assert_eq!(curves[0].road(), None);
}
