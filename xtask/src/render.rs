//! The table as text and as Markdown.

use std::fmt::Write;

use crate::results::{Pair, Results};

/// What stands above every rendering of a quick table.
pub const QUICK: &str = "Quick profile: small networks, few epochs and not the paper's data. It shows that \
    everything works and how the parts compare here; it says nothing of the paper's accuracy.";

/// The columns' headings.
pub const HEAD: [&str; 8] = [
    "Family",
    "Network",
    "Baseline error %",
    "ABN error %",
    "Difference",
    "Parameters",
    "Multiply-adds",
    "Images/s",
];

/// A family's cells, under [`HEAD`].
pub fn cells(pair: &Pair<'_>) -> Vec<String> {
    let (baseline, abn) = (pair.baseline, pair.abn);
    vec![
        baseline.family.clone(),
        baseline.model.clone(),
        error(&baseline.errors, baseline.error),
        error(&abn.errors, abn.error),
        format!("{:+.2}", pair.difference()),
        format!("{} / {}", count(baseline.parameters), count(abn.parameters)),
        format!("{} / {}", count(baseline.multiply_adds), count(abn.multiply_adds)),
        format!("{:.0} / {:.0}", baseline.images_per_second, abn.images_per_second),
    ]
}

/// Mean, with the standard deviation where there are several seeds.
fn error(all: &[f64], mean: f64) -> String {
    if all.len() < 2 {
        return format!("{mean:.2}");
    }
    let squares: f64 = all.iter().map(|e| (e - mean).powi(2)).sum();
    format!("{mean:.2} ± {:.2}", (squares / (all.len() - 1) as f64).sqrt())
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

/// For the terminal: aligned columns.
pub fn text(results: &Results) -> String {
    let rows: Vec<_> = results.pairs().map(|pair| cells(&pair)).collect();
    let width = |i: usize| {
        let cells = rows.iter().map(|row| row[i].chars().count());
        cells.chain([HEAD[i].chars().count()]).max().unwrap_or(0)
    };
    let line = |cells: &[String]| {
        cells.iter().enumerate().fold(String::new(), |mut line, (i, cell)| {
            let width = width(i);
            let _ = match i {
                0 | 1 => write!(line, "{cell:<width$}  "),
                _ => write!(line, "{cell:>width$}  "),
            };
            line
        })
    };
    let mut out = format!("{}: {}\n", results.title, results.dataset_note);
    let _ = writeln!(out, "{}", line(&HEAD.map(String::from)).trim_end());
    for row in &rows {
        let _ = writeln!(out, "{}", line(row).trim_end());
    }
    out
}

/// As a Markdown page.
pub fn markdown(results: &Results) -> String {
    let mut out = format!("# {}\n\n{QUICK}\n\nData: {}.\n\n", results.title, results.dataset_note);
    let _ = writeln!(out, "| {} |", HEAD.join(" | "));
    let _ = writeln!(out, "|---|---|{}", "---:|".repeat(HEAD.len() - 2));
    for pair in results.pairs() {
        let _ = writeln!(out, "| {} |", cells(&pair).join(" | "));
    }
    let _ = writeln!(
        out,
        "\nTop-1 test error after the last epoch, of the perception branch for ABN; difference in percentage \
         points, below zero where ABN is better. Where a cell has two numbers, the baseline's is first. Images \
         per second are those of training on this machine, data loading included."
    );
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::results::tests::results;

    #[test]
    fn every_family_is_one_line_in_each_rendering() {
        let results = results();
        let text = text(&results);
        let markdown = markdown(&results);
        for rendering in [&text, &markdown] {
            let line = rendering.lines().find(|line| line.contains("resnet8")).expect(rendering);
            for cell in ["ResNet", "21.00 ± 1.41", "19.00", "-2.00", "1.23 M / 2.00 M", "300 / 100"]
            {
                assert!(line.contains(cell), "{cell}: {line}");
            }
        }
        assert!(markdown.contains("not the paper's data"));
    }

    #[test]
    fn counts_are_short() {
        assert_eq!(
            [999, 1_234, 5_000_000, 12_127_249_408].map(count),
            ["999", "1.2 k", "5.00 M", "12.13 G"]
        );
    }
}
