//! The table's page: numbers, curves, and test images with where the networks looked.

use std::io::Cursor;

use abn_data::{Dataset, Sample};
use abn_explain::pictures::{ColourMap, enlarged, overlay};
use abn_train::{Metrics, Prediction, Run, RunFolder, explain};
use anyhow::{Context, Result};
use image::{ImageFormat, RgbImage, imageops};

use super::render::{self, HEAD, LEGEND};
use super::results::{Outcome, Results, Row};
use crate::page::{Page, Picture};
use crate::svg::{Series, line_chart};

/// Pictures are enlarged to at least this many pixels a side.
const SIDE: u32 = 112;
/// Classes of which a picture is shown, at most.
const CLASSES: usize = 20;

/// A row's ABN run and what it says of one test image of each class.
pub struct Answers {
    name: String,
    classes: Vec<String>,
    samples: Vec<Sample>,
    predictions: Vec<Prediction>,
}

impl Answers {
    /// Asks the networks with an attention branch, the first run of each row and dataset.
    pub fn of(results: &Results, outcomes: &[Outcome]) -> Result<Vec<Self>> {
        let mut answers = Vec::new();
        for (cell, row) in results.rows.iter().enumerate() {
            // The others' maps answer other questions than the table's.
            if row.variant != "abn" {
                continue;
            }
            let Some(outcome) = outcomes.iter().find(|o| o.cell == cell) else { continue };
            // The last epoch's weights are those whose error the table reports.
            let run = Run::open(&RunFolder::new(&outcome.folder).last())?;
            let data = abn_data::open(&run.recipe.dataset, run.recipe.data_dir.as_deref())?;
            let samples = one_of_each_class(data.test.as_ref())?;
            let images: Vec<_> = samples.iter().map(|sample| sample.image.clone()).collect();
            let predictions = run.predict(&images)?;
            let name = format!("{}, {}", row.family, row.dataset);
            answers.push(Self { name, classes: run.card.classes, samples, predictions });
        }
        Ok(answers)
    }

    fn pictures(&self) -> Result<Vec<Picture>> {
        self.samples
            .iter()
            .zip(&self.predictions)
            .map(|(sample, prediction)| {
                let (image, overlay) = side_by_side(sample, prediction)?;
                let (class, probability) =
                    prediction.top(1).first().copied().context("a network without classes")?;
                let (truth, answer) = (&self.classes[sample.label as usize], &self.classes[class]);
                let right = class == sample.label as usize;
                let caption = match right {
                    true => format!("{truth} · {:.0} %", 100.0 * probability),
                    false => format!("{truth}, taken for {answer} · {:.0} %", 100.0 * probability),
                };
                let alt = format!("a test image ({truth}) and the attention map over it");
                Ok(Picture { png: png(&beside(&image, &overlay))?, alt, caption, right })
            })
            .collect()
    }

    /// A sheet: the test images above, the maps over them below.
    pub fn sheet(&self) -> Result<RgbImage> {
        let columns: Vec<_> = self
            .samples
            .iter()
            .zip(&self.predictions)
            .map(|(sample, prediction)| {
                side_by_side(sample, prediction).map(|(above, below)| stacked(&above, &below))
            })
            .collect::<Result<_>>()?;
        let first = columns.first().context("a dataset without classes")?;
        Ok(columns[1..].iter().fold(first.clone(), |sheet, column| beside(&sheet, column)))
    }
}

fn one_of_each_class(data: &dyn Dataset) -> Result<Vec<Sample>> {
    let mut found: Vec<Option<Sample>> = vec![None; data.num_classes().min(CLASSES)];
    for index in 0..data.len() {
        if found.iter().all(Option::is_some) {
            break;
        }
        let label = data.label(index)? as usize;
        if let Some(place @ None) = found.get_mut(label) {
            *place = Some(data.get(index)?);
        }
    }
    Ok(found.into_iter().flatten().collect())
}

fn side_by_side(sample: &Sample, prediction: &Prediction) -> Result<(RgbImage, RgbImage)> {
    let picture = enlarged(explain::picture(&sample.image)?, SIDE);
    let map = prediction.attention.as_ref().context("an ABN without attention map")?;
    let overlay = overlay(&picture, map, ColourMap::Jet);
    Ok((picture, overlay))
}

