//! A table as text and as Markdown.

use std::fmt::Write;

use super::faces;
use super::file::{Also, Measure};
use super::results::{DatasetResult, Results, Row};

/// The columns' headings.
pub fn head(measure: Measure) -> [&'static str; 10] {
    let what = match measure {
        Measure::Error => "Error %",
        Measure::Accuracy => "Accuracy %",
    };
    [
        "Family",
        "Network",
        "Variant",
        what,
        "Reported",
        "Ours − rep.",
        "vs. first",
        "Parameters",
        "Multiply-adds",
        "Training",
    ]
}

/// How to read the columns.
pub fn legend(measure: Measure) -> String {
    let (what, better) = match measure {
        Measure::Error => ("Top-1 test error", "below"),
        Measure::Accuracy => ("Test accuracy, the mean over the attributes,", "above"),
    };
    format!(
        "{what} after the last epoch in percent, of the perception branch where there are two; with several seeds mean ± \
         standard deviation. “vs. first” is the difference to the network's first variant, in percentage points, {better} \
         zero where the variant is better, with the p-value of a paired t-test over the seeds if there are at least two. \
         “Reported” numbers marked * were re-run by ABN's authors. “Training” is the speed and the wall time of one run on \
         this machine, data loading included."
    )
}

/// A difference in percentage points; one that rounds to zero has a plus.
pub fn signed(value: f64) -> String {
    match format!("{value:+.2}").as_str() {
        "-0.00" => "+0.00".to_owned(),
        shown => shown.replace('-', "−"),
    }
}

/// Where there is no number.
pub fn dash() -> String {
    "–".to_owned()
}

/// The cells of a network that nobody trains here, under [`head`].
fn also_cells(also: &Also) -> Vec<String> {
    let mut cells = vec![dash(); 10];
    cells[0].clone_from(&also.name);
    cells[4] = format!("{:.2}", also.reported);
    cells
}

/// The cells of a dataset's rows, what was reported of others last.
pub fn lines(results: &Results, dataset: &DatasetResult) -> Vec<Vec<String>> {
    let rows = rows_of(results, dataset).map(|row| cells(row, results.measure));
    rows.chain(dataset.also.iter().map(also_cells)).collect()
}

/// A row's cells, under [`head`].
fn cells(row: &Row, measure: Measure) -> Vec<String> {
    let error = row.error.map_or_else(dash, |error| match row.deviation {
        Some(deviation) => format!("{:.2} ± {deviation:.2}", measure.of(error)),
        None => format!("{:.2}", measure.of(error)),
    });
    let reported = row.reported.as_ref().map_or_else(dash, |reported| {
        let star = if reported.1.contains("re-run") { "*" } else { "" };
        format!("{:.2}{star}", measure.of(reported.0))
    });
    let signed = |of_errors: f64| signed(measure.difference(of_errors));
    let comparison = row.comparison.map_or_else(dash, |c| match c.p {
        Some(p) => format!("{} (p {})", signed(c.difference), short_p(p)),
        None => signed(c.difference),
    });
    let training = match (row.images_per_second, row.seconds) {
        (Some(speed), Some(seconds)) => format!("{speed:.0}/s, {}", duration(seconds)),
        _ => dash(),
    };
    vec![
        row.family.clone(),
        row.model.clone(),
        row.variant_title.clone(),
        error,
        reported,
        row.over_reported.map_or_else(dash, signed),
        comparison,
        count(row.parameters),
        count(row.multiply_adds),
        training,
    ]
}

fn short_p(p: f64) -> String {
    if p < 0.001 { "< 0.001".into() } else { format!("{p:.3}") }
}

/// 1234567 as `1.23 M`.
pub fn count(n: u64) -> String {
    match n as f64 {
        n if n >= 1e9 => format!("{:.2} G", n / 1e9),
        n if n >= 1e6 => format!("{:.2} M", n / 1e6),
        n if n >= 1e3 => format!("{:.1} k", n / 1e3),
        n => format!("{n}"),
    }
}

/// 5400 seconds as `1 h 30 min`.
pub fn duration(seconds: f64) -> String {
    let minutes = (seconds / 60.0).round() as u64;
    match seconds {
        s if s < 99.5 => format!("{s:.0} s"),
        s if s < 99.5 * 60.0 => format!("{minutes} min"),
        s if s < 48.0 * 3600.0 => format!("{} h {:02} min", minutes / 60, minutes % 60),
        s => format!("{:.1} days", s / 86400.0),
    }
}

