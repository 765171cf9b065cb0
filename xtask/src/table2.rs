//! `cargo xtask reproduce-table2`: every family with and without its attention branch.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use abn_train::{Progress, Recipe, Summary, TrainOptions, train};
use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;

use crate::render;
use crate::report::{self, Answers};
use crate::results::{Outcome, Results};

/// Train every family with and without its attention branch, and compare them
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Small networks on the embedded data: minutes on two cores
    #[arg(long)]
    quick: bool,
    /// Train only these rows (part of a row's name, any case), such as `resnet,vgg`
    #[arg(long, value_delimiter = ',', value_name = "ROW")]
    rows: Vec<String>,
    /// Number of seeds; the table shows the mean over them
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=100))]
    seeds: u64,
    /// Folder for the runs and the table [default: runs/table2-quick]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Train again what is already trained
    #[arg(long)]
    force: bool,
}

/// A table's file: what all its runs share, and its rows.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TableFile {
    title: String,
    dataset_note: String,
    recipe: toml::Table,
    row: Vec<RowFile>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RowFile {
    name: String,
    recipe: toml::Table,
}

/// One run of the plan.
struct Planned {
    row: String,
    recipe: Recipe,
    folder: PathBuf,
}

const VARIANTS: [&str; 2] = ["baseline", "abn"];

/// Trains what is not yet trained and writes the table.
pub fn run(args: &Args) -> Result<()> {
    ensure!(
        args.quick,
        "only the quick profile is there yet: run `cargo xtask reproduce-table2 --quick`\n\
         (the full table needs readers for CIFAR, SVHN and ImageNet, which this version does not have)"
    );
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let file = root.join("recipes/table2-quick.toml");
    let text =
        fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
    let table: TableFile =
        toml::from_str(&text).with_context(|| format!("cannot use {}", file.display()))?;
    let out = args.out.clone().unwrap_or_else(|| root.join("runs/table2-quick"));
    let plan = plan(&table, args, &out)?;

    let stop = stop_on_ctrl_c()?;
    let mut outcomes = Vec::new();
    for (i, planned) in plan.iter().enumerate() {
        let options = TrainOptions {
            force: args.force,
            stop: stop.clone(),
            progress: Progress::Auto,
            label: format!("[{}/{}] {} {}", i + 1, plan.len(), planned.row, planned.recipe.variant),
            command: "cargo xtask reproduce-table2 --quick".into(),
        };
        let summary: Summary = train(&planned.recipe, &planned.folder, &options)?;
        outcomes.push(Outcome {
            row: planned.row.clone(),
            folder: planned.folder.clone(),
            summary,
        });
    }

    let results = Results::new(&table.title, &table.dataset_note, &outcomes);
    let answers = Answers::of(&outcomes)?;
    fs::write(out.join("table2.json"), serde_json::to_string_pretty(&results)? + "\n")?;
    fs::write(out.join("table2.md"), render::markdown(&results))?;
    fs::write(out.join("table2.html"), report::html(&results, &outcomes, &answers)?)?;
    if let Some(first) = answers.first() {
        first.sheet()?.save(out.join("attention.png"))?;
    }
    println!("\n{}", render::text(&results));
    println!("Wrote table2.md, .json and .html, and attention.png, to {}", out.display());
    Ok(())
}

/// A flag that the first Ctrl-C sets; the second ends the process, which a run survives.
fn stop_on_ctrl_c() -> Result<Arc<AtomicBool>> {
    let stop = Arc::new(AtomicBool::new(false));
    let flag = stop.clone();
    ctrlc::set_handler(move || {
        if flag.swap(true, Ordering::SeqCst) {
            std::process::exit(crate::INTERRUPTED.into());
        }
        eprintln!("\nfinishing the step and saving; the same command goes on from there");
    })
    .context("cannot listen for Ctrl-C")?;
    Ok(stop)
}

/// The runs, in the table's order: for each row its baseline and its ABN, each with every seed.
fn plan(table: &TableFile, args: &Args, out: &Path) -> Result<Vec<Planned>> {
    let wanted = |name: &str| {
        let squeeze = |s: &str| s.to_lowercase().replace([' ', '-'], "");
        args.rows.is_empty() || args.rows.iter().any(|row| squeeze(name).contains(&squeeze(row)))
    };
    let mut runs = Vec::new();
    for row in table.row.iter().filter(|row| wanted(&row.name)) {
        for variant in VARIANTS {
            for seed in 0..args.seeds {
                let mut merged = table.recipe.clone();
                merged.extend(row.recipe.clone());
                merged.insert("variant".into(), variant.into());
                merged.insert("seed".into(), i64::try_from(seed)?.into());
                let recipe: Recipe = toml::Value::Table(merged)
                    .try_into()
                    .with_context(|| format!("row {:?}", row.name))?;
                recipe.validate().with_context(|| format!("row {:?}", row.name))?;
                let folder = out.join(format!("{}-{variant}-seed{seed}", recipe.model));
                runs.push(Planned { row: row.name.clone(), recipe, folder });
            }
        }
    }
    if runs.is_empty() {
        let known: Vec<_> = table.row.iter().map(|row| row.name.as_str()).collect();
        bail!("no row matches {:?}; the rows are {}", args.rows.join(","), known.join(", "));
    }
    Ok(runs)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quick() -> TableFile {
        toml::from_str(include_str!("../../recipes/table2-quick.toml")).unwrap()
    }

    fn args(rows: &[&str], seeds: u64) -> Args {
        let rows = rows.iter().map(|&row| row.to_owned()).collect();
        Args { quick: true, rows, seeds, out: None, force: false }
    }

    #[test]
    fn the_quick_plan_trains_every_family_with_and_without_attention() {
        let plan = plan(&quick(), &args(&[], 2), Path::new("out")).unwrap();
        let mut folders: Vec<_> = plan.iter().map(|planned| &planned.folder).collect();
        folders.sort();
        folders.dedup();
        assert_eq!(folders.len(), 4 * 2 * 2, "each run has a folder of its own");
        let rows: Vec<_> = plan.iter().step_by(4).map(|planned| planned.row.as_str()).collect();
        assert_eq!(rows, ["ResNet", "Wide ResNet", "ResNeXt", "VGG"]);
    }

    #[test]
    fn rows_are_chosen_by_part_of_their_name() {
        let chosen =
            |rows: &[&str]| plan(&quick(), &args(rows, 1), Path::new("out")).map(|plan| plan.len());
        assert_eq!(chosen(&["wide-resnet"]).unwrap(), 2);
        assert_eq!(chosen(&["resnet"]).unwrap(), 4, "ResNet and Wide ResNet");
        assert!(chosen(&["densenet"]).unwrap_err().to_string().contains("the rows are ResNet"));
    }
}
