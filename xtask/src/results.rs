//! A table's numbers.

use std::path::PathBuf;

use abn_train::Summary;
use serde::Serialize;

/// A finished run and the table's row it belongs to.
pub struct Outcome {
    /// Name of the row: the family.
    pub row: String,
    /// The run's folder.
    pub folder: PathBuf,
    /// What the run came to.
    pub summary: Summary,
}

/// The whole table, as `table2.json` has it.
#[derive(Serialize)]
pub struct Results {
    /// Heading.
    pub title: String,
    /// Which data this is, in words.
    pub dataset_note: String,
    /// Two rows per family: its baseline and its ABN.
    pub rows: Vec<Row>,
}

/// A network in one variant, over all its seeds.
#[derive(Clone, Serialize)]
pub struct Row {
    /// Family, as the paper's table names it.
    pub family: String,
    /// Name of the network.
    pub model: String,
    /// `baseline` or `abn`.
    pub variant: String,
    /// Name of the dataset.
    pub dataset: String,
    /// Seeds trained.
    pub seeds: Vec<u64>,
    /// Top-1 test error after the last epoch in percent, mean over the seeds.
    pub error: f64,
    /// The same for each seed, in the order of `seeds`.
    pub errors: Vec<f64>,
    /// Epochs trained.
    pub epochs: usize,
    /// Trainable parameters.
    pub parameters: u64,
    /// Multiply-adds of one image's forward pass.
    pub multiply_adds: u64,
    /// Training speed, mean over the seeds.
    pub images_per_second: f64,
}

/// A family's two rows.
pub struct Pair<'a> {
    /// Without the attention branch.
    pub baseline: &'a Row,
    /// With it.
    pub abn: &'a Row,
}

impl Pair<'_> {
    /// Error of ABN less that of its baseline, in percentage points: below zero, ABN is better.
    pub fn difference(&self) -> f64 {
        self.abn.error - self.baseline.error
    }
}

impl Results {
    /// Gathers the runs of each row and variant, in the order they come.
    pub fn new(title: &str, dataset_note: &str, outcomes: &[Outcome]) -> Self {
        let mut rows: Vec<Row> = Vec::new();
        for Outcome { row, summary, .. } in outcomes {
            let same = |r: &&mut Row| r.family == *row && r.variant == summary.variant;
            let at = match rows.iter_mut().find(same) {
                Some(found) => found,
                None => {
                    rows.push(Row {
                        family: row.clone(),
                        model: summary.model.clone(),
                        variant: summary.variant.clone(),
                        dataset: summary.dataset.clone(),
                        seeds: Vec::new(),
                        error: 0.0,
                        errors: Vec::new(),
                        epochs: summary.epochs,
                        parameters: summary.parameters,
                        multiply_adds: summary.multiply_adds,
                        images_per_second: 0.0,
                    });
                    rows.last_mut().expect("just pushed")
                }
            };
            at.seeds.push(summary.seed);
            at.errors.push(summary.test_error);
            let n = at.seeds.len() as f64;
            at.error += (summary.test_error - at.error) / n;
            at.images_per_second += (summary.images_per_second - at.images_per_second) / n;
        }
        Self { title: title.into(), dataset_note: dataset_note.into(), rows }
    }

    /// The families that have both variants.
    pub fn pairs(&self) -> impl Iterator<Item = Pair<'_>> {
        let abn = |baseline: &Row| {
            self.rows.iter().find(|r| r.family == baseline.family && r.variant == "abn")
        };
        let baselines = self.rows.iter().filter(|row| row.variant == "baseline");
        baselines.filter_map(move |baseline| Some(Pair { baseline, abn: abn(baseline)? }))
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;

    fn outcome(variant: &str, seed: u64, test_error: f64, images_per_second: f64) -> Outcome {
        let abn = variant == "abn";
        let summary = Summary {
            model: "resnet8".into(),
            variant: variant.into(),
            dataset: "fashion-mnist-mini".into(),
            seed,
            epochs: 3,
            test_error,
            test_error_attention: abn.then_some(22.0),
            best_test_error: test_error,
            best_epoch: 3,
            train_loss: 0.5,
            parameters: if abn { 2_000_000 } else { 1_234_567 },
            multiply_adds: 12_000_000,
            images_per_second,
            seconds: 10.0,
        };
        Outcome { row: "ResNet".into(), folder: "runs/none".into(), summary }
    }

    /// A row whose baseline has two seeds.
    pub fn results() -> Results {
        let outcomes = [
            outcome("baseline", 0, 20.0, 200.0),
            outcome("baseline", 1, 22.0, 400.0),
            outcome("abn", 0, 19.0, 100.0),
        ];
        Results::new("Table 2", "some data", &outcomes)
    }

    #[test]
    fn seeds_are_averaged_and_variants_paired() {
        let results = results();
        assert_eq!(results.rows.len(), 2);
        let pairs: Vec<_> = results.pairs().collect();
        assert_eq!(pairs.len(), 1);
        assert_eq!((pairs[0].baseline.error, pairs[0].difference()), (21.0, -2.0));
        assert_eq!(pairs[0].baseline.images_per_second, 300.0);
        assert_eq!(pairs[0].baseline.seeds, [0, 1]);
    }

    #[test]
    fn the_json_has_what_a_program_needs_of_each_row() {
        let json = serde_json::to_value(results()).unwrap();
        let row = &json["rows"][1];
        for key in
            ["model", "variant", "dataset", "seeds", "error", "parameters", "images_per_second"]
        {
            assert!(!row[key].is_null(), "{key}: {row}");
        }
    }
}
