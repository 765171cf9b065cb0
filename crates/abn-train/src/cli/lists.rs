use std::fmt::Write;

use abn_backbones::{Cost, Variant};
use anyhow::Result;
use clap::Args;
use serde::Serialize;

use super::{print, thousands};

#[derive(Args)]
pub struct ModelsArgs {
    /// Classes to count with [default: 100 for 32×32 networks, 1000 for 224×224]
    #[arg(long, value_name = "K", value_parser = clap::value_parser!(u32).range(2..))]
    classes: Option<u32>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Model {
    name: String,
    image_size: usize,
    classes: usize,
    baseline: Size,
    abn: Size,
}

#[derive(Serialize)]
struct Size {
    parameters: u64,
    multiply_adds: u64,
}

impl From<Cost> for Size {
    fn from(Cost { parameters, multiply_adds }: Cost) -> Self {
        Self { parameters, multiply_adds }
    }
}

impl ModelsArgs {
    pub fn run(self) -> Result<()> {
        let mut models = Vec::new();
        for spec in abn_backbones::catalogue() {
            let image_size = spec.image_size();
            let usual = if image_size < 224 { 100 } else { 1000 };
            let classes = self.classes.map_or(usual, |classes| classes as usize);
            models.push(Model {
                name: spec.name().to_owned(),
                image_size,
                classes,
                baseline: spec.cost(Variant::Baseline, classes)?.into(),
                abn: spec.cost(Variant::Abn, classes)?.into(),
            });
        }
        print(&if self.json {
            serde_json::to_string_pretty(&models)? + "\n"
        } else {
            table(&models)?
        })
    }
}

fn table(models: &[Model]) -> Result<String> {
    let mut text = String::new();
    let width = models.iter().map(|model| model.name.len()).max().unwrap_or(0).max("model".len());
    writeln!(text, "{:width$}           {:^31}  {:^31}", "", "baseline", "with attention branch")?;
    writeln!(
        text,
        "{:width$}  {:>7}  {:>13}  {:>16}  {:>13}  {:>16}",
        "model", "image", "parameters", "multiply-adds", "parameters", "multiply-adds"
    )?;
    for Model { name, image_size, baseline, abn, .. } in models {
        let image = format!("{image_size}×{image_size}");
        let [bp, bm, ap, am] =
            [baseline.parameters, baseline.multiply_adds, abn.parameters, abn.multiply_adds]
                .map(thousands);
        writeln!(text, "{name:width$}  {image:>7}  {bp:>13}  {bm:>16}  {ap:>13}  {am:>16}")?;
    }
    writeln!(text)?;
    writeln!(
        text,
        "Any other depth, width and cardinality of these families is a name too: resnet-D as 6n+2, \n\
         wrn-D-K, resnextD-CxWd, densenetD-kG. Multiply-adds are of one image's forward pass."
    )?;
    Ok(text)
}

#[derive(Args)]
pub struct DatasetsArgs {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Dataset {
    name: &'static str,
    summary: &'static str,
}

impl DatasetsArgs {
    pub fn run(self) -> Result<()> {
        let datasets =
            abn_data::DATASETS.map(|info| Dataset { name: info.name, summary: info.summary });
        if self.json {
            return print(&(serde_json::to_string_pretty(&datasets)? + "\n"));
        }
        let width = datasets.iter().map(|dataset| dataset.name.len()).max().unwrap_or(0);
        let lines =
            datasets.iter().map(|Dataset { name, summary }| format!("{name:width$}  {summary}\n"));
        print(&lines.collect::<String>())
    }
}
