use image::{Rgb, RgbImage};

use super::*;
use crate::Method;

fn map(width: usize, height: usize, values: &[f32], reach: f32) -> Heatmap {
    Heatmap::new(width, height, values.to_vec(), reach).unwrap()
}

/// The colours of `matplotlib.colormaps["jet"]` and `["viridis"]`, with its steps of 1/255.
#[test]
fn colours_are_those_of_matplotlib() {
    let expected = [
        (ColourMap::Jet, 0.0, [0, 0, 128]),
        (ColourMap::Jet, 0.125, [0, 0, 255]),
        (ColourMap::Jet, 0.375, [0, 255, 255]),
        (ColourMap::Jet, 0.5, [128, 255, 128]),
        (ColourMap::Jet, 0.625, [255, 255, 0]),
        (ColourMap::Jet, 0.875, [255, 0, 0]),
        (ColourMap::Jet, 1.0, [128, 0, 0]),
        (ColourMap::Jet, 7.0, [128, 0, 0]),
        (ColourMap::Jet, f32::NAN, [0, 0, 128]),
        (ColourMap::Viridis, 0.0, [68, 1, 84]),
        (ColourMap::Viridis, 0.5, [32, 144, 140]),
        (ColourMap::Viridis, 1.0, [253, 231, 36]),
    ];
    for (colours, value, colour) in expected {
        let found = colours.colour(value).0;
        let near = found.iter().zip(colour).all(|(a, b): (&u8, u8)| a.abs_diff(b) <= 1);
        assert!(near, "{colours} at {value}: {found:?}, expected {colour:?}");
    }
    for colours in ColourMap::ALL {
        assert_eq!(colours.to_string().parse::<ColourMap>().unwrap(), colours);
    }
    let said = "rainbow".parse::<ColourMap>().unwrap_err().to_string();
    assert!(said.contains("rainbow") && said.contains("jet, viridis"), "{said}");
}

#[test]
fn the_map_is_bilinear_between_the_centres_of_its_cells() {
    let map = map(2, 2, &[0.0, 1.0, 2.0, 3.0], 1.0);
    assert_eq!(map.at(0.25, 0.25), Some(0.0));
    assert_eq!(map.at(0.75, 0.75), Some(3.0));
    assert_eq!(map.at(0.5, 0.5), Some(1.5));
    assert_eq!(map.at(0.0, 0.0), Some(0.0), "beyond the centres the border's value holds");
    assert_eq!(map.peak(), (0.75, 0.75));
}

#[test]
fn padding_and_cropping_move_the_map() {
    // The image fills the middle half of a padded input: its corners are at 1/4 and 3/4.
    let padded = map(4, 1, &[0.0, 1.0, 2.0, 3.0], 2.0);
    assert_eq!(padded.at(0.25, 0.5), Some(1.0));
    assert_eq!(padded.at(0.75, 0.5), Some(2.0));
    assert_eq!(padded.peak(), (1.25, 0.5), "in the padding");
    let cropped = map(1, 1, &[1.0], 0.5);
    assert_eq!(cropped.at(0.2, 0.5), None);
    assert_eq!(cropped.at(0.3, 0.5), Some(1.0));
}

#[test]
fn a_map_that_does_not_fit_its_size_is_an_error() {
    for (width, height, count, reach) in [
        (2, 2, 3, 1.0),
        (0, 2, 0, 1.0),
        (usize::MAX, 2, 1, 1.0),
        (1, 1, 1, 0.0),
        (1, 1, 1, f32::NAN),
    ] {
        let found = Heatmap::new(width, height, vec![0.0; count], reach);
        assert!(matches!(found, Err(crate::Error::Heatmap { .. })), "{width}×{height}, {reach}");
    }
}

#[test]
fn a_mask_becomes_a_map_where_the_network_sees_it() {
    let mask = |width, height, f: &dyn Fn(u32, u32) -> u8| {
        image::GrayImage::from_fn(width, height, |x, y| image::Luma([f(x, y)]))
    };
    let white = from_mask(&mask(7, 9, &|_, _| 255), (5, 4), 1.3).unwrap();
    assert_eq!((white.width(), white.height(), white.reach()), (5, 4, 1.3.into()));
    assert!(white.values().iter().all(|&value| value == 1.0), "to the border and beyond");
    // Cell for pixel.
    let values = from_mask(&mask(2, 2, &|x, y| (51 * (x + 2 * y)) as u8), (2, 2), 1.0).unwrap();
    assert_eq!(values.values(), [0.0, 0.2, 0.4, 0.6]);
    // The right half of an image that was padded by half its side on each side: columns 0 and 1 of
    // the 8 cells are the padding on the left, 2 and 3 the left half of the image.
    let half = mask(100, 100, &|x, _| if x < 50 { 0 } else { 255 });
    let padded = from_mask(&half, (8, 1), 2.0).unwrap();
    let near = |found: &Heatmap, expected: &[f32]| {
        let pairs = found.values().iter().zip(expected);
        assert_eq!(found.values().len(), expected.len());
        assert!(pairs.clone().all(|(a, b)| (a - b).abs() < 0.1), "{found:?}, {expected:?}");
    };
    near(&padded, &[0.0, 0.0, 0.0, 0.05, 0.95, 1.0, 1.0, 1.0]);
    // Cropped to the middle half: what lies outside is not seen.
    let middle = mask(100, 100, &|x, _| if (40..60).contains(&x) { 255 } else { 0 });
    near(&from_mask(&middle, (5, 1), 0.5).unwrap(), &[0.0, 0.5, 1.0, 0.5, 0.0]);
    assert!(from_mask(&mask(2, 2, &|_, _| 0), (0, 2), 1.0).is_err());
    assert!(from_mask(&mask(2, 2, &|_, _| 0), (2, 2), 0.0).is_err());
}

