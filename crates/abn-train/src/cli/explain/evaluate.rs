//! `--evaluate`: how faithful the methods' maps are.

use std::collections::BTreeMap;
use std::fmt::Write;

use abn_data::Size;
use abn_explain::faithfulness::{
    Curves, Faithfulness, Hits, Mean, Region, Score, Summary, Verdict, peaks,
};
use abn_explain::pictures::Reach;
use abn_explain::{Explain, RandomMap};
use abn_train::Run;
use anyhow::Result;
use serde::Serialize;

use super::boxes::Boxes;
use super::images::Picture;
use super::methods::Chosen;
use super::session::{at_a_time, bar};

/// Every method on the same images.
#[derive(Serialize)]
pub struct Evaluation {
    images: usize,
    /// Random maps, one of each size that a method's maps have, stand last.
    methods: Vec<Measured>,
}

/// A method on all images: means, 95 % intervals, and what it is over random maps of its size.
#[derive(Serialize)]
struct Measured {
    method: String,
    insertion: Interval,
    deletion: Interval,
    road: Option<Interval>,
    /// The pointing game, where there are boxes.
    pointing: Option<Pointing>,
    #[serde(skip)]
    verdicts: [Verdict; 3],
}

#[derive(Serialize)]
struct Interval {
    mean: f64,
    /// Half the width of its 95 % interval; one image has none.
    half_width: Option<f64>,
    over_random: Option<f64>,
    over_random_half_width: Option<f64>,
}

#[derive(Serialize)]
struct Pointing {
    /// Images that have a box, and whose class is not known to be another than the one explained.
    images: usize,
    /// Share of these whose map is highest in a box.
    hits: f64,
    /// Wilson's 95 % interval of it.
    interval: (f64, f64),
    /// `object`, `background` or `nothing`, beside random maps; none of these themselves.
    marks: Option<String>,
}

/// What is known of one method, image after image.
#[derive(Default)]
struct Found {
    size: (usize, usize),
    curves: Vec<Curves>,
    hits: Vec<bool>,
}

/// Some images as the network sees them.
struct Asked<'a> {
    inputs: candle_core::Tensor,
    classes: &'a [u32],
    /// Each image's boxes; empty if the image is not of the game.
    regions: Vec<&'a [Region]>,
    /// Each image's size, and how far the input reaches over it.
    sizes: Vec<(usize, usize)>,
    reaches: Vec<Reach>,
}

/// Asks each method for the maps of these classes, and measures them and random ones.
pub fn measure(
    run: &Run,
    chosen: &Chosen,
    pictures: &[Picture],
    classes: &[u32],
    boxes: Option<&Boxes>,
) -> Result<Evaluation> {
    let batch = at_a_time(run);
    let measure = Faithfulness { batch, ..Faithfulness::default() };
    let mut methods: Vec<_> = chosen.methods.iter().map(|_| Found::default()).collect();
    let mut random: BTreeMap<(usize, usize), Found> = BTreeMap::new();
    let bar = bar("measuring", pictures.len());
    for (pictures, classes) in pictures.chunks(batch).zip(classes.chunks(batch)) {
        let images = pictures.iter().map(Picture::read).collect::<Result<Vec<_>>>()?;
        let (inputs, reaches) = run.inputs(&images)?;
        let regions = pictures.iter().zip(classes).map(|(picture, &class)| {
            let other = picture.truth.is_some_and(|truth| truth != class as usize);
            boxes.filter(|_| !other).map_or(&[][..], |boxes| boxes.of(picture))
        });
        let regions = regions.collect();
        let sizes = images.iter().map(|image| (image.width, image.height)).collect();
        let asked = Asked { inputs, classes, regions, sizes, reaches };
        for ((_, explainer), found) in chosen.methods.iter().zip(&mut methods) {
            found.add(run, &measure, &**explainer, &asked)?;
        }
        let grains = methods.iter().map(|found| found.size);
        for (h, w) in grains.collect::<std::collections::BTreeSet<_>>() {
            let found = random.entry((h, w)).or_default();
            found.add(run, &measure, &RandomMap::coarse(h, w), &asked)?;
        }
        bar.inc(classes.len() as u64);
    }
    bar.finish_and_clear();
    let of_random = |((h, w), found): (&(usize, usize), &Found)| {
        Measured::new(format!("random {h}×{w}"), found, None)
    };
    let methods = chosen.names().into_iter().zip(&methods);
    let methods = methods.map(|(name, found)| Measured::new(name, found, random.get(&found.size)));
    let methods = methods.chain(random.iter().map(of_random)).collect();
    Ok(Evaluation { images: pictures.len(), methods })
}

