//! `cargo xtask reproduce-table1` to `-table4`: every network of a table in each of its variants,
//! beside the reported numbers.

mod cars;
mod dry_run;
mod faces;
mod file;
mod paired;
mod render;
mod report;
mod results;
mod weights;

use std::fs;
use std::path::{Path, PathBuf};

use abn_train::{DeviceChoice, Recipe, TrainOptions, train};
use anyhow::{Context, Result, bail};

use self::faces::{Attributes, Face};
use self::file::{Cell, DatasetFile, TableFile};
use self::report::Answers;
use self::results::{DatasetResult, Failure, Heading, Outcome, Results};

/// Train every network of the table in each of its variants, and compare them with the reported numbers
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Small networks on embedded or drawn data: minutes on two cores
    #[arg(long)]
    pub quick: bool,
    /// Only these datasets, such as `cifar100,svhn`
    #[arg(long, value_delimiter = ',', value_name = "NAME")]
    pub datasets: Vec<String>,
    /// Only these rows (part of a row's name, any case), such as `resnet,vgg`
    #[arg(long, value_delimiter = ',', value_name = "ROW")]
    pub rows: Vec<String>,
    /// Number of seeds; the table shows mean and standard deviation over them
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=100))]
    pub seeds: u64,
    /// Folder with the datasets, one folder each [default: where `cargo xtask fetch` puts them]
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// Folder with weights to start from, such as torchvision's: MODEL.pth or MODEL-HASH.pth for each network
    #[arg(long, value_name = "DIR")]
    pub init: Option<PathBuf>,
    /// Folder for the runs and the table [default: runs/TABLE]
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Folder with the tables' recipes [default: recipes/ of the repository]
    #[arg(long, value_name = "DIR")]
    pub recipes: Option<PathBuf>,
    /// Train again what is already trained
    #[arg(long)]
    pub force: bool,
    /// Where to compute: `cpu`, `cuda` or `cuda:N`
    #[arg(long, value_name = "DEVICE", default_value_t)]
    pub device: DeviceChoice,
    /// Only print the runs, and how long they would take by a few measured steps
    #[arg(long)]
    pub dry_run: bool,
}

/// One run of the plan.
struct Planned {
    /// Position of its cell.
    cell: usize,
    recipe: Recipe,
    folder: PathBuf,
    /// For messages.
    name: String,
}

/// A table's file with the datasets and rows that were asked for, and where its runs lie.
fn load(name: &str, args: &Args) -> Result<(TableFile, PathBuf)> {
    let root = crate::root()?;
    let profile = if args.quick { format!("{name}-quick") } else { name.to_owned() };
    let recipes = args.recipes.clone().unwrap_or_else(|| root.join("recipes"));
    let mut table = TableFile::load(&recipes.join(format!("{profile}.toml")))?;
    table.dataset =
        chosen(table.dataset, &args.datasets, "dataset", |d| &d.name, |d, wanted| d == wanted)?;
    table.row = chosen(
        table.row,
        &args.rows,
        "row",
        |row| &row.name,
        |name, wanted| {
            let squeeze = |s: &str| s.to_lowercase().replace([' ', '-'], "");
            squeeze(name).contains(&squeeze(wanted))
        },
    )?;
    if table.cells()?.is_empty() {
        bail!("the chosen rows are not on the chosen datasets");
    }
    let out = args.out.clone().unwrap_or_else(|| root.join("runs").join(&profile));
    Ok((table, out))
}

/// What a run of this command is made with; the first Ctrl-C ends it where it can be gone on with.
pub fn options(command: &str, args: &Args) -> Result<TrainOptions> {
    Ok(TrainOptions {
        force: args.force,
        device: Some(args.device.open(0)?),
        stop: crate::stop_on_ctrl_c(
            "\nfinishing the step and saving; the same command goes on from there",
        )?,
        command: format!("cargo xtask {command}{}", if args.quick { " --quick" } else { "" }),
        ..TrainOptions::default()
    })
}

