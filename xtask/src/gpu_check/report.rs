//! The page: what every part found on one device, as docs/PERFORMANCE.md has it.

use std::fmt::Write;
use std::path::Path;

use anyhow::{Context, Result};

use super::device::Described;
use super::outcome::{Record, Table};

/// Its name.
pub const PAGE: &str = "gpu-check.md";

/// Writes the page from what lies in the folder and was found on this device by this program; the rest is named.
///
/// # Errors
/// If a file cannot be read or written.
pub fn write(folder: &Path, device: &Described) -> Result<()> {
    let mut paths = Vec::new();
    for entry in folder.read_dir().with_context(|| folder.display().to_string())? {
        paths.push(entry?.path());
    }
    paths.retain(|path| path.extension().is_some_and(|e| e == "json"));
    paths.sort();
    let (mut records, mut others) = (Vec::new(), Vec::new());
    for path in paths {
        let text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        let record: Record = serde_json::from_str(&text)
            .with_context(|| format!("{} is no result of gpu-check", path.display()))?;
        if record.device == *device {
            records.push(record);
        } else {
            others.push(format!("{} ({})", record.outcome.name, record.device));
        }
    }
    let path = folder.join(PAGE);
    std::fs::write(&path, page(device, &records, &others))
        .with_context(|| format!("cannot write {}", path.display()))
}

fn page(device: &Described, records: &[Record], others: &[String]) -> String {
    let mut days: Vec<_> = records.iter().map(|record| record.date.as_str()).collect();
    days.sort_unstable();
    days.dedup();
    let mut text = format!("## On a GPU: {}, {}\n\n", device.name, days.join(", "));
    let lines = || records.iter().flat_map(|record| &record.outcome.lines);
    let asked = lines().filter(|line| line.held.is_some()).count();
    let held = lines().filter(|line| line.held == Some(true)).count();
    let _ = writeln!(text, "`cargo xtask gpu-check`, {device}: {held} of {asked} held.\n");
    text += "| what | found | asked | |\n|---|---|---|---|\n";
    for line in lines() {
        let cells = [&line.what, &line.found, &line.asked].map(|cell| escaped(cell));
        let _ = writeln!(text, "| {} | {} |", cells.join(" | "), line.verdict());
    }
    for table in records.iter().filter_map(|record| record.outcome.table.as_ref()) {
        text.push('\n');
        text += &in_markdown(table);
    }
    if !others.is_empty() {
        let _ =
            writeln!(text, "\nOf another device or commit, and left out: {}.", others.join(", "));
    }
    text
}

fn in_markdown(table: &Table) -> String {
    let row = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
    let names: Vec<_> =
        table.columns.iter().map(|column| escaped(column.trim_end_matches(':'))).collect();
    let rules = table.columns.iter().map(|column| match column.ends_with(':') {
        true => "---:",
        false => "---",
    });
    let mut text = row(&names) + &format!("|{}|\n", rules.collect::<Vec<_>>().join("|"));
    for cells in &table.rows {
        text += &row(&cells.iter().map(|cell| escaped(cell)).collect::<Vec<_>>());
    }
    text
}

/// As a cell.
fn escaped(text: &str) -> String {
    text.replace('|', "\\|").replace('\n', " ")
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::gpu_check::outcome::{Line, Outcome};

    #[test]
    fn the_page_has_what_was_found_on_the_device() {
        let folder = tempfile::tempdir().unwrap();
        let device = |name: &str| Described { name: name.into(), driver: None, commit: None };
        let lines = vec![
            Line::asked("a", "1 | 2".into(), "3".into(), true),
            Line::asked("b", "4".into(), "5".into(), false),
            Line::told("c", "6".into()),
        ];
        let table = Table {
            columns: vec!["network".into(), "images/s:".into()],
            rows: vec![vec!["resnet8".into(), "1.5".into()]],
        };
        let outcome = Outcome { table: Some(table), ..Outcome::new("speed x", lines, Value::Null) };
        outcome.write(folder.path(), &device("this")).unwrap();
        Outcome::new("parity", Vec::new(), Value::Null)
            .write(folder.path(), &device("that"))
            .unwrap();
        write(folder.path(), &device("this")).unwrap();
        let page = std::fs::read_to_string(folder.path().join(PAGE)).unwrap();
        assert!(page.starts_with("## On a GPU: this, 20"), "{page}");
        for expected in [
            "1 of 2 held",
            "| a | 1 \\| 2 | 3 | held |",
            "| b | 4 | 5 | **missed** |",
            "| c | 6 |  |  |",
            "| network | images/s |\n|---|---:|\n| resnet8 | 1.5 |",
            "left out: parity (that)",
        ] {
            assert!(page.contains(expected), "{expected}:\n{page}");
        }
    }
}
