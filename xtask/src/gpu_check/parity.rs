//! The networks on the GPU against the numbers of the authors' code.

use std::path::{Path, PathBuf};

use abn_train::Precision;
use anyhow::{Context, Result, ensure};
use serde::Serialize;

use super::device::Target;
use super::outcome::{Line, Outcome, Table, refused};
use super::part::{self, Parity};
use super::{Check, files};
use crate::bench::as_text;

/// What the GPU may differ by in f32, in fixtures' tolerances.
const TIMES: f64 = 10.0;
const PRECISIONS: [Precision; 3] = [Precision::F32, Precision::Tf32, Precision::Bf16];
/// Of the fixtures, for a quick look: one for each kind of network, and a small one.
const QUICK: [&str; 3] =
    ["cifar_resnet20_abn", "cifar_densenet22_abn", "mtabn_chainer_resnet18_2_5_3"];

#[derive(Serialize)]
struct Row {
    fixture: String,
    #[serde(serialize_with = "as_text")]
    precision: Precision,
    result: Option<Parity>,
    error: Option<String>,
}

impl Row {
    /// The quantity that is farthest from the fixture, in tolerances.
    fn worst(&self) -> Option<(f64, &str)> {
        let quantities = &self.result.as_ref()?.quantities;
        let ratio =
            |deviation: Option<f64>, tolerance| deviation.map_or(f64::INFINITY, |d| d / tolerance);
        let ratios = quantities.iter().map(|q| (ratio(q.deviation, q.tolerance), q.what.as_str()));
        ratios.max_by(|a, b| a.0.total_cmp(&b.0))
    }

    /// Whether it is within `times` its tolerance, or outside by rounding alone.
    fn within(&self, times: f64) -> bool {
        let explained = self.result.as_ref().is_some_and(|result| result.rounding.is_some());
        self.worst().is_some_and(|(ratio, _)| ratio <= times) || explained && times >= TIMES
    }
}

/// Runs every fixture in every precision.
///
/// # Errors
/// If there are no fixtures.
pub fn run(check: &Check) -> Result<Vec<Outcome>> {
    let fixtures = fixtures(&files::find(files::FIXTURES, "tests/fixtures")?, check.quick())?;
    let mut rows = Vec::new();
    let precisions = match check.target() {
        Target::Gpu(_) => &PRECISIONS[..],
        // Has no TF32.
        Target::Emulated => &[Precision::F32, Precision::Bf16][..],
    };
    for &precision in precisions {
        for path in &fixtures {
            let fixture = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            let result = one(check, path, precision);
            let error = result.as_ref().err().map(|error| format!("{error:#}"));
            let row = Row { fixture, precision, result: result.ok(), error };
            println!("  {precision} {}: {}", row.fixture, in_words(&row));
            rows.push(row);
            check.keep(&outcome(&rows)?.so_far(rows.len(), precisions.len() * fixtures.len()))?;
        }
    }
    Ok(vec![outcome(&rows)?])
}

fn outcome(rows: &[Row]) -> Result<Outcome> {
    let figures = serde_json::to_value(rows)?;
    Ok(Outcome { table: Some(table(rows)), ..Outcome::new("parity", lines(rows), figures) })
}

fn one(check: &Check, path: &Path, precision: Precision) -> Result<Parity> {
    let mut command = part::command(check.target(), "parity")?;
    command.arg(path).args(["--device", check.target().within()]);
    command.args(["--precision", &precision.to_string(), "--times", &TIMES.to_string()]);
    part::ask(command)
}

fn fixtures(folder: &Path, quick: bool) -> Result<Vec<PathBuf>> {
    let entries = folder.read_dir().with_context(|| folder.display().to_string())?;
    let mut paths = entries.map(|e| Ok(e?.path())).collect::<Result<Vec<_>>>()?;
    paths.retain(|path| {
        let wanted = |name: &std::ffi::OsStr| QUICK.iter().any(|quick| name == *quick);
        path.extension().is_some_and(|e| e == "json")
            && (!quick || path.file_stem().is_some_and(wanted))
    });
    paths.sort();
    ensure!(!paths.is_empty(), "{} has no fixtures", folder.display());
    Ok(paths)
}

