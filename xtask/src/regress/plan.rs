//! The runs that are held steady: `recipes/regress.toml`.

use std::path::Path;

use abn_train::Recipe;
use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;
use sha2::{Digest, Sha256};

use crate::fetch::hex;

/// What is run, and how far accuracies may differ on other machines.
pub struct Plan {
    /// Percentage points by which an error may be above that of another type of machine.
    pub tolerance: f64,
    /// The runs, in the file's order.
    pub runs: Vec<Planned>,
}

/// One run.
#[derive(Clone)]
pub struct Planned {
    /// Its name, by which its baseline is found, and its folder's.
    pub name: String,
    /// What it does.
    pub recipe: Recipe,
    /// Hash of the keys that the file gives it: a changed run is no regression.
    pub fingerprint: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PlanFile {
    tolerance: f64,
    recipe: toml::Table,
    run: Vec<RunFile>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RunFile {
    name: String,
    recipe: toml::Table,
}

impl Plan {
    /// Reads and checks a plan.
    ///
    /// # Errors
    /// If the file cannot be read, has an unknown key or an impossible value: names the file and
    /// the run.
    pub fn load(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("cannot read {}", path.display()))?;
        Self::parse(&text).with_context(|| format!("cannot use {}", path.display()))
    }

    /// Checks a plan given as text.
    ///
    /// # Errors
    /// As [`Plan::load`].
    pub fn parse(text: &str) -> Result<Self> {
        let file: PlanFile = toml::from_str(text)?;
        ensure!(
            file.tolerance >= 0.0 && file.tolerance.is_finite(),
            "tolerance must be 0 or a positive number of percentage points, is {}",
            file.tolerance
        );
        let mut runs: Vec<Planned> = Vec::new();
        for RunFile { name, recipe } in &file.run {
            let fine = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
            ensure!(
                !name.is_empty() && name.chars().all(fine) && !name.starts_with('.'),
                "run {name:?}: a name has letters, digits, '-', '_' and '.'"
            );
            ensure!(runs.iter().all(|run| run.name != *name), "run {name:?} is there twice");
            let mut merged = file.recipe.clone();
            merged.extend(recipe.clone());
            let keys = merged.to_string();
            let recipe = Recipe::parse(&keys, Path::new("recipe"))
                .with_context(|| format!("run {name:?}"))?;
            let mut fingerprint = hex(&Sha256::digest(keys.as_bytes()));
            fingerprint.truncate(16);
            runs.push(Planned { name: name.clone(), recipe, fingerprint });
        }
        if runs.is_empty() {
            bail!("has no [[run]]");
        }
        Ok(Self { tolerance: file.tolerance, runs })
    }

    /// The runs with one of these in their name; all if there are none.
    ///
    /// # Errors
    /// If no run matches: lists the names.
    pub fn select(&self, wanted: &[String]) -> Result<Vec<&Planned>> {
        let matches =
            |run: &&Planned| wanted.is_empty() || wanted.iter().any(|part| run.name.contains(part));
        let runs: Vec<_> = self.runs.iter().filter(matches).collect();
        if runs.is_empty() {
            let names: Vec<_> = self.runs.iter().map(|run| run.name.as_str()).collect();
            bail!("no run matches {:?}; the runs are {}", wanted.join(","), names.join(", "));
        }
        Ok(runs)
    }
}
