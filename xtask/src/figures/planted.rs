//! The pointing game where the truth is known: shapes among clutter.

use abn_data::planted::{Bounds, Planted};
use abn_data::{Dataset, Sample};
use abn_explain::faithfulness::{Hits, Marks, Mean, Region, peaks};
use abn_explain::resize;
use anyhow::Result;
use candle_core::Tensor;
use serde::{Serialize, Serializer};

use super::network::{Mapped, Network};
use super::panels::rows;

/// How a network's maps did.
#[derive(Clone, Debug, Serialize)]
pub struct Pointing {
    /// The network.
    pub network: String,
    /// Test images.
    pub images: usize,
    /// Of these, rightly answered ones: the game is played with them.
    pub right: usize,
    /// By method.
    pub methods: Vec<Pointed>,
}

/// How one method did.
#[derive(Clone, Debug, Serialize)]
pub struct Pointed {
    /// The method.
    pub method: String,
    /// Share of the images whose map is highest in the object's box.
    pub hits: f64,
    /// Wilson's 95 % interval of it.
    pub interval: (f64, f64),
    /// Mean of the map, scaled to 0 to 1 in each image, over the box.
    pub inside: f64,
    /// The same outside the box.
    pub outside: f64,
    /// What follows; nothing of random maps.
    #[serde(serialize_with = "by_name")]
    pub marks: Option<Marks>,
}

/// Plays the game with every method that the network has, for its own (right) answers.
pub fn play(network: &Network) -> Result<Pointing> {
    let split = Planted::test();
    let planted: Vec<_> =
        (0..split.len()).map(|index| split.with_bounds(index)).collect::<abn_data::Result<_>>()?;
    let samples: Vec<Sample> = planted.iter().map(|(sample, _)| sample.clone()).collect();
    let asked = network.ask(&samples)?;
    let right: Vec<_> =
        (0..samples.len()).filter(|&i| asked.answers[i] == samples[i].label()).collect();
    let inputs = rows(&asked.inputs, &right)?;
    let classes: Vec<_> = right.iter().map(|&i| samples[i].label()).collect();
    let regions: Vec<_> = right.iter().map(|&i| region(planted[i].1)).collect();
    let (_, _, height, width) = inputs.dims4()?;
    let (mut methods, mut all) = (Vec::<Pointed>::new(), Vec::new());
    for Mapped { method, maps, control } in network.maps(&inputs, &classes)? {
        let hits: Vec<_> = peaks(&maps, height, width)?
            .into_iter()
            .zip(&regions)
            .map(|(peak, region)| region.contains(peak))
            .collect();
        let hits = Hits::of(&hits);
        let (inside, outside) = contrast(&maps, &regions, (height, width))?;
        let Hits { share, interval, .. } = hits;
        methods.push(Pointed { method, hits: share, interval, inside, outside, marks: None });
        all.push((hits, control));
    }
    let names: Vec<_> = methods.iter().map(|of| of.method.clone()).collect();
    for (pointed, (hits, control)) in methods.iter_mut().zip(&all) {
        let random = names.iter().position(|name| control.as_ref() == Some(name));
        pointed.marks = random.map(|random| hits.marks(&all[random].0));
    }
    let network = network.name.clone();
    Ok(Pointing { network, images: samples.len(), right: right.len(), methods })
}

fn by_name<S: Serializer>(marks: &Option<Marks>, to: S) -> Result<S::Ok, S::Error> {
    marks.map(|marks| marks.to_string()).serialize(to)
}

fn region(bounds: Bounds) -> Region {
    let Bounds { left, top, width, height } = bounds;
    Region { left, top, right: left + width, bottom: top + height }
}

/// Mean over the images of the map's mean in the box and outside it, each map scaled to 0 to 1.
fn contrast(maps: &Tensor, regions: &[Region], size: (usize, usize)) -> Result<(f64, f64)> {
    let (height, width) = size;
    let maps = resize::normalised(&resize::bilinear(maps, height, width)?)?;
    let maps = maps.flatten_from(1)?.to_vec2::<f32>()?;
    let (mut inside, mut outside) = (Vec::new(), Vec::new());
    for (map, region) in maps.iter().zip(regions) {
        let part = |wanted: bool| {
            let at = |place: &usize| region.contains((place % width, place / width)) == wanted;
            let values: Vec<_> = (0..map.len()).filter(at).map(|p| f64::from(map[p])).collect();
            Mean::of(&values).mean
        };
        inside.push(part(true));
        outside.push(part(false));
    }
    Ok((Mean::of(&inside).mean, Mean::of(&outside).mean))
}

#[cfg(test)]
mod tests {
    use abn_train::{TrainOptions, train};
    use candle_core::Device;

    use super::*;
    use crate::figures::file::FiguresFile;

    /// Maps are neither shifted nor flipped: of a network that knows the shapes, CAM and Grad-CAM point at
    /// them. (ABN's own maps are held to nothing, no loss asks them to: `reproduce-figures` reports them.)
    #[test]
    fn cam_and_grad_cam_point_at_the_planted_shape() {
        let file = FiguresFile::parse(include_str!("../../../recipes/figures-quick.toml")).unwrap();
        let planted = file.planted.iter().find(|planted| planted.name == "CAM").unwrap();
        let folder = tempfile::tempdir().unwrap();
        let run = folder.path().join("run");
        train(&planted.recipe, &run, &TrainOptions::default()).unwrap();
        let found = play(&Network::open("CAM", &run, &Device::Cpu).unwrap()).unwrap();
        println!("{} of {} right", found.right, found.images);
        assert!(found.right > 900, "knows only {} of 1000", found.right);
        let mut held = 0;
        for pointed in &found.methods {
            println!("{pointed:?}");
            match pointed.method.as_str() {
                "CAM" | "Grad-CAM" => {
                    assert!(pointed.hits >= 0.9, "{pointed:?}");
                    assert_eq!(pointed.marks, Some(Marks::Object));
                    held += 1;
                }
                random if random.starts_with("random") => {
                    assert!(pointed.hits < 0.2, "{pointed:?}");
                    assert_eq!(pointed.marks, None);
                }
                _ => {}
            }
        }
        assert_eq!(held, 2);
    }
}