const GAP: u32 = 4;

fn beside(left: &RgbImage, right: &RgbImage) -> RgbImage {
    joined(left, right, left.width() + GAP, 0)
}

fn stacked(above: &RgbImage, below: &RgbImage) -> RgbImage {
    joined(above, below, 0, above.height() + GAP)
}

fn joined(first: &RgbImage, second: &RgbImage, x: u32, y: u32) -> RgbImage {
    let (width, height) =
        (first.width().max(x + second.width()), first.height().max(y + second.height()));
    let mut sheet = RgbImage::from_pixel(width, height, image::Rgb([255; 3]));
    imageops::replace(&mut sheet, first, 0, 0);
    imageops::replace(&mut sheet, second, x.into(), y.into());
    sheet
}

fn png(image: &RgbImage) -> Result<Vec<u8>> {
    let mut bytes = Cursor::new(Vec::new());
    image.write_to(&mut bytes, ImageFormat::Png)?;
    Ok(bytes.into_inner())
}

/// The page.
pub fn html(results: &Results, outcomes: &[Outcome], answers: &[Answers]) -> Result<String> {
    let mut page = Page::new(&results.title);
    if !results.notice.is_empty() {
        page.notice(&results.notice);
    }
    page.text(LEGEND);
    for dataset in &results.datasets {
        page.heading(&dataset.title);
        page.text(&render::dataset_line(dataset));
        let rows: Vec<_> = render::rows_of(results, dataset).map(render::cells).collect();
        page.table(&HEAD, &rows);
    }
    for failure in &results.failures {
        page.notice(&format!("Failed: {}: {}", failure.run, failure.reason));
    }

    page.heading("Curves");
    page.text(
        "First seed of each run. The training loss is that of the perception branch, comparable \
         between variants; an attention branch's comes on top.",
    );
    page.charts(&charts(results, outcomes)?);

    page.heading("Where the networks looked");
    page.text(
        "One test image of each class, the first in the set's order, and ABN's attention map over it: \
         blue is the map's lowest value, red its highest. Wrong answers are marked.",
    );
    for answer in answers {
        page.subheading(&answer.name);
        page.gallery(&answer.pictures()?);
    }
    Ok(page.finish())
}

/// Training loss and test error of each network, a line for each variant.
fn charts(results: &Results, outcomes: &[Outcome]) -> Result<Vec<(String, String)>> {
    let mut networks: Vec<(&str, &str)> = Vec::new();
    for Row { family, dataset, .. } in &results.rows {
        if !networks.contains(&(family, dataset)) {
            networks.push((family, dataset));
        }
    }
    // A variant has one colour throughout, though not every network has every variant.
    let mut variants: Vec<&str> = Vec::new();
    for row in &results.rows {
        if !variants.contains(&row.variant.as_str()) {
            variants.push(&row.variant);
        }
    }
    let mut charts = Vec::new();
    for network in networks {
        let (mut loss, mut error) = (Vec::new(), Vec::new());
        let rows = results.rows.iter().enumerate();
        let rows = rows.filter(|(_, row)| (row.family.as_str(), row.dataset.as_str()) == network);
        for (cell, row) in rows {
            let Some(outcome) = outcomes.iter().find(|o| o.cell == cell) else { continue };
            let class = variants.iter().position(|v| *v == row.variant).unwrap_or(0);
            let metrics = Metrics::read(&RunFolder::new(&outcome.folder).metrics())?;
            let series = |value: &dyn Fn(&Metrics) -> f64| Series {
                name: row.variant_title.clone(),
                points: metrics.iter().map(|m| (m.epoch as f64, value(m))).collect(),
                class,
            };
            loss.push(series(&|m| m.train_loss_perception));
            error.push(series(&|m| m.test_error));
        }
        let name = format!("{}, {}", network.0, network.1);
        charts.push((format!("{name}: training loss"), line_chart("epoch", "loss", &loss)));
        let chart = line_chart("epoch", "error %", &error);
        charts.push((format!("{name}: top-1 test error in percent"), chart));
    }
    Ok(charts)
}
