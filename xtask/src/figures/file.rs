//! The recipe of the figures: `recipes/figures.toml` and `figures-quick.toml`.

use std::path::Path;

use abn_train::Recipe;
use anyhow::{Context, Result};
use serde::Deserialize;

/// What is drawn and measured.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FiguresFile {
    /// Heading.
    pub title: String,
    /// What a reader must know before the figures; empty for none.
    #[serde(default)]
    pub notice: String,
    /// The table whose runs are explained.
    pub table: String,
    /// Its columns that are.
    pub columns: Vec<String>,
    /// Test images that are drawn for each row.
    pub pictured: usize,
    /// Test images on which the maps of each network are measured.
    pub measured: usize,
    /// Test images whose features are laid out.
    pub laid_out: usize,
    /// Rows of the table whose features are laid out.
    pub laid_out_rows: Vec<String>,
    /// Networks that play the pointing game.
    #[serde(rename = "planted")]
    pub planted_files: Vec<PlantedFile>,
    /// Keys of `abn train --recipe` that all of these share.
    pub planted_recipe: toml::Table,
    /// The same, with whole recipes.
    #[serde(skip)]
    pub planted: Vec<PlantedNetwork>,
}

/// A network of the pointing game, as the file has it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlantedFile {
    name: String,
    recipe: toml::Table,
}

/// A network of the pointing game.
pub struct PlantedNetwork {
    /// Its name on the page.
    pub name: String,
    /// How it is trained.
    pub recipe: Recipe,
}

impl FiguresFile {
    /// Reads a file and checks its recipes.
    ///
    /// # Errors
    /// Names the file, and the network whose recipe cannot be.
    pub fn load(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("cannot read {}", path.display()))?;
        Self::parse(&text).with_context(|| format!("cannot use {}", path.display()))
    }

    /// As [`load`](Self::load), of a text.
    ///
    /// # Errors
    /// Names the network whose recipe cannot be.
    pub fn parse(text: &str) -> Result<Self> {
        let mut file: Self = toml::from_str(text)?;
        for PlantedFile { name, recipe } in &file.planted_files {
            let mut merged = file.planted_recipe.clone();
            merged.extend(recipe.clone());
            merged.insert("dataset".into(), "planted".into());
            let recipe: Recipe = toml::Value::Table(merged).try_into()?;
            recipe.validate().with_context(|| format!("planted network {name:?}"))?;
            file.planted.push(PlantedNetwork { name: name.clone(), recipe });
        }
        Ok(file)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tables;

    #[test]
    fn the_files_name_what_there_is() {
        for (text, table) in [
            (
                include_str!("../../../recipes/figures.toml"),
                include_str!("../../../recipes/table2.toml"),
            ),
            (
                include_str!("../../../recipes/figures-quick.toml"),
                include_str!("../../../recipes/table2-quick.toml"),
            ),
        ] {
            let file = FiguresFile::parse(text).unwrap();
            let (columns, rows) = tables::names(table).unwrap();
            assert!(file.columns.iter().all(|name| columns.contains(name)), "{columns:?}");
            assert!(file.laid_out_rows.iter().all(|name| rows.contains(name)), "{rows:?}");
            assert_eq!(file.table, "table2");
            // CAM, Grad-CAM's baseline, and ABN with both mechanisms.
            assert_eq!(file.planted.len(), 4);
        }
    }
}
