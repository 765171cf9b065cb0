//! `cargo xtask regress`: a few small runs, held to what they came to before.
//!
//! Training here gives the same bytes for the same seed, so on the type of machine that made the
//! baselines any difference is a change of the numerics, wanted or not. Elsewhere rounding
//! differs, and the errors are compared with a tolerance.

mod baseline;
mod compare;
mod plan;

use std::path::{Path, PathBuf};

use abn_train::{Progress, RunFolder, TrainOptions, train};
use anyhow::{Context, Result, bail};

use baseline::{Baselines, Numbers, Runs, machine, weights_hash};
use compare::{Row, Verdict, compare, orphans, table};
use plan::{Plan, Planned};

/// Train a few small networks, and fail if an accuracy is worse than its baseline
///
/// The runs are those of recipes/regress.toml, on the embedded data; the baselines stand in
/// tests/baselines/regress.toml.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Write what the runs come to as the new baselines of this type of machine
    #[arg(long)]
    bless: bool,
    /// Only runs with this in their name, such as `vgg,abn`
    #[arg(long, value_delimiter = ',', value_name = "PART")]
    runs: Vec<String>,
    /// Folder for the runs [default: runs/regress]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

/// Runs the command.
///
/// # Errors
/// If an accuracy is worse than its baseline, or a number differs that should be exact, or a
/// run has no baseline or does not end.
pub fn run(args: &Args) -> Result<()> {
    let xtask = Path::new(env!("CARGO_MANIFEST_DIR"));
    let root = xtask.parent().unwrap_or(xtask);
    let regress = Regress {
        plan: root.join("recipes/regress.toml"),
        baselines: root.join("tests/baselines/regress.toml"),
        out: args.out.clone().unwrap_or_else(|| root.join("runs/regress")),
        machine: machine(),
        only: args.runs.clone(),
        progress: Progress::Auto,
    };
    if args.bless { regress.bless() } else { regress.check() }
}

/// Where everything is.
struct Regress {
    plan: PathBuf,
    baselines: PathBuf,
    out: PathBuf,
    machine: String,
    only: Vec<String>,
    progress: Progress,
}

impl Regress {
    /// Runs, and compares with the baselines.
    fn check(&self) -> Result<()> {
        let plan = Plan::load(&self.plan)?;
        let runs = plan.select(&self.only)?;
        // What cannot be compared is said before anything is trained.
        let baselines = Baselines::load(&self.baselines)?;
        let Some((reference, expected)) = baselines.of(&self.machine) else {
            bail!("{} has no baselines yet: --bless writes them", self.baselines.display());
        };
        let exact = reference == self.machine;
        let rows: Vec<_> = runs
            .iter()
            .enumerate()
            .map(|(i, planned)| {
                let found = self.measure(planned, i + 1, runs.len());
                let baseline = expected.get(&planned.name).cloned();
                let verdict = match &found {
                    Ok(found) => {
                        let tolerance = (!exact).then_some(plan.tolerance);
                        compare(found, baseline.as_ref(), tolerance)
                    }
                    Err(error) => Verdict::Failed(format!("{error:#}")),
                };
                Row { name: planned.name.clone(), found: found.ok(), baseline, verdict }
            })
            .collect();
        println!("\n{}", table(&rows));
        if exact {
            println!("This machine is {reference:?}, as the baselines': all must be the same.");
        } else {
            println!(
                "This machine is {:?}, the baselines are of {reference:?}: errors may be {} points higher.",
                self.machine, plan.tolerance
            );
        }
        let names: Vec<_> = plan.runs.iter().map(|run| run.name.as_str()).collect();
        let orphans = orphans(expected, &names);
        let bad: Vec<_> = rows.iter().filter(|row| !row.verdict.is_fine()).collect();
        if bad.is_empty() && orphans.is_empty() {
            return Ok(());
        }
        let mut problems: Vec<_> =
            bad.iter().map(|row| format!("{}: {}", row.name, row.verdict.text())).collect();
        problems.extend(orphans.iter().map(|name| format!("{name}: a baseline without a run")));
        bail!(
            "not as {} has it:\n  {}\nIf that is wanted, `cargo xtask regress --bless` writes new baselines.",
            self.baselines.display(),
            problems.join("\n  ")
        )
    }

    /// Runs, and writes what came out as the new baselines.
    fn bless(&self) -> Result<()> {
        let plan = Plan::load(&self.plan)?;
        let runs = plan.select(&self.only)?;
        let mut baselines = Baselines::load(&self.baselines)?;
        let mut new = Runs::new();
        for (i, planned) in runs.iter().enumerate() {
            let found = self.measure(planned, i + 1, runs.len());
            new.insert(planned.name.clone(), found.with_context(|| planned.name.clone())?);
        }
        let names: Vec<_> = plan.runs.iter().map(|run| run.name.as_str()).collect();
        let count = new.len();
        baselines.bless(&self.machine, new, &names);
        baselines.save(&self.baselines)?;
        println!("Wrote {count} baselines of {:?} to {}", self.machine, self.baselines.display());
        Ok(())
    }

    /// Trains a run anew.
    fn measure(&self, planned: &Planned, number: usize, of: usize) -> Result<Numbers> {
        let folder = self.out.join(&planned.name);
        let options = TrainOptions {
            force: true,
            progress: self.progress,
            label: format!("[{number}/{of}] {}", planned.name),
            command: "cargo xtask regress".into(),
            ..TrainOptions::default()
        };
        let summary = train(&planned.recipe, &folder, &options)?;
        let weights = RunFolder::new(&folder).last().join("model.safetensors");
        Ok(Numbers {
            recipe: planned.fingerprint.clone(),
            test_error: summary.test_error,
            weights: weights_hash(&weights)?,
        })
    }
}

#[cfg(test)]
mod tests;