impl Found {
    fn add(
        &mut self,
        run: &Run,
        measure: &Faithfulness,
        explain: &dyn Explain,
        asked: &Asked<'_>,
    ) -> Result<()> {
        let Asked { inputs, classes, .. } = asked;
        let maps = explain.maps(&*run.model, inputs, classes)?;
        let (_, h, w) = maps.dims3()?;
        self.size = (h, w);
        self.curves.extend(measure.curves(&*run.model, inputs, classes, &maps)?);
        let Size { height, width } = run.card.input.image_size();
        for (i, peak) in peaks(&maps, height, width)?.into_iter().enumerate() {
            if !asked.regions[i].is_empty() {
                self.hits.push(asked.hit(i, peak, (width, height)));
            }
        }
        Ok(())
    }
}

impl Asked<'_> {
    /// Whether a pixel of the input, which is of this width and height, lies in a box of the image.
    fn hit(&self, image: usize, pixel: (usize, usize), input: (usize, usize)) -> bool {
        let (reach, size) = (self.reaches[image], self.sizes[image]);
        let place = |at: usize, of: usize, reach: f32, size: usize| {
            (0.5 + ((at as f64 + 0.5) / of as f64 - 0.5) * f64::from(reach)) * size as f64
        };
        let x = place(pixel.0, input.0, reach.width, size.0);
        let y = place(pixel.1, input.1, reach.height, size.1);
        let point = (x as usize, y as usize);
        // In the padding is in no box.
        x >= 0.0 && y >= 0.0 && self.regions[image].iter().any(|region| region.contains(point))
    }
}

impl Measured {
    fn new(method: String, found: &Found, random: Option<&Found>) -> Self {
        let summary = Summary::new(&found.curves, random.map(|random| &random.curves[..]));
        let Summary { insertion, deletion, road } = summary;
        let hits = Hits::of(&found.hits);
        let marks = random.map(|random| hits.marks(&Hits::of(&random.hits)).to_string());
        let Hits { share, interval, count } = hits;
        let pointing = Pointing { images: count, hits: share, interval, marks };
        Self {
            method,
            insertion: insertion.into(),
            deletion: deletion.into(),
            road: road.map(Interval::from),
            pointing: Some(pointing).filter(|_| count > 0),
            verdicts: summary.verdicts(),
        }
    }
}

impl From<Score> for Interval {
    fn from(score: Score) -> Self {
        let half_width = |of: Mean| (of.count > 1).then_some(of.half_width);
        Self {
            mean: score.value.mean,
            half_width: half_width(score.value),
            over_random: score.over_control.map(|over| over.mean),
            over_random_half_width: score.over_control.and_then(half_width),
        }
    }
}

impl Interval {
    fn text(&self, verdict: Verdict) -> String {
        let mark = match verdict {
            Verdict::Better => " *",
            Verdict::Untold => "",
            Verdict::Worse => " -",
        };
        let width = self.half_width.map_or(String::new(), |width| format!(" ± {width:.3}"));
        format!("{:.3}{width}{mark}", self.mean)
    }
}

impl Pointing {
    fn text(&self) -> String {
        let Self { hits, interval: (low, high), marks, .. } = self;
        let mark = match marks.as_deref() {
            Some("object") => " *",
            Some("background") => " -",
            _ => "",
        };
        let [hits, low, high] = [hits, low, high].map(|share| 100.0 * share);
        format!("{hits:.1} % ({low:.1} to {high:.1}){mark}")
    }
}

impl Evaluation {
    /// A table for people.
    pub fn text(&self) -> String {
        let game = self.methods.first().and_then(|of| of.pointing.as_ref());
        let mut text = format!(
            "\nFaithfulness over {} image{}: mean ± half of the 95 % interval\n",
            self.images,
            if self.images == 1 { "" } else { "s" }
        );
        let mut row = |cells: [&str; 5]| {
            let [method, insertion, deletion, road, pointing] = cells;
            let line =
                format!("  {method:<16}  {insertion:<18}  {deletion:<17}  {road:<18}  {pointing}");
            let _ = writeln!(text, "{}", line.trim_end());
        };
        let points = if game.is_some() { "peak in the box" } else { "" };
        row(["method", "insertion (higher)", "deletion (lower)", "ROAD (higher)", points]);
        for of in &self.methods {
            let [insertion, deletion, road] = of.verdicts;
            row([
                &of.method,
                &of.insertion.text(insertion),
                &of.deletion.text(deletion),
                &of.road.as_ref().map_or("–".to_owned(), |value| value.text(road)),
                &of.pointing.as_ref().map_or(String::new(), Pointing::text),
            ]);
        }
        text.push_str(
            "  * better, - worse than a random map with as many cells, by the 95 % interval of the difference\n",
        );
        if let Some(Pointing { images, .. }) = game {
            let _ = writeln!(
                text,
                "  Peak in the box: {images} images with a box and not known to be of another class than the one \
                 explained; - means that the map marks the background"
            );
        }
        if self.images < 2 {
            text.push_str("  One image has no interval: give several to tell anything.\n");
        }
        text
    }
}
