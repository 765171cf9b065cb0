//! The table's page: numbers, curves, and test images with where the networks looked.

use std::io::Cursor;

use abn_data::{Dataset, Sample};
use abn_train::{Metrics, Prediction, Run, RunFolder, explain};
use anyhow::{Context, Result};
use image::{ImageFormat, RgbImage, imageops};

use crate::page::{Page, Picture};
use crate::render::{self, HEAD, QUICK};
use crate::results::{Outcome, Results};
use crate::svg::{Series, line_chart};

/// Pictures are enlarged to at least this many pixels a side.
const SIDE: u32 = 112;

/// A family's ABN run and what it says of one test image of each class.
pub struct Answers {
    row: String,
    classes: Vec<String>,
    samples: Vec<Sample>,
    predictions: Vec<Prediction>,
}

impl Answers {
    /// Asks the networks with an attention branch, the first seed of each row.
    pub fn of(outcomes: &[Outcome]) -> Result<Vec<Self>> {
        let abn = outcomes.iter().filter(|o| o.summary.variant == "abn");
        let mut answers: Vec<Self> = Vec::new();
        for outcome in abn {
            if answers.iter().any(|known| known.row == outcome.row) {
                continue;
            }
            // The last epoch's weights are those whose error the table reports.
            let run = Run::open(&RunFolder::new(&outcome.folder).last())?;
            let data = abn_data::open(&run.recipe.dataset, run.recipe.data_dir.as_deref())?;
            let samples = one_of_each_class(data.test.as_ref())?;
            let images: Vec<_> = samples.iter().map(|sample| sample.image.clone()).collect();
            let predictions = run.predict(&images)?;
            let row = outcome.row.clone();
            answers.push(Self { row, classes: run.card.classes, samples, predictions });
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
    let mut found: Vec<Option<Sample>> = (0..data.num_classes()).map(|_| None).collect();
    for index in 0..data.len() {
        if found.iter().all(Option::is_some) {
            break;
        }
        let sample = data.get(index)?;
        let place = &mut found[sample.label as usize];
        if place.is_none() {
            *place = Some(sample);
        }
    }
    Ok(found.into_iter().flatten().collect())
}

fn side_by_side(sample: &Sample, prediction: &Prediction) -> Result<(RgbImage, RgbImage)> {
    let picture = explain::enlarged(explain::picture(&sample.image)?, SIDE);
    let map = prediction.attention.as_ref().context("an ABN without attention map")?;
    let overlay = explain::overlay(&picture, map);
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
    page.notice(QUICK);
    page.text(&format!(
        "Data: {}. Top-1 test error after the last epoch; for ABN that of the perception branch. \
         The difference is in percentage points, below zero where ABN is better. Where a cell has \
         two numbers, the baseline's is first; images per second are those of training.",
        results.dataset_note
    ));
    let rows: Vec<_> = results.pairs().map(|pair| render::cells(&pair)).collect();
    page.table(&HEAD, &rows);

    page.heading("Curves");
    page.text(
        "First seed of each run. The training loss of ABN is that of its perception branch, \
         comparable with the baseline's; the attention branch's comes on top.",
    );
    page.charts(&charts(outcomes)?);

    page.heading("Where the networks looked");
    page.text(
        "One test image of each class, the first in the set's order, and the attention map over it: \
         blue is the map's lowest value, red its highest. Wrong answers are marked.",
    );
    for answer in answers {
        page.subheading(&answer.row);
        page.gallery(&answer.pictures()?);
    }
    Ok(page.finish())
}

/// Loss and error of each row: baseline and ABN, training and test.
fn charts(outcomes: &[Outcome]) -> Result<Vec<(String, String)>> {
    let mut rows: Vec<&str> = Vec::new();
    for outcome in outcomes {
        if !rows.contains(&outcome.row.as_str()) {
            rows.push(&outcome.row);
        }
    }
    let mut charts = Vec::new();
    for row in rows {
        let (mut loss, mut error) = (Vec::new(), Vec::new());
        for (class, (variant, name)) in
            [("baseline", "baseline"), ("abn", "ABN")].into_iter().enumerate()
        {
            let same = |o: &&Outcome| o.row == row && o.summary.variant == variant;
            let Some(outcome) = outcomes.iter().find(same) else { continue };
            let metrics = Metrics::read(&RunFolder::new(&outcome.folder).metrics())?;
            let series = |what: &str, class: usize, value: &dyn Fn(&Metrics) -> f64| Series {
                name: format!("{name}, {what}"),
                points: metrics.iter().map(|m| (m.epoch as f64, value(m))).collect(),
                class,
            };
            loss.push(series("training", class, &|m| m.train_loss_perception));
            error.push(series("test", class, &|m| m.test_error));
            error.push(series("training", class + 2, &|m| m.train_error));
        }
        charts.push((format!("{row}: loss"), line_chart("epoch", "loss", &loss)));
        charts.push((
            format!("{row}: top-1 error in percent"),
            line_chart("epoch", "error %", &error),
        ));
    }
    Ok(charts)
}
