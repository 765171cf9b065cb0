//! What a part found.

use std::fmt;
use std::path::Path;
use std::time::SystemTime;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::device::Described;

/// One thing that was looked at.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Line {
    /// What.
    pub what: String,
    /// What was found.
    pub found: String,
    /// What it was to be; empty where nothing was asked.
    pub asked: String,
    /// Whether it was; `None` where nothing was asked, or it could not be told.
    pub held: Option<bool>,
}

impl Line {
    /// Something that was asked for.
    pub fn asked(what: impl Into<String>, found: String, asked: String, held: bool) -> Self {
        Self { what: what.into(), found, asked, held: Some(held) }
    }

    /// Something that is told.
    pub fn told(what: impl Into<String>, found: String) -> Self {
        Self { what: what.into(), found, asked: String::new(), held: None }
    }

    /// The verdict in a word.
    pub fn verdict(&self) -> &'static str {
        match self.held {
            Some(true) => "held",
            Some(false) => "**missed**",
            None => "",
        }
    }
}

/// What cuDNN refused, which kernels of ours then do slowly; `of` begins the line.
pub fn refused<'a>(of: &str, what: impl Iterator<Item = &'a String>) -> Option<Line> {
    let mut what: Vec<_> = what.map(String::as_str).collect();
    what.sort_unstable();
    what.dedup();
    let line = || Line::told(format!("{of}convolutions that cuDNN refused"), what.join("; "));
    (!what.is_empty()).then(line)
}

/// Figures as the page shows them.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Table {
    /// Names of the columns; those of numbers end in a colon.
    pub columns: Vec<String>,
    /// A cell for each.
    pub rows: Vec<Vec<String>>,
}

/// What a part found.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Outcome {
    /// The part, or which of its networks. Names the file.
    pub name: String,
    /// What was looked at.
    pub lines: Vec<Line>,
    /// What was measured, for people.
    pub table: Option<Table>,
    /// What was measured, for programs.
    pub figures: Value,
}

/// An outcome in its file.
#[derive(Serialize, Deserialize)]
pub struct Record {
    /// Where it was found.
    pub device: Described,
    /// The day (UTC).
    pub date: String,
    /// What.
    #[serde(flatten)]
    pub outcome: Outcome,
}

impl Outcome {
    /// Of lines alone.
    pub fn new(name: impl Into<String>, lines: Vec<Line>, figures: Value) -> Self {
        Self { name: name.into(), lines, table: None, figures }
    }

    /// A part that came to no end.
    pub fn failed(name: impl Into<String>, error: &anyhow::Error) -> Self {
        let found = format!("{error:#}");
        let line = Line::asked("runs", found, "to its end".into(), false);
        Self::new(name, vec![line], Value::Null)
    }

    /// The same, of so many of all that will be looked at.
    pub fn so_far(mut self, done: usize, all: usize) -> Self {
        if done < all {
            let what = format!("{}, cut short", self.name);
            let line = Line::asked(what, format!("{done} of {all}"), "all".into(), false);
            self.lines.insert(0, line);
        }
        self
    }

    /// Whether all held that was asked.
    pub fn held(&self) -> bool {
        self.lines.iter().all(|line| line.held != Some(false))
    }

    /// Keeps it in a file of the folder, in place of what was found before.
    pub fn write(&self, folder: &Path, device: &Described) -> Result<()> {
        let record = Record { device: device.clone(), date: today(), outcome: self.clone() };
        let keep = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' };
        let file = self.name.chars().map(keep).collect::<String>() + ".json";
        let text = serde_json::to_string_pretty(&record)? + "\n";
        let path = folder.join(file);
        std::fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))
    }
}

impl fmt::Display for Outcome {
    /// For a terminal.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for line in &self.lines {
            write!(f, "  {}: {}", line.what, line.found)?;
            if !line.asked.is_empty() {
                write!(f, " (asked: {})", line.asked)?;
            }
            let verdict = line.verdict().trim_matches('*');
            writeln!(f, "{}{verdict}", if verdict.is_empty() { "" } else { ": " })?;
        }
        Ok(())
    }
}

/// Today in UTC, year-month-day.
pub fn today() -> String {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    date(since.as_secs() / 86_400)
}

/// The date so many days after 1970-01-01 in the Gregorian calendar (H. Hinnant, `civil_from_days`).
fn date(days: u64) -> String {
    let z = days + 719_468;
    let (era, day_of_era) = (z / 146_097, z % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    // Years that begin in March.
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let months = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * months + 2) / 5 + 1;
    let month = if months < 10 { months + 3 } else { months - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_have_dates() {
        for (days, expected) in
            [(0, "1970-01-01"), (59, "1970-03-01"), (11_016, "2000-02-29"), (20_782, "2026-11-25")]
        {
            assert_eq!(date(days), expected);
        }
    }

    #[test]
    fn what_was_asked_decides() {
        let line = |held| Line { held, ..Line::told("a", "b".into()) };
        let outcome = |lines| Outcome::new("x", lines, Value::Null);
        assert!(outcome(vec![line(None), line(Some(true))]).held());
        assert!(!outcome(vec![line(Some(true)), line(Some(false))]).held());
        assert!(!Outcome::failed("x", &anyhow::anyhow!("why")).held());
        assert!(!outcome(vec![line(Some(true))]).so_far(1, 2).held());
        assert!(outcome(vec![line(Some(true))]).so_far(2, 2).held());
    }
}
