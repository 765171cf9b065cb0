//! A table's numbers.

use std::path::PathBuf;

use abn_train::Summary;
use serde::Serialize;

use super::faces::Attributes;
use super::file::{Also, Cell, Measure, Reported};
use super::paired;

/// A run of the plan and what became of it.
pub struct Outcome {
    /// Position of its cell in the plan.
    pub cell: usize,
    /// The run's folder.
    pub folder: PathBuf,
    /// What the run came to.
    pub summary: Summary,
}

/// A dataset and whether it was there.
#[derive(Clone, Serialize)]
pub struct DatasetResult {
    /// Its name.
    pub name: String,
    /// Its name in the table.
    pub title: String,
    /// What it is, in a line.
    pub note: String,
    /// Why it is missing and how to get it; `None` if it is there.
    pub missing: Option<String>,
    /// Networks that nobody trains here.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub also: Vec<Also>,
}

/// A run that did not end.
#[derive(Clone, Debug, Serialize)]
pub struct Failure {
    /// Family, dataset, variant and seed.
    pub run: String,
    /// Why.
    pub reason: String,
}

/// The whole table, as its JSON file has it.
#[derive(Serialize)]
pub struct Results {
    /// Heading.
    pub title: String,
    /// What a reader must know before the numbers; may be empty.
    pub notice: String,
    /// What the pages show; here are errors throughout.
    pub measure: Measure,
    /// The datasets, in the table's order.
    pub datasets: Vec<DatasetResult>,
    /// One for each network, variant and dataset.
    pub rows: Vec<Row>,
    /// The networks of several tasks, task by task.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub attributes: Vec<Attributes>,
    /// Runs that did not end.
    pub failures: Vec<Failure>,
}

/// A network in one variant on one dataset, over all its seeds.
#[derive(Clone, Serialize)]
pub struct Row {
    /// Family, as the paper's table names it.
    pub family: String,
    /// Name of the network.
    pub model: String,
    /// Name of the variant.
    pub variant: String,
    /// The variant's name in the table.
    pub variant_title: String,
    /// Name of the dataset.
    pub dataset: String,
    /// Seeds trained; none if the dataset is missing or every run failed.
    pub seeds: Vec<u64>,
    /// Top-1 test error after the last epoch in percent, mean over the tasks and seeds.
    pub error: Option<f64>,
    /// Standard deviation over the seeds, if there are several.
    pub deviation: Option<f64>,
    /// The error for each seed, in the order of `seeds`.
    pub errors: Vec<f64>,
    /// What others reported.
    pub reported: Option<Reported>,
    /// `error` less the reported one, in percentage points.
    pub over_reported: Option<f64>,
    /// Against the table's first variant of the same network.
    pub comparison: Option<Comparison>,
    /// Epochs of a run.
    pub epochs: usize,
    /// Trainable parameters.
    pub parameters: u64,
    /// Multiply-adds of one image's forward pass.
    pub multiply_adds: u64,
    /// Training speed, mean over the seeds.
    pub images_per_second: Option<f64>,
    /// Wall time of a run, mean over the seeds.
    pub seconds: Option<f64>,
}

/// A variant against the first one, on the seeds that both have.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Comparison {
    /// Difference of the mean errors in percentage points: below zero, the variant is better.
    pub difference: f64,
    /// Two-sided p-value of the paired t-test over the seeds, if there are at least two.
    pub p: Option<f64>,
}

/// What stands above a table.
#[derive(Clone, Copy)]
pub struct Heading<'a> {
    /// Its title.
    pub title: &'a str,
    /// What a reader must know before the numbers; may be empty.
    pub notice: &'a str,
    /// What the numbers are.
    pub measure: Measure,
}

impl Results {
    /// Gathers the runs of each cell.
    ///
    /// # Errors
    /// If a cell's network cannot be counted.
    pub fn new(
        heading: Heading<'_>,
        cells: &[Cell<'_>],
        datasets: Vec<DatasetResult>,
        outcomes: &[Outcome],
        failures: Vec<Failure>,
    ) -> anyhow::Result<Self> {
        let mut rows = Vec::with_capacity(cells.len());
        for (index, cell) in cells.iter().enumerate() {
            let runs: Vec<_> =
                outcomes.iter().filter(|o| o.cell == index).map(|o| &o.summary).collect();
            rows.push(Row::new(cell, &runs)?);
        }
        let firsts = rows.clone();
        for row in &mut rows {
            let first = firsts.iter().find(|r| r.family == row.family && r.dataset == row.dataset);
            row.comparison = first.and_then(|first| row.against(first));
        }
        let Heading { title, notice, measure } = heading;
        let (title, notice, attributes) = (title.into(), notice.into(), Vec::new());
        Ok(Self { title, notice, measure, datasets, rows, attributes, failures })
    }
}

impl Row {
    fn new(cell: &Cell<'_>, runs: &[&Summary]) -> anyhow::Result<Self> {
        let recipe = &cell.recipe;
        let cost = cell.card()?.cost()?;
        let errors: Vec<f64> = runs.iter().map(|run| run.test_error).collect();
        let mean = |value: &dyn Fn(&Summary) -> f64| {
            let values: Vec<f64> = runs.iter().map(|run| value(run)).collect();
            (!values.is_empty()).then(|| paired::mean(&values))
        };
        let error = mean(&|run| run.test_error);
        let reported = cell.reported.clone();
        Ok(Self {
            family: cell.row.name.clone(),
            model: recipe.model.clone(),
            variant: cell.column.name.clone(),
            variant_title: cell.column.title.clone(),
            dataset: cell.dataset.name.clone(),
            seeds: runs.iter().map(|run| run.seed).collect(),
            error,
            deviation: paired::standard_deviation(&errors),
            errors,
            over_reported: error.zip(reported.as_ref()).map(|(ours, theirs)| ours - theirs.0),
            reported,
            comparison: None,
            epochs: recipe.epochs,
            parameters: cost.parameters,
            multiply_adds: cost.multiply_adds,
            images_per_second: mean(&|run| run.images_per_second),
            seconds: mean(&|run| run.seconds),
        })
    }

