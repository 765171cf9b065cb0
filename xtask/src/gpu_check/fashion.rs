//! Whole runs: ABN ResNet-20 and its baseline on the full Fashion-MNIST, beside PyTorch's.

use std::path::Path;

use abn_backbones::Variant;
use abn_train::{Recipe, Summary};
use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::outcome::{Line, Outcome, Table};
use super::part::{self, Trained};
use super::pytorch::{PyTorch, TRAIN};
use super::{Check, small};

const RECIPE: &str = include_str!("../../../recipes/fashion-mnist-resnet20.toml");
const SEEDS: [u64; 3] = [0, 1, 2];

/// What `train_reference.py` says of a run.
#[derive(Clone, Serialize, Deserialize)]
struct Reference {
    torch: String,
    test_error: f64,
    /// Of training alone.
    seconds: f64,
    images_per_second: f64,
}

#[derive(Serialize)]
struct Row {
    variant: String,
    seed: u64,
    abn: Summary,
    peak_device_bytes: Option<u64>,
    pytorch: Option<Reference>,
    /// Why PyTorch's is missing.
    pytorch_error: Option<String>,
}

/// How much of it.
struct Extent {
    recipe: Recipe,
    /// Training and test images, if not all.
    images: Option<(usize, usize)>,
    /// Depth of the ResNet.
    depth: usize,
    seeds: &'static [u64],
}

impl Extent {
    fn of(check: &Check) -> Result<Self> {
        let recipe = Recipe::parse(RECIPE, Path::new("recipes/fashion-mnist-resnet20.toml"))?;
        let whole = Self { recipe, images: None, depth: 20, seeds: &SEEDS };
        let short = |images, depth, batch_size| Self {
            recipe: Recipe {
                model: format!("resnet{depth}"),
                epochs: 2,
                milestones: vec![1],
                batch_size,
                ..whole.recipe.clone()
            },
            images: Some(images),
            depth,
            seeds: &SEEDS[..1],
        };
        Ok(match (check.small(), check.quick()) {
            // As many steps as it takes until some are replayed.
            (true, _) => short((96, 32), 8, 16),
            (_, true) => short((6000, 1000), 20, 128),
            (_, false) => whole,
        })
    }
}

/// Trains what is not there yet: finished runs in the folder for results are taken as they are.
///
/// # Errors
/// If the data are not there, or a run fails.
pub fn run(check: &Check) -> Result<Vec<Outcome>> {
    let data = check.args.fashion_mnist.as_deref().context("--fashion-mnist names the data")?;
    let extent = Extent::of(check)?;
    // What is there is taken as it is, so each extent has a folder.
    let folder = match extent.images {
        None => check.args.out.join("fashion-mnist"),
        Some((images, _)) => check.args.out.join(format!("fashion-mnist-{images}")),
    };
    std::fs::create_dir_all(&folder)?;
    let data = match extent.images {
        None => data.canonicalize().with_context(|| data.display().to_string())?,
        Some(images) => {
            let whole = abn_data::open("fashion-mnist", Some(data))?;
            small::first(&whole, images, &folder.join("data"))?
        }
    };
    let (mut rows, mut failed) = (Vec::new(), Vec::new());
    for variant in [Variant::Abn, Variant::Baseline] {
        for &seed in extent.seeds {
            let recipe =
                Recipe { variant, seed, data_dir: Some(data.clone()), ..extent.recipe.clone() };
            match both(check, &recipe, &extent, &folder) {
                Ok(row) => {
                    println!("  {}", in_words(&row));
                    rows.push(row);
                }
                Err(error) => failed.push(Line::asked(
                    format!("{} {variant}, seed {seed}", recipe.model),
                    format!("{error:#}"),
                    "runs".into(),
                    false,
                )),
            }
            let done = rows.len() + failed.len();
            let so_far = outcome(check, &rows, &failed, &extent);
            check.keep(&so_far.so_far(done, 2 * extent.seeds.len()))?;
        }
    }
    Ok(vec![outcome(check, &rows, &failed, &extent)])
}

fn outcome(check: &Check, rows: &[Row], failed: &[Line], extent: &Extent) -> Outcome {
    let (lines, table) = ([failed, &lines(rows, extent)].concat(), table(rows));
    let figures = json!({
        "epochs": extent.recipe.epochs,
        "pytorch": check.pytorch,
        "runs": rows,
    });
    Outcome { table: Some(table), ..Outcome::new("Fashion-MNIST", lines, figures) }
}

/// A run here, and in PyTorch if there is one.
fn both(check: &Check, recipe: &Recipe, extent: &Extent, folder: &Path) -> Result<Row> {
    let variant = recipe.variant.to_string();
    let name = format!("{}-{variant}-{}", recipe.model, recipe.seed);
    let file = folder.join(format!("{name}.toml"));
    std::fs::write(&file, recipe.to_toml())?;
    let mut command = part::command(check.target(), "train")?;
    command.arg(&file).arg("--out").arg(folder.join(&name));
    command.args(["--device", check.target().within(), "--cuda-graph"]);
    let trained: Trained = part::ask(command).with_context(|| format!("the run {name}"))?;
    let pytorch = check.pytorch.as_ref();
    let pytorch = pytorch.map(|pytorch| reference(pytorch, recipe, extent, folder));
    let pytorch_error = pytorch.as_ref().and_then(|result| result.as_ref().err());
    let pytorch_error = pytorch_error.map(|error| format!("{error:#}"));
    let pytorch = pytorch.and_then(Result::ok);
    let Trained { summary: abn, peak_device_bytes, .. } = trained;
    Ok(Row { variant, seed: recipe.seed, abn, peak_device_bytes, pytorch, pytorch_error })
}