/// The datasets of the cells, each with whether it is there.
fn look(
    table: &TableFile,
    cells: &[Cell<'_>],
    args: &Args,
    out: &Path,
) -> Result<Vec<DatasetResult>> {
    for dataset in table.dataset.iter().filter(|d| cells.iter().any(|c| c.dataset.name == d.name)) {
        if let (Some(kind), Some(folder)) = (dataset.synthetic, folder_of(dataset, args, out)) {
            crate::synthesize::ensure(kind, 0, &folder)?;
        }
    }
    let datasets: Vec<_> = table
        .dataset
        .iter()
        .filter(|dataset| cells.iter().any(|cell| cell.dataset.name == dataset.name))
        .map(|dataset| look_for(dataset, args, out))
        .collect();
    for dataset in datasets.iter().filter(|dataset| dataset.missing.is_some()) {
        eprintln!("{}", render::dataset_line(dataset));
    }
    Ok(datasets)
}

/// The runs on datasets that are there.
fn possible(
    cells: &[Cell<'_>],
    datasets: &[DatasetResult],
    args: &Args,
    out: &Path,
) -> Result<Vec<Planned>> {
    let mut plan = plan(cells, args, out)?;
    plan.retain(|planned| {
        datasets.iter().any(|d| d.name == planned.recipe.dataset && d.missing.is_none())
    });
    Ok(plan)
}

/// Reproduces `table1` to `table4`: trains what is not yet trained and writes the table.
pub fn run(name: &str, args: &Args) -> Result<()> {
    let (table, out) = load(name, args)?;
    let cells = table.cells()?;
    if args.dry_run {
        return dry_run::print(&table, &cells, &plan(&cells, args, &out)?);
    }
    let datasets = look(&table, &cells, args, &out)?;
    let plan = possible(&cells, &datasets, args, &out)?;
    let options = options(&format!("reproduce-{name}"), args)?;
    let (outcomes, failures) = train_all(&plan, &options)?;

    let TableFile { title, notice, measure, bar, .. } = &table;
    let heading = Heading { title, notice, measure: *measure };
    let mut results = Results::new(heading, &cells, datasets, &outcomes, failures)?;
    results.attributes = Attributes::of(&results, &cells, &outcomes)?;
    write(&results, &outcomes, name, &out)?;
    println!("\n{}", render::text(&results));
    println!("Wrote {name}.md, .json and .html to {}", out.display());
    match results.failures.len() {
        0 => bar.as_ref().map_or(Ok(()), |bar| bar.hold(&results.attributes)),
        n => bail!("{n} of {} runs failed; the table says which and why", plan.len()),
    }
}

/// Names of a table file's columns and rows.
#[cfg(test)]
pub fn names(text: &str) -> Result<(Vec<String>, Vec<String>)> {
    let table = TableFile::parse(text)?;
    let columns = table.column.iter().map(|column| column.name.clone()).collect();
    Ok((columns, table.row.iter().map(|row| row.name.clone()).collect()))
}

/// A network of a table, trained.
pub struct Trained {
    /// Its row.
    pub row: String,
    /// Its dataset's name in the table.
    pub dataset: String,
    /// Its column, and the column's name in the table.
    pub column: (String, String),
    /// The run's folder.
    pub folder: PathBuf,
}

/// The networks of a table's columns, trained where they are not yet, and what could not be had:
/// datasets that are missing and runs that failed.
pub fn trained(
    name: &str,
    columns: &[String],
    args: &Args,
    options: &TrainOptions,
) -> Result<(Vec<Trained>, Vec<String>)> {
    let (table, out) = load(name, args)?;
    let mut cells = table.cells()?;
    cells.retain(|cell| columns.contains(&cell.column.name));
    let datasets = look(&table, &cells, args, &out)?;
    let plan = possible(&cells, &datasets, args, &out)?;
    let (outcomes, failures) = train_all(&plan, options)?;
    let missing = datasets.iter().filter(|d| d.missing.is_some()).map(render::dataset_line);
    let failed = failures.iter().map(|f| format!("Failed: {}: {}", f.run, f.reason));
    let lacking = missing.chain(failed).collect();
    let network = |Outcome { cell, folder, .. }: Outcome| {
        let Cell { row, dataset, column, .. } = &cells[cell];
        let column = (column.name.clone(), column.title.clone());
        Trained { row: row.name.clone(), dataset: dataset.title.clone(), column, folder }
    };
    Ok((outcomes.into_iter().map(network).collect(), lacking))
}

/// What `wanted` asks for, everything if it asks for nothing; each must match something.
fn chosen<T>(
    all: Vec<T>,
    wanted: &[String],
    what: &str,
    name: impl Fn(&T) -> &str,
    matches: impl Fn(&str, &str) -> bool,
) -> Result<Vec<T>> {
    for asked in wanted {
        if !all.iter().any(|item| matches(name(item), asked)) {
            let known: Vec<_> = all.iter().map(name).collect();
            bail!("no {what} matches {asked:?}; the {what}s are {}", known.join(", "));
        }
    }
    let keep = |item: &T| wanted.is_empty() || wanted.iter().any(|w| matches(name(item), w));
    Ok(all.into_iter().filter(keep).collect())
}

/// Opens the dataset once, so that a missing one is known before the first run.
///
/// Only files that are not there make it missing: damaged ones fail the runs, for the table to say.
fn look_for(dataset: &DatasetFile, args: &Args, out: &Path) -> DatasetResult {
    let folder = folder_of(dataset, args, out);
    let missing = match abn_data::open(&dataset.name, folder.as_deref()) {
        Err(error @ (abn_data::Error::Missing { .. } | abn_data::Error::Unavailable { .. })) => {
            Some(error.to_string())
        }
        _ => None,
    };
    let DatasetFile { name, title, note, also, .. } = dataset;
    let (name, title, note, also) = (name.clone(), title.clone(), note.clone(), also.clone());
    DatasetResult { name, title, note, missing, also }
}

/// Where the dataset's files are; drawn ones lie beside the runs. `None` for the usual place.
fn folder_of(dataset: &DatasetFile, args: &Args, out: &Path) -> Option<PathBuf> {
    if let Some(kind) = dataset.synthetic {
        return Some(out.join(kind.folder()));
    }
    let name = dataset.folder.as_ref().unwrap_or(&dataset.name);
    args.data_dir.as_ref().map(|root| root.join(name)).filter(|folder| folder.exists())
}

/// The runs in the table's order: each cell with every seed.
fn plan(cells: &[Cell<'_>], args: &Args, out: &Path) -> Result<Vec<Planned>> {
    let mut runs = Vec::new();
    for (index, cell) in cells.iter().enumerate() {
        for seed in 0..args.seeds {
            let data_dir = folder_of(cell.dataset, args, out);
            let mut recipe = Recipe { seed, data_dir, ..cell.recipe.clone() };
            if let Some(folder) = &args.init {
                recipe.init = Some(weights::of(&recipe.model, folder)?);
            }
            let (dataset, column) = (&cell.dataset.name, &cell.column.name);
            let folder = out.join(dataset).join(format!("{}-{column}-seed{seed}", recipe.model));
            let name = format!(
                "{}, {}, {}, seed {seed}",
                cell.row.name, cell.dataset.title, cell.column.title
            );
            runs.push(Planned { cell: index, recipe, folder, name });
        }
    }
    Ok(runs)
}

/// Every run, and those that failed; an interrupt ends it at once.
fn train_all(plan: &[Planned], options: &TrainOptions) -> Result<(Vec<Outcome>, Vec<Failure>)> {
    let (mut outcomes, mut failures) = (Vec::new(), Vec::new());
    for (i, planned) in plan.iter().enumerate() {
        let label = format!("[{}/{}] {}", i + 1, plan.len(), planned.name);
        let options = TrainOptions { label, ..options.clone() };
        match train(&planned.recipe, &planned.folder, &options) {
            Ok(summary) => {
                let folder = planned.folder.clone();
                outcomes.push(Outcome { cell: planned.cell, folder, summary });
            }
            Err(error @ abn_train::Error::Stopped { .. }) => return Err(error.into()),
            Err(error) => {
                eprintln!("{} failed: {error}", options.label);
                failures.push(Failure { run: planned.name.clone(), reason: error.to_string() });
            }
        }
    }
    Ok((outcomes, failures))
}

fn write(results: &Results, outcomes: &[Outcome], name: &str, out: &Path) -> Result<()> {
    fs::create_dir_all(out).with_context(|| format!("cannot make {}", out.display()))?;
    let answers = Answers::of(results, outcomes)?;
    let put = |file: String, text: String| {
        let file = out.join(file);
        fs::write(&file, text).with_context(|| format!("cannot write {}", file.display()))
    };
    put(format!("{name}.json"), serde_json::to_string_pretty(results)? + "\n")?;
    put(format!("{name}.md"), render::markdown(results))?;
    let cars = cars::Cars::of(results, outcomes)?;
    let faces = Face::of(results, outcomes)?;
    put(format!("{name}.html"), report::html(results, outcomes, &answers, &cars, &faces)?)?;
    if let Some(first) = answers.first() {
        first.sheet().save(out.join("attention.png"))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILES: [(&str, &str); 8] = [
        ("table1", include_str!("../../../recipes/table1.toml")),
        ("table2", include_str!("../../../recipes/table2.toml")),
        ("table1-quick", include_str!("../../../recipes/table1-quick.toml")),
        ("table2-quick", include_str!("../../../recipes/table2-quick.toml")),
        ("table3", include_str!("../../../recipes/table3.toml")),
        ("table3-quick", include_str!("../../../recipes/table3-quick.toml")),
        ("table4", include_str!("../../../recipes/table4.toml")),
        ("table4-quick", include_str!("../../../recipes/table4-quick.toml")),
    ];

    fn args(seeds: u64) -> Args {
        Args {
            quick: true,
            datasets: Vec::new(),
            rows: Vec::new(),
            seeds,
            data_dir: None,
            out: None,
            recipes: None,
            force: false,
            dry_run: false,
            init: None,
            device: DeviceChoice::Cpu,
        }
    }

    #[test]
    fn every_run_of_every_table_has_a_folder_of_its_own() {
        for (name, text) in FILES {
            let table = TableFile::parse(text).expect(name);
            let plan = plan(&table.cells().unwrap(), &args(2), Path::new("out")).unwrap();
            let mut folders: Vec<_> = plan.iter().map(|planned| &planned.folder).collect();
            folders.sort();
            folders.dedup();
            assert_eq!(folders.len(), plan.len(), "{name}");
        }
    }

    /// The issue of these tables: every row has its baseline, its control and its ABN.
    #[test]
    fn every_network_is_trained_with_and_without_attention_and_with_the_control() {
        for (name, text) in FILES {
            let table = TableFile::parse(text).expect(name);
            let cells = table.cells().unwrap();
            for cell in &cells {
                let has = |variant: &str| {
                    cells.iter().any(|other| {
                        other.row.name == cell.row.name
                            && other.dataset.name == cell.dataset.name
                            && other.recipe.variant.to_string() == variant
                    })
                };
                let (row, dataset) = (&cell.row.name, &cell.dataset.name);
                assert!(has("baseline"), "{name}: {row} on {dataset}");
                // Table 2 has no ABN of the VGG without batch norm, Tables 3 and 4 no control.
                if row != "VGGNet" {
                    assert!(has("abn"), "{name}: {row} on {dataset}");
                    let without = ["table3", "table4"].iter().any(|table| name.starts_with(table));
                    let control = has("control") || without;
                    assert!(control, "{name}: {row} on {dataset}");
                }
            }
        }
    }

    #[test]
    fn a_run_that_fails_is_reported_and_the_others_go_on() {
        let folder = tempfile::tempdir().unwrap();
        let planned = |name: &str, lr| Planned {
            cell: 0,
            recipe: Recipe {
                model: "resnet8".into(),
                lr,
                epochs: 1,
                milestones: Vec::new(),
                images_per_class: Some(8),
                batch_size: 16,
                ..Recipe::default()
            },
            folder: folder.path().join(name),
            name: name.to_owned(),
        };
        let plan = [planned("bad", 1e30), planned("good", 0.01)];
        let (outcomes, failures) = train_all(&plan, &TrainOptions::default()).unwrap();
        assert_eq!((outcomes.len(), failures.len()), (1, 1));
        assert_eq!(outcomes[0].folder, plan[1].folder);
        assert_eq!(failures[0].run, "bad");
        assert!(failures[0].reason.contains("loss"), "{:?}", failures[0]);
    }

    #[test]
    fn rows_and_datasets_are_chosen_by_name() {
        let rows = vec!["Wide ResNet".to_owned(), "VGG".to_owned()];
        let choose = |wanted: &str| {
            let contains = |name: &str, wanted: &str| name.to_lowercase().contains(wanted);
            chosen(rows.clone(), &[wanted.to_owned()], "row", |row| row, contains)
        };
        assert_eq!(choose("wide").unwrap(), ["Wide ResNet"]);
        let said = choose("densenet").unwrap_err().to_string();
        assert!(said.contains("the rows are Wide ResNet, VGG"), "{said}");
    }
}
