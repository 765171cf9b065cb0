//! `cargo xtask reproduce-figures`: where the networks of Table 2 look, how far that can be believed, and what
//! their features know.

mod faithful;
pub mod features;
mod file;
pub mod network;
mod page;
mod panels;
mod planted;
pub mod scatter;

use std::fs;
use std::path::PathBuf;

use abn_data::{Sample, Subset};
use abn_train::report::page::Picture;
use abn_train::{DeviceChoice, TrainOptions, train};
use anyhow::{Context, Result};
use candle_core::Device;
use serde::Serialize;

use self::file::FiguresFile;
use self::network::Network;
use crate::tables::{self, Trained};

/// Draw where the networks of Table 2 look, and measure how faithful the maps are
#[derive(clap::Args, Debug)]
pub struct Args {
    /// The runs of Table 2's quick profile, on the embedded data
    #[arg(long)]
    quick: bool,
    /// Only these datasets of the table, such as `cifar100`
    #[arg(long, value_delimiter = ',', value_name = "NAME")]
    datasets: Vec<String>,
    /// Only these rows of the table (part of a row's name, any case), such as `resnet,vgg`
    #[arg(long, value_delimiter = ',', value_name = "ROW")]
    rows: Vec<String>,
    /// Folder with the datasets, one folder each [default: where `cargo xtask fetch` puts them]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Folder with the table's runs; what is missing is trained there [default: runs/TABLE]
    #[arg(long, value_name = "DIR")]
    runs: Option<PathBuf>,
    /// Folder with the recipes of figures and tables [default: recipes/ of the repository]
    #[arg(long, value_name = "DIR")]
    recipes: Option<PathBuf>,
    /// Where to compute: `cpu`, `cuda` or `cuda:N`
    #[arg(long, value_name = "DEVICE", default_value_t)]
    device: DeviceChoice,
    /// Folder for the page and the runs on planted shapes [default: runs/figures or runs/figures-quick]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

/// Everything on the page, as its JSON file has it.
#[derive(Serialize)]
pub struct Figures {
    /// Heading.
    title: String,
    /// What a reader must know before the figures.
    notice: String,
    /// Datasets and runs that could not be had.
    lacking: Vec<String>,
    /// Panels, a network of the table each.
    panels: Vec<panels::Panels>,
    /// How faithful the maps are.
    faithfulness: Vec<faithful::Faithful>,
    /// The pointing game.
    planted: Vec<planted::Pointing>,
    /// t-SNE of the features.
    features: Vec<features::Layout>,
}

/// A row of the table on a dataset: its networks by column.
struct Row {
    /// The row's name in the table.
    row: String,
    /// With the dataset's.
    name: String,
    networks: Vec<(String, Network)>,
}

impl Row {
    fn column(&self, name: &str) -> Option<&Network> {
        self.networks.iter().find(|(column, _)| column == name).map(|(_, network)| network)
    }
}

/// Runs the command.
///
/// # Errors
/// If the recipe or a run cannot be read, an interrupt ends the training, or the page cannot be written.
pub fn run(args: &Args) -> Result<()> {
    let root = crate::root()?;
    let profile = if args.quick { "figures-quick" } else { "figures" };
    let recipes = args.recipes.clone().unwrap_or_else(|| root.join("recipes"));
    let file = FiguresFile::load(&recipes.join(format!("{profile}.toml")))?;
    let out = args.out.clone().unwrap_or_else(|| root.join("runs").join(profile));
    let Args { quick, datasets, rows, data_dir, runs, device, .. } = args;
    let of_table = tables::Args {
        quick: *quick,
        datasets: datasets.clone(),
        rows: rows.clone(),
        seeds: 1,
        data_dir: data_dir.clone(),
        out: runs.clone(),
        recipes: args.recipes.clone(),
        force: false,
        dry_run: false,
        init: None,
        device: *device,
    };
    let device = &device.open(0)?;
    let options = tables::options("reproduce-figures", &of_table)?;
    let (trained, lacking) = tables::trained(&file.table, &file.columns, &of_table, &options)?;
    let planted = file.planted.iter().enumerate().map(|(i, planted)| {
        let folder = out.join("planted").join(planted.name.replace([' ', ','], "-"));
        let label = format!("[planted {}/{}] {}", i + 1, file.planted.len(), planted.name);
        train(&planted.recipe, &folder, &TrainOptions { label, ..options.clone() })?;
        planted::play(&Network::open(&planted.name, &folder, device)?)
    });
    let planted = planted.collect::<Result<Vec<_>>>()?;

    let mut figures = Figures {
        title: file.title.clone(),
        notice: file.notice.clone(),
        lacking,
        panels: Vec::new(),
        faithfulness: Vec::new(),
        planted,
        features: Vec::new(),
    };
    let mut pictures = Vec::new();
    for row in rows_of(&trained, device)? {
        eprintln!("explaining {}", row.name);
        add_row(&row, &file, &mut figures, &mut pictures)?;
    }
    fs::create_dir_all(&out).with_context(|| format!("cannot make {}", out.display()))?;
    let put = |file: &str, text: String| {
        let file = out.join(file);
        fs::write(&file, text).with_context(|| format!("cannot write {}", file.display()))
    };
    put("figures.json", serde_json::to_string_pretty(&figures)? + "\n")?;
    put("figures.html", page::html(&figures, &pictures))?;
    print!("{}", page::text(&figures));
    println!("Wrote figures.html and .json to {}", out.display());
    Ok(())
}

/// The networks by row and dataset, in the table's order.
fn rows_of(trained: &[Trained], device: &Device) -> Result<Vec<Row>> {
    let mut rows: Vec<Row> = Vec::new();
    for Trained { row, dataset, column, folder } in trained {
        let name = format!("{row}, {dataset}");
        let network = Network::open(&format!("{name}: {}", column.1), folder, device)?;
        let entry = (column.0.clone(), network);
        match rows.iter_mut().find(|row| row.name == name) {
            Some(row) => row.networks.push(entry),
            None => rows.push(Row { row: row.clone(), name, networks: vec![entry] }),
        }
    }
    Ok(rows)
}

/// The figures of one row: the same test images for all its networks.
fn add_row(
    row: &Row,
    file: &FiguresFile,
    figures: &mut Figures,
    pictures: &mut Vec<Vec<Picture>>,
) -> Result<()> {
    let Some((_, first)) = row.networks.first() else { return Ok(()) };
    let recipe = &first.run.recipe;
    let test = abn_data::open(&recipe.dataset, recipe.data_dir.as_deref())?.test;
    let classes = test.num_classes().max(1);
    let take = |count: usize| -> Result<Vec<(usize, Sample)>> {
        let subset = Subset::first_per_class(&test, count.div_ceil(classes))?;
        let first = subset.indices().iter().take(count);
        first.map(|&index| Ok((index, test.get(index)?))).collect()
    };
    if let Some((panels, drawn)) = panels::draw(row, &take(file.pictured)?)? {
        figures.panels.push(panels);
        pictures.push(drawn);
    }
    let measured = take(file.measured)?;
    for (_, network) in &row.networks {
        figures.faithfulness.push(faithful::measure(network, &measured)?);
    }
    if file.laid_out_rows.contains(&row.row) {
        let laid_out = take(file.laid_out)?;
        for (_, network) in &row.networks {
            figures.features.push(features::lay_out(network, &laid_out)?);
        }
    }
    Ok(())
}