fn in_words(row: &Row) -> String {
    match (row.worst(), &row.error) {
        (Some((ratio, what)), _) => {
            let explained = row.result.as_ref().and_then(|result| result.rounding.as_ref());
            let rounding =
                explained.map_or(String::new(), |double| format!(", rounding: {double}"));
            format!("{ratio:.2} × its tolerance at most ({what}){rounding}")
        }
        (None, Some(error)) => error.clone(),
        (None, None) => "nothing was compared".into(),
    }
}

fn lines(rows: &[Row]) -> Vec<Line> {
    let of = |precision| rows.iter().filter(move |row| row.precision == precision);
    let worst = |precision| {
        let worst = of(precision).filter_map(|row| Some((row.worst()?, row)));
        let worst = worst.max_by(|a, b| a.0.0.total_cmp(&b.0.0));
        worst.map_or("nothing ran".to_owned(), |((ratio, what), row)| {
            format!("farthest {ratio:.2} × ({what} of {})", row.fixture)
        })
    };
    let count = of(Precision::F32).count();
    let near = of(Precision::F32).filter(|row| row.within(1.0)).count();
    let within = of(Precision::F32).filter(|row| row.within(TIMES)).count();
    let found = format!("{within} of {count} within, {near} within 1 ×; {}", worst(Precision::F32));
    let asked = format!("within {TIMES} × the fixtures' tolerance");
    let mut lines = vec![Line::asked("parity in f32 without TF32", found, asked, within == count)];
    let others = [Precision::Tf32, Precision::Bf16].into_iter();
    for precision in others.filter(|&precision| of(precision).next().is_some()) {
        lines.push(Line::told(format!("parity in {precision}"), worst(precision)));
    }
    let results = rows.iter().filter_map(|row| row.result.as_ref());
    lines.extend(refused("", results.flat_map(|result| &result.refused)));
    lines
}

/// A fixture a line, a precision a column.
fn table(rows: &[Row]) -> Table {
    let ran = |precision: &Precision| rows.iter().any(|row| row.precision == *precision);
    let precisions: Vec<_> = PRECISIONS.into_iter().filter(ran).collect();
    let mut columns = vec!["farthest from the fixture, in its tolerances".to_owned()];
    columns.extend(precisions.iter().map(|precision| format!("{precision}:")));
    let mut table = Table { columns, rows: Vec::new() };
    for first in rows.iter().filter(|row| row.precision == Precision::F32) {
        let mut cells = vec![first.fixture.clone()];
        for &precision in &precisions {
            let same = |row: &&Row| row.precision == precision && row.fixture == first.fixture;
            let in_short = |row: &Row| {
                let worst = row.worst().map(|(ratio, what)| format!("{ratio:.2} ({what})"));
                worst.unwrap_or("failed".into())
            };
            cells.push(rows.iter().find(same).map_or("-".into(), in_short));
        }
        table.rows.push(cells);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gpu_check::part::Quantity;

    fn row(deviation: Option<f64>, rounding: Option<&str>) -> Row {
        let quantity = Quantity { what: "x".into(), deviation, tolerance: 1e-5 };
        let near = Quantity { what: "y".into(), deviation: Some(1e-6), tolerance: 1e-5 };
        let rounding = rounding.map(str::to_owned);
        let result = Parity { quantities: vec![quantity, near], rounding, refused: Vec::new() };
        let fixture = "a".into();
        Row { fixture, precision: Precision::F32, result: Some(result), error: None }
    }

    #[test]
    fn the_farthest_quantity_decides() {
        assert_eq!(row(Some(2e-5), None).worst(), Some((2.0, "x")));
        assert!(!row(Some(2e-5), None).within(1.0) && row(Some(2e-5), None).within(TIMES));
        assert!(!row(Some(2e-4), None).within(TIMES));
        assert!(row(Some(2e-4), Some("double")).within(TIMES), "rounding explains it");
        assert!(!row(Some(2e-4), Some("double")).within(1.0), "but is told");
        assert!(!row(None, None).within(TIMES), "what is no number is outside");
        assert_eq!(lines(&[row(Some(2e-4), None)])[0].held, Some(false));
    }
}
