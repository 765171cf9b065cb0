//! What a run's folder holds for other programs and for people to look at. All of it follows from
//! `metrics.jsonl` and the last evaluation, and is written anew after each epoch: so after a kill
//! nothing is there twice or torn.

use std::fs;
use std::time::UNIX_EPOCH;

use crate::card::Card;
use crate::folder::RunFolder;
use crate::network::Tested;
use crate::report::{Gallery, Results};
use crate::{Metrics, Recipe, Result, attributes, csv, files, report, tensorboard};

/// Writes everything, after an epoch; the page with a gallery after the last.
pub(crate) fn write(
    folder: &RunFolder,
    recipe: &Recipe,
    card: &Card,
    tested: &Tested,
    gallery: &Gallery,
) -> Result<()> {
    let lines = &write_curves(folder)?;
    let results = match tested {
        Tested::Classes(evaluation) => Results::Classes(evaluation.confusion()),
        Tested::Tasks(evaluation) => Results::Tasks(evaluation.scores()),
    };
    match &results {
        Results::Classes(confusion) => {
            files::replace_file(&folder.confusion(), confusion.to_csv().as_bytes())?;
        }
        Results::Tasks(scores) => {
            files::replace_file(&folder.attributes(), attributes::to_csv(scores).as_bytes())?;
        }
    }
    let cost = card.cost()?;
    let results = &results;
    let page = report::html(&report::Content { recipe, cost, lines, results, gallery })?;
    files::replace_file(&folder.report(), page.as_bytes())
}

/// Writes what follows from `metrics.jsonl` alone, and gives its lines.
pub(crate) fn write_curves(folder: &RunFolder) -> Result<Vec<Metrics>> {
    let lines = Metrics::read(&folder.metrics())?;
    files::replace_file(&folder.metrics_csv(), metrics_csv(&lines).as_bytes())?;
    files::replace_file(&folder.events(), &tensorboard::events(&lines, begun(folder)))?;
    Ok(lines)
}

/// When the run began, in seconds since 1970: its recipe is written once, then. 0 if the file
/// system does not tell.
fn begun(folder: &RunFolder) -> f64 {
    let written = fs::metadata(folder.recipe()).and_then(|data| data.modified());
    let since = written.ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
    since.map_or(0.0, |since| since.as_secs_f64())
}

/// A line for each epoch; the columns are the keys of `metrics.jsonl`.
fn metrics_csv(lines: &[Metrics]) -> String {
    let head = csv::line([
        "epoch",
        "lr",
        "train_loss",
        "train_loss_perception",
        "train_loss_attention",
        "train_error",
        "test_loss",
        "test_error",
        "test_error_attention",
        "seconds",
        "images_per_second",
    ]);
    let row = |line: &Metrics| {
        let some = |value: Option<f64>| value.map_or(String::new(), |value| value.to_string());
        csv::line([
            line.epoch.to_string(),
            line.lr.to_string(),
            line.train_loss.to_string(),
            line.train_loss_perception.to_string(),
            some(line.train_loss_attention),
            line.train_error.to_string(),
            line.test_loss.to_string(),
            line.test_error.to_string(),
            some(line.test_error_attention),
            line.seconds.to_string(),
            line.images_per_second.to_string(),
        ])
    };
    lines.iter().map(row).fold(head, |text, row| text + &row)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::example;

    #[test]
    fn the_columns_are_the_keys_of_the_lines() {
        let line = Metrics { test_error_attention: Some(3.5), ..example(2, 12.5) };
        let text = metrics_csv(&[line.clone(), example(3, 11.0)]);
        let rows: Vec<Vec<_>> = text.lines().map(|line| line.split(',').collect()).collect();
        let json = serde_json::to_value(&line).unwrap();
        let keys = json.as_object().unwrap();
        assert_eq!(rows[0].len(), keys.len());
        for (key, value) in rows[0].iter().zip(&rows[1]) {
            assert_eq!(value.parse::<f64>().unwrap(), keys[*key].as_f64().unwrap(), "{key}");
        }
        assert_eq!(rows[2][8], "", "no attention branch, no error of it");
    }
}