/// The rows of a dataset, in order.
pub fn rows_of<'a>(
    results: &'a Results,
    dataset: &'a DatasetResult,
) -> impl Iterator<Item = &'a Row> {
    results.rows.iter().filter(|row| row.dataset == dataset.name)
}

/// What is said of a dataset above its rows.
pub fn dataset_line(dataset: &DatasetResult) -> String {
    match &dataset.missing {
        None => format!("{}: {}", dataset.title, dataset.note),
        Some(reason) => format!("{}: not here, so its errors are empty. {reason}", dataset.title),
    }
}

/// For the terminal: aligned columns.
pub fn text(results: &Results) -> String {
    let all: Vec<_> = results.datasets.iter().flat_map(|d| lines(results, d)).collect();
    let head = head(results.measure);
    let width = |i: usize| {
        let cells = all.iter().map(|row| row[i].chars().count());
        cells.chain([head[i].chars().count()]).max().unwrap_or(0)
    };
    let line = |cells: &[String]| {
        let line = cells.iter().enumerate().fold(String::new(), |mut line, (i, cell)| {
            let width = width(i);
            let _ = match i {
                0..3 => write!(line, "{cell:<width$}  "),
                _ => write!(line, "{cell:>width$}  "),
            };
            line
        });
        line.trim_end().to_owned() + "\n"
    };
    let mut out = format!("{}\n", results.title);
    if !results.notice.is_empty() {
        let _ = writeln!(out, "{}", results.notice);
    }
    for dataset in &results.datasets {
        let _ = writeln!(out, "\n{}", dataset_line(dataset));
        out += &line(&head.map(String::from));
        let mut last = String::new();
        for mut cells in lines(results, dataset) {
            if cells[0] == last {
                cells[0].clear();
                cells[1].clear();
            } else {
                last.clone_from(&cells[0]);
            }
            out += &line(&cells);
        }
    }
    out += &faces::text(&results.attributes);
    for failure in &results.failures {
        let _ = writeln!(out, "\nfailed: {}: {}", failure.run, failure.reason);
    }
    out
}

/// As a Markdown page.
pub fn markdown(results: &Results) -> String {
    let mut out = format!("# {}\n\n", results.title);
    if !results.notice.is_empty() {
        let _ = writeln!(out, "{}\n", results.notice);
    }
    for dataset in &results.datasets {
        let _ = writeln!(out, "## {}\n\n{}\n", dataset.title, dataset_line(dataset));
        let head = head(results.measure);
        let _ = writeln!(out, "| {} |", head.join(" | "));
        let _ = writeln!(out, "|---|---|---|{}", "---:|".repeat(head.len() - 3));
        for cells in lines(results, dataset) {
            let _ = writeln!(out, "| {} |", cells.join(" | "));
        }
        out.push('\n');
    }
    out += &faces::markdown(&results.attributes);
    for failure in &results.failures {
        let _ = writeln!(out, "Failed: {}: {}\n", failure.run, failure.reason);
    }
    out + &legend(results.measure) + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tables::results::tests::results;

    #[test]
    fn every_variant_is_one_line_in_each_rendering() {
        let results = results();
        for rendering in [text(&results), markdown(&results)] {
            let line = |part: &str| {
                rendering.lines().find(|line| line.contains(part)).expect(&rendering).to_owned()
            };
            let baseline = line("22.00 ± 2.00");
            for cell in ["ResNet", "resnet8", "baseline", "20.50", "+1.50", "300/s, 10 s"] {
                assert!(baseline.contains(cell), "{cell}: {baseline}");
            }
            let abn = line("18.50 ± 0.71");
            assert!(abn.contains("ABN") && abn.contains("−2.50 (p 0.126)"), "{abn}");
            assert!(rendering.contains("get it somewhere") && rendering.contains("no luck"));
        }
    }

    #[test]
    fn numbers_are_short() {
        let zeros = [-0.0, -0.004, 0.0, 0.004].map(signed);
        assert!(zeros.iter().all(|shown| shown == "+0.00"), "{zeros:?}");
        assert_eq!(signed(-0.006), "−0.01");
        assert_eq!(
            [999, 1_234, 5_000_000, 12_127_249_408].map(count),
            ["999", "1.2 k", "5.00 M", "12.13 G"]
        );
        assert_eq!(
            [9.6, 200.0, 5400.0, 400_000.0].map(duration),
            ["10 s", "3 min", "90 min", "4.6 days"]
        );
        assert_eq!(duration(7500.0), "2 h 05 min");
    }
}