/// The same run in PyTorch, unless it is there.
fn reference(
    pytorch: &PyTorch,
    recipe: &Recipe,
    extent: &Extent,
    folder: &Path,
) -> Result<Reference> {
    let name = format!("pytorch-{}-{}-{}.json", recipe.model, recipe.variant, recipe.seed);
    let result = folder.join(name);
    if !result.exists() {
        let [variant, seed] = [recipe.variant.to_string(), recipe.seed.to_string()];
        let [depth, epochs, batch] =
            [extent.depth, recipe.epochs, recipe.batch_size].map(|number| number.to_string());
        let mut command = pytorch.command(TRAIN);
        command.args(["--variant", &variant, "--seeds", &seed, "--depth", &depth]);
        command.args(["--epochs", &epochs, "--batch", &batch]);
        command.arg("--milestones").args(recipe.milestones.iter().map(usize::to_string));
        command.arg("--data").arg(recipe.data_dir.as_deref().context("the data have a folder")?);
        command.arg("--json").arg(&result);
        let status = command.stdout(std::io::stderr()).status();
        let status = status.context("cannot start PyTorch's run")?;
        if !status.success() {
            bail!("{TRAIN} ended with {status}; its own message is above");
        }
    }
    let text = std::fs::read_to_string(&result).with_context(|| result.display().to_string())?;
    serde_json::from_str(&text).with_context(|| result.display().to_string())
}

fn in_words(row: &Row) -> String {
    let Row { variant, seed, abn, pytorch, .. } = row;
    let theirs = pytorch.as_ref().map_or(String::new(), |theirs| {
        format!("; PyTorch {:.2} %, {:.0} images/s", theirs.test_error, theirs.images_per_second)
    });
    format!(
        "{variant}, seed {seed}: test error {:.2} %, {:.0} images/s, {:.0} s{theirs}",
        abn.test_error, abn.images_per_second, abn.seconds
    )
}

/// Means over the seeds, and which of PyTorch's runs are missing.
fn lines(rows: &[Row], extent: &Extent) -> Vec<Line> {
    let mean = |values: Vec<f64>| values.iter().sum::<f64>() / values.len() as f64;
    let of = |variant: Variant| -> Option<Line> {
        let name = variant.to_string();
        let rows: Vec<_> = rows.iter().filter(|row| row.variant == name).collect();
        let ours = mean(rows.iter().map(|row| row.abn.test_error).collect());
        let theirs: Option<Vec<f64>> =
            rows.iter().map(|row| Some(row.pytorch.as_ref()?.test_error)).collect();
        let theirs =
            theirs.map_or(String::new(), |errors| format!(", PyTorch {:.2} %", mean(errors)));
        let what = format!(
            "{} {name}, {} epochs, mean test error of {} seeds",
            extent.recipe.model,
            extent.recipe.epochs,
            rows.len()
        );
        (!rows.is_empty()).then(|| Line::told(what, format!("{ours:.2} %{theirs}")))
    };
    let missing = rows.iter().filter_map(|row| {
        let what = format!("{}, seed {}: no PyTorch", row.variant, row.seed);
        Some(Line::told(what, row.pytorch_error.clone()?))
    });
    [Variant::Abn, Variant::Baseline].into_iter().filter_map(of).chain(missing).collect()
}

fn table(rows: &[Row]) -> Table {
    let columns = [
        "run",
        "test error %:",
        "training images/s:",
        "s, with evaluations:",
        "PyTorch: test error %:",
        "training images/s:",
        "s of training:",
    ];
    let cells = |row: &Row| {
        let mut cells = vec![
            format!("{}, seed {}", row.variant, row.seed),
            format!("{:.2}", row.abn.test_error),
            format!("{:.0}", row.abn.images_per_second),
            format!("{:.0}", row.abn.seconds),
        ];
        cells.extend(match &row.pytorch {
            None => ["-", "-", "-"].map(str::to_owned),
            Some(theirs) => [
                format!("{:.2}", theirs.test_error),
                format!("{:.0}", theirs.images_per_second),
                format!("{:.0}", theirs.seconds),
            ],
        });
        cells
    };
    Table { columns: columns.map(str::to_owned).into(), rows: rows.iter().map(cells).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_recipe_is_the_one_that_is_told() {
        let recipe = Recipe::parse(RECIPE, Path::new("recipe")).unwrap();
        recipe.validate().unwrap();
        assert_eq!((recipe.epochs, recipe.dataset.as_str()), (30, "fashion-mnist"));
    }
}
