//! The table's page: numbers, curves, and test images with where the networks looked.

use abn_data::Dataset;
use abn_explain::pictures::{Style, sheet};
use abn_train::report::gallery::{self, Look};
use abn_train::report::matrix;
use abn_train::{AnyRun, Confusion, Metrics, Run, RunFolder};
use anyhow::Result;
use image::RgbImage;

use super::cars::{self, Cars};
use super::faces::{self, Face};
use super::render;
use super::results::{Outcome, Results, Row};
use crate::page::{Page, Picture};
use crate::svg::{Series, line_chart};

/// Classes of which a picture is shown, at most.
const CLASSES: usize = 20;

/// A row's ABN run, what it says of one test image of each class, and how often it is right.
pub struct Answers {
    name: String,
    classes: Vec<String>,
    looks: Vec<Look>,
    confusion: Confusion,
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
            let folder = RunFolder::new(&outcome.folder);
            let run = AnyRun::open(&folder.last())?;
            let AnyRun::Classes(Run { card, recipe, model, params, .. }) = run else { continue };
            let confusion = Confusion::read(&folder.confusion())?;
            let data = abn_data::open(&recipe.dataset, recipe.data_dir.as_deref())?.test;
            let indices = one_of_each_class(&*data)?;
            let method = gallery::method_for(recipe.variant);
            let looks = gallery::look(&*model, &card, params.device(), &*data, &indices, method)?;
            let name = format!("{}, {}", row.family, row.dataset);
            answers.push(Self { name, classes: card.classes, looks, confusion });
        }
        Ok(answers)
    }

    fn pictures(&self) -> Result<Vec<Picture>> {
        Ok(self.looks.iter().map(|look| look.picture(&self.classes)).collect::<Result<_, _>>()?)
    }

    /// A sheet: the test images, each beside the map over it and above the answer.
    pub fn sheet(&self) -> RgbImage {
        const COLUMNS: usize = 5;
        let style = Style { side: 112, gap: 4, ..Style::default() };
        let panels = self.looks.iter().map(|look| look.panel(&self.classes).draw(&style));
        sheet(&panels.collect::<Vec<_>>(), COLUMNS)
    }
}

/// The first image of each class, in the order of classes.
pub fn one_of_each_class(data: &dyn Dataset) -> Result<Vec<usize>> {
    let mut found: Vec<Option<usize>> = vec![None; data.num_classes().min(CLASSES)];
    for index in 0..data.len() {
        if found.iter().all(Option::is_some) {
            break;
        }
        if let Some(place @ None) = found.get_mut(data.label(index)? as usize) {
            *place = Some(index);
        }
    }
    Ok(found.into_iter().flatten().collect())
}

/// The page.
pub fn html(
    results: &Results,
    outcomes: &[Outcome],
    answers: &[Answers],
    cars: &[Cars],
    faces: &[Face],
) -> Result<String> {
    let mut page = Page::new(&results.title);
    if !results.notice.is_empty() {
        page.notice(&results.notice);
    }
    page.text(&render::legend(results.measure));
    for dataset in &results.datasets {
        page.heading(&dataset.title);
        page.text(&render::dataset_line(dataset));
        page.table(&render::head(results.measure), &render::lines(results, dataset));
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

    faces::write(&mut page, &results.attributes, faces)?;
    if !answers.is_empty() {
        page.heading("Where the networks looked");
        page.text(
            "One test image of each class, the first in the set's order, and ABN's attention map over it: \
             blue is the map's lowest value, red its highest. Wrong answers are marked.",
        );
    }
    for answer in answers {
        page.subheading(&answer.name);
        page.gallery(&answer.pictures()?);
    }
    if !answers.is_empty() {
        page.heading("What is taken for what");
        page.text(
            "ABN's answers to all test images after the last epoch, by class: right ones on green, the more \
             frequent wrong ones the darker on orange. Every run's own report.html has its matrix and its \
             surest wrong answers.",
        );
    }
    for answer in answers {
        page.fold(&answer.name, |page| matrix(page, &answer.confusion));
    }
    cars::write(&mut page, cars);
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
