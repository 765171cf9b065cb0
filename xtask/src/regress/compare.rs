//! Is a run as it was?

use super::baseline::{Numbers, Runs};

/// How a run compares with its baseline.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The same error and the same weights; on another type of machine, an error within the
    /// tolerance.
    Fine,
    /// A higher error than the baseline's and the tolerance.
    Worse,
    /// The type of machine is the baseline's, the error not higher, but something differs.
    Changed,
    /// The baseline is of a run with other keys.
    OtherRecipe,
    /// There is no baseline.
    NoBaseline,
    /// The run did not end.
    Failed(String),
}

impl Verdict {
    /// Whether all is well.
    pub fn is_fine(&self) -> bool {
        *self == Self::Fine
    }

    /// In words.
    pub fn text(&self) -> String {
        match self {
            Self::Fine => "fine".into(),
            Self::Worse => "WORSE".into(),
            Self::Changed => "changed".into(),
            Self::OtherRecipe => "another recipe than the baseline's".into(),
            Self::NoBaseline => "no baseline".into(),
            Self::Failed(why) => format!("FAILED: {why}"),
        }
    }
}

/// Compares a run with its baseline: exactly if `tolerance` is `None`, otherwise its error alone,
/// which may be so many percentage points higher.
pub fn compare(found: &Numbers, baseline: Option<&Numbers>, tolerance: Option<f64>) -> Verdict {
    let Some(baseline) = baseline else { return Verdict::NoBaseline };
    if found.recipe != baseline.recipe {
        return Verdict::OtherRecipe;
    }
    // Written so that an error that is no number is worse.
    let slack = tolerance.unwrap_or(0.0);
    match found.test_error <= baseline.test_error + slack {
        false => Verdict::Worse,
        true if tolerance.is_none() && found != baseline => Verdict::Changed,
        true => Verdict::Fine,
    }
}

/// A row of the table.
pub struct Row {
    /// The run's name.
    pub name: String,
    /// What it came to, if it ended.
    pub found: Option<Numbers>,
    /// Its baseline, if there is one.
    pub baseline: Option<Numbers>,
    /// How they compare.
    pub verdict: Verdict,
}

/// The table as text.
pub fn table(rows: &[Row]) -> String {
    let width = rows.iter().map(|row| row.name.len()).max().unwrap_or(0).max("Run".len());
    let mut text = format!(
        "{:width$}  {:>12}  {:>10}  {:>10}  {:7}  Verdict\n",
        "Run", "Test error %", "Baseline %", "Difference", "Weights"
    );
    let percent = |numbers: Option<&Numbers>| {
        numbers.map_or("-".into(), |numbers| format!("{:.2}", numbers.test_error))
    };
    for Row { name, found, baseline, verdict } in rows {
        let both = found.as_ref().zip(baseline.as_ref());
        let difference =
            both.map_or("-".into(), |(a, b)| format!("{:+.2}", a.test_error - b.test_error));
        let weights =
            both.map_or("-", |(a, b)| if a.weights == b.weights { "same" } else { "other" });
        text += &format!(
            "{name:width$}  {:>12}  {:>10}  {difference:>10}  {weights:7}  {}\n",
            percent(found.as_ref()),
            percent(baseline.as_ref()),
            verdict.text()
        );
    }
    text
}

/// Names of the baselines that no run has.
pub fn orphans<'a>(baselines: &'a Runs, names: &[&str]) -> Vec<&'a str> {
    baselines.keys().map(String::as_str).filter(|name| !names.contains(name)).collect()
}