#[test]
fn the_overlay_mixes_halves_and_leaves_what_was_not_seen() {
    let picture = RgbImage::from_pixel(4, 1, Rgb([100, 100, 100]));
    let result = overlay(&picture, &map(2, 1, &[0.2, 0.6], 0.5), ColourMap::Jet);
    assert_eq!(*result.get_pixel(0, 0), Rgb([100, 100, 100]));
    assert_eq!(*result.get_pixel(1, 0), Rgb([50, 50, 114]));
    assert_eq!(*result.get_pixel(2, 0), Rgb([114, 50, 50]));
    assert_eq!(*result.get_pixel(3, 0), Rgb([100, 100, 100]));
}

#[test]
fn gradients_lie_around_grey() {
    let channel = |values: &[f32]| map(4, 1, values, 1.0);
    let channels = [channel(&[0.0, 2.0, -2.0, 1.0]), channel(&[0.0; 4]), channel(&[0.0; 4])];
    let drawn = signed(&channels, (4, 1));
    let reds: Vec<_> = drawn.pixels().map(|pixel| pixel.0[0]).collect();
    assert_eq!(reds, [128, 255, 0, 191]);
    assert!(drawn.pixels().all(|pixel| pixel.0[1] == 128));
    let nothing = [channel(&[0.0; 4]), channel(&[0.0; 4]), channel(&[0.0; 4])];
    assert!(signed(&nothing, (2, 2)).pixels().all(|pixel| pixel.0 == [128; 3]));
}

#[test]
fn small_pictures_become_readable_and_large_ones_fit() {
    let mut small = RgbImage::new(28, 26);
    small.put_pixel(1, 0, Rgb([9, 9, 9]));
    let large = enlarged(small, 256);
    assert_eq!(large.dimensions(), (280, 260));
    assert_eq!(*large.get_pixel(19, 9), Rgb([9, 9, 9]));
    assert_eq!(*large.get_pixel(20, 9), Rgb([0, 0, 0]));
    assert_eq!(enlarged(RgbImage::new(300, 200), 256).dimensions(), (300, 200));
    let fitted = |width, height| fitted(RgbImage::new(width, height), 256).dimensions();
    assert_eq!(fitted(1500, 1000), (512, 341));
    assert_eq!(fitted(32, 32), (256, 256));
    assert_eq!(fitted(500, 400), (500, 400));
    assert_eq!(fitted(1, 100_000), (1, 512), "no side vanishes");
}

#[test]
fn captions_keep_the_numbers_and_cut_the_names() {
    let long = "the_white_breasted_nuthatch_of_the_northern_woods";
    let panel = |caption| Panel { image: RgbImage::new(32, 32), views: Vec::new(), caption };
    let style = Style::default();
    let right = Caption::new("cat", 0.5).truth("cat", 0.5);
    assert_eq!((right.is_right(), Caption::new("cat", 0.5).is_right()), (Some(true), None));
    let wrong = Caption::new(long, 0.987).truth("dog", 0.01);
    assert_eq!(wrong.is_right(), Some(false));
    assert_eq!(
        wrong.clone().note("a longer line than there is room for").lines(30),
        ["WRONG: the_white_brea.. 98.7 %", "true:  dog 1.0 %", "a longer line than there is .."]
    );
    let [right, wrong] = [right, wrong].map(|caption| panel(caption).draw(&style));
    let below = |panel: &RgbImage| *panel.get_pixel(0, panel.height() - 1);
    let [green, red] = [below(&right), below(&wrong)];
    assert!(green.0[1] > green.0[0] && red.0[0] > red.0[1], "{green:?} {red:?}");
    assert!(wrong.height() > right.height(), "two lines for a wrong answer");
}

#[test]
fn letters_that_the_font_lacks_are_question_marks() {
    let draw = |title: &str| {
        let map = map(2, 1, &[0.0, 1.0], 1.0);
        let view = View { title: title.to_owned(), shown: Shown::Heat(map) };
        let (image, caption) = (RgbImage::new(8, 8), Caption::new("é", 1.0));
        Panel { image, views: vec![view], caption }.draw(&Style::default())
    };
    assert!(draw("猫") == draw("?"));
    assert!(draw("é") != draw("?"));
}