    /// `None` for the first variant itself, and without a seed that both have.
    fn against(&self, first: &Row) -> Option<Comparison> {
        if self.variant == first.variant {
            return None;
        }
        let theirs = |seed| {
            let at = first.seeds.iter().position(|s| s == seed)?;
            Some(first.errors[at])
        };
        let pairs = self.seeds.iter().zip(&self.errors);
        let (ours, theirs): (Vec<f64>, Vec<f64>) =
            pairs.filter_map(|(seed, &error)| Some((error, theirs(seed)?))).unzip();
        if ours.is_empty() {
            return None;
        }
        let difference = paired::mean(&ours) - paired::mean(&theirs);
        Some(Comparison { difference, p: paired::p_value(&ours, &theirs) })
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use crate::tables::file::TableFile;

    const TABLE: &str = r#"
        title = "Table 2"
        recipe = { epochs = 3, milestones = [] }
        column = [
            { name = "baseline", title = "baseline", recipe = { variant = "baseline" } },
            { name = "abn", title = "ABN", recipe = { variant = "abn" } },
        ]
        dataset = [
            { name = "fashion-mnist-mini", title = "Clothes", note = "clothing", classes = 10, images = 10000 },
            { name = "fashion-mnist", title = "More", note = "more clothing", classes = 10, images = 60000 },
        ]
        [[row]]
        name = "ResNet"
        recipe = { model = "resnet8" }
        on.fashion-mnist-mini.reported = { baseline = [20.5, "a paper"] }
        on.fashion-mnist = {}
    "#;

    fn outcome(cell: usize, seed: u64, test_error: f64, images_per_second: f64) -> Outcome {
        let summary = Summary {
            model: "resnet8".into(),
            variant: if cell == 0 { "baseline" } else { "abn" }.into(),
            dataset: "fashion-mnist-mini".into(),
            seed,
            epochs: 3,
            test_error,
            test_error_attention: (cell == 1).then_some(22.0),
            best_test_error: test_error,
            best_epoch: 3,
            train_loss: 0.5,
            parameters: 1_234_567,
            multiply_adds: 12_000_000,
            images_per_second,
            seconds: 10.0,
        };
        Outcome { cell, folder: "runs/none".into(), summary }
    }

    /// One dataset whose baseline has three seeds and whose ABN two, and one that is missing.
    pub fn results() -> Results {
        let table = TableFile::parse(TABLE).unwrap();
        let outcomes = [
            outcome(0, 0, 20.0, 200.0),
            outcome(0, 1, 22.0, 400.0),
            outcome(0, 2, 24.0, 300.0),
            outcome(1, 1, 19.0, 100.0),
            outcome(1, 0, 18.0, 100.0),
        ];
        let datasets = table.dataset.iter().map(|dataset| DatasetResult {
            name: dataset.name.clone(),
            title: dataset.title.clone(),
            note: dataset.note.clone(),
            missing: (dataset.name == "fashion-mnist").then(|| "get it somewhere".into()),
            also: Vec::new(),
        });
        let failures = vec![Failure { run: "ResNet seed 2".into(), reason: "no luck".into() }];
        let (title, measure) = (table.title.as_str(), Measure::Error);
        let heading = Heading { title, notice: "Not the paper's data.", measure };
        let cells = table.cells().unwrap();
        Results::new(heading, &cells, datasets.collect(), &outcomes, failures).unwrap()
    }

    #[test]
    fn seeds_are_averaged_and_variants_compared_on_the_seeds_both_have() {
        let results = results();
        assert_eq!(results.rows.len(), 4);
        let [baseline, abn] = &results.rows[..2] else { unreachable!() };
        assert_eq!((baseline.error, baseline.deviation), (Some(22.0), Some(2.0)));
        assert_eq!(baseline.images_per_second, Some(300.0));
        assert_eq!((baseline.over_reported, baseline.comparison), (Some(1.5), None));
        let comparison = abn.comparison.unwrap();
        // Seeds 0 and 1: 18 − 20 and 19 − 22.
        assert_eq!(comparison.difference, -2.5);
        // t = −2.5 / (√0.5 / √2) = −5 with one degree of freedom: p = 1 − 2·atan(5)/π.
        let p = 1.0 - 2.0 * 5f64.atan() / std::f64::consts::PI;
        assert!((comparison.p.unwrap() - p).abs() < 1e-12);
    }

    #[test]
    fn what_is_missing_has_no_error_but_a_size() {
        let results = results();
        let missing = &results.rows[2];
        assert_eq!((missing.error, missing.comparison), (None, None));
        assert!(missing.parameters > 70_000);
    }

    #[test]
    fn the_json_has_what_a_program_needs_of_each_row() {
        let json = serde_json::to_value(results()).unwrap();
        let row = &json["rows"][1];
        for key in ["model", "variant", "dataset", "seeds", "error", "parameters"] {
            assert!(!row[key].is_null(), "{key}: {row}");
        }
        assert!(!row["images_per_second"].is_null() && !row["comparison"]["p"].is_null(), "{row}");
    }
}