#[test]
fn every_method_becomes_a_tile_of_the_images_size() {
    use abn_backbones::{BuildOptions, Variant, find};
    use candle_core::{DType, Device, Tensor};
    let params = abn_core::ParamStore::new(3, DType::F32, Device::Cpu);
    let options = BuildOptions::new(4);
    let model = find("resnet8").unwrap().build(Variant::Abn, &options, params.var_builder());
    let model = model.unwrap();
    let values = (0..2 * 3 * 32 * 32).map(|i| (i as f32 * 0.7123).sin());
    let images = Tensor::from_iter(values, &Device::Cpu).unwrap().reshape((2, 3, 32, 32)).unwrap();
    let mut views = Vec::new();
    for method in Method::ALL {
        let explained = method.explainer().explain(&*model, &images, &[1, 3]).unwrap();
        let maps = method.explainer().maps(&*model, &images, &[1, 3]).unwrap();
        let [a, b] = [&maps, &explained.maps].map(|maps| maps.flatten_all().unwrap());
        assert_eq!(a.to_vec1::<f32>().unwrap(), b.to_vec1::<f32>().unwrap(), "{method}");
        assert!(Shown::new(&explained, 2, 1.0).is_err());
        let shown = Shown::new(&explained, 1, 1.0).unwrap();
        assert_eq!(matches!(shown, Shown::Signed(_)), method.to_string().starts_with("guided"));
        views.push(View { title: method.to_string(), shown });
    }
    let count = views.len() as u32 + 1;
    let panel = Panel { image: RgbImage::new(32, 32), views, caption: Caption::new("a", 0.3) };
    let style = Style { side: 64, gap: 2, ..Style::default() };
    let drawn = panel.draw(&style);
    assert_eq!(drawn.width(), count * 64 + (count - 1) * 2);
    assert!(drawn == panel.draw(&style), "the same bytes each time");
    assert_eq!(panel.tiles(&style).dimensions(), (drawn.width(), 64));
    // Eight pictures, at most five in a row: twice four.
    let two_rows = Style { columns: 5, ..style };
    assert_eq!((count, panel.tiles(&two_rows).dimensions()), (8, (4 * 64 + 3 * 2, 2 * 64 + 2)));
}

#[test]
fn a_sheet_has_rows_and_columns() {
    let picture = |width, height, grey| RgbImage::from_pixel(width, height, Rgb([grey; 3]));
    let pictures = [picture(10, 5, 1), picture(20, 8, 2), picture(30, 6, 3)];
    let drawn = sheet(&pictures, 2);
    assert_eq!(drawn.dimensions(), (30 + 12 + 20, 8 + 12 + 6));
    assert_eq!(*drawn.get_pixel(42, 0), Rgb([2; 3]));
    assert_eq!(*drawn.get_pixel(0, 20), Rgb([3; 3]));
    assert_eq!(*drawn.get_pixel(40, 20), Rgb([255; 3]));
    assert_eq!(sheet(&pictures, 9).dimensions(), (10 + 20 + 30 + 24, 8));
    assert_eq!(sheet(&[], 3).dimensions(), (1, 1));
    let bytes = png(&drawn).unwrap();
    assert!(image::load_from_memory(&bytes).unwrap().into_rgb8() == drawn);
}

#[test]
fn a_map_may_reach_further_across_than_down() {
    // The left and the right sixth of the image were cut off.
    let reach = Reach { width: 2.0 / 3.0, height: 1.0 };
    let map = Heatmap::new(2, 1, vec![0.0, 1.0], reach).unwrap();
    let (x, y) = map.peak();
    assert!((x - 2.0 / 3.0).abs() < 1e-6 && (y - 0.5).abs() < 1e-6, "{x}, {y}");
    assert!((map.at(0.5, 0.0).unwrap() - 0.5).abs() < 1e-6);
    assert_eq!((map.at(0.16, 0.5), map.at(0.84, 0.5)), (None, None));
    assert_eq!(map.at(0.8, 0.99), Some(1.0));
    // A mask over the whole image, of which the map covers the inner two thirds.
    let mask =
        image::GrayImage::from_fn(60, 10, |x, _| image::Luma([if x < 10 { 255 } else { 0 }]));
    assert_eq!(from_mask(&mask, (4, 1), reach).unwrap().values()[1..], [0.0; 3]);
    assert!(from_mask(&mask, (4, 1), 1.0).unwrap().values()[0] > 0.5);
    for reach in [Reach { width: 1.0, height: 0.0 }, Reach { width: f32::NAN, height: 1.0 }] {
        assert!(Heatmap::new(1, 1, vec![0.0], reach).is_err());
        assert!(from_mask(&mask, (1, 1), reach).is_err());
    }
}
