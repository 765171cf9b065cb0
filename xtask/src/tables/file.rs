//! A table's file in `recipes/`: what all its runs share, its columns and its rows.

use std::collections::BTreeMap;
use std::path::Path;

use abn_data::Size;
use abn_train::{Card, Input, Question, Recipe};
use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};

use crate::synthesize::Kind;

/// A table as its file has it. `recipe` tables hold keys of `abn train --recipe`; the more special goes before
/// the more general: table, dataset, row, row on a dataset, column.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TableFile {
    /// Heading.
    pub title: String,
    /// What a reader must know before the numbers; empty for none.
    #[serde(default)]
    pub notice: String,
    /// What the numbers are, the reported ones too.
    #[serde(default)]
    pub measure: Measure,
    /// What the networks with maps must come to, or the command fails.
    pub bar: Option<Bar>,
    /// For every run.
    #[serde(default)]
    recipe: toml::Table,
    /// The variants of a network that are compared; the first is what the others are compared with.
    pub column: Vec<Column>,
    /// The datasets.
    pub dataset: Vec<DatasetFile>,
    /// The networks.
    pub row: Vec<RowFile>,
}

/// What a table's numbers are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Measure {
    /// Top-1 error in percent.
    #[default]
    Error,
    /// Accuracy in percent, the mean over the tasks.
    Accuracy,
}

impl Measure {
    /// An error in percent as the table has it, and the other way round.
    pub fn of(self, error: f64) -> f64 {
        match self {
            Self::Error => error,
            Self::Accuracy => 100.0 - error,
        }
    }

    /// A difference of errors as the table has it.
    pub fn difference(self, of_errors: f64) -> f64 {
        match self {
            Self::Error => of_errors,
            Self::Accuracy => -of_errors,
        }
    }
}

/// What every network with maps must come to on drawn faces, of which it is known where each attribute is.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bar {
    /// Its mean accuracy in percent is above this.
    pub accuracy: f64,
    /// The peak of each attribute's map lies in the attribute's boxes, over all images that have it, at least so
    /// many times as often as a random point.
    pub pointing: f64,
}

/// A variant of a network.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Column {
    /// Its name here and in `reported`.
    pub name: String,
    /// Its name in the table.
    pub title: String,
    /// Whether a row has it without saying so.
    #[serde(default = "yes")]
    usual: bool,
    recipe: toml::Table,
}

fn one() -> usize {
    1
}

fn square() -> [usize; 2] {
    [1, 1]
}

fn yes() -> bool {
    true
}

/// A dataset.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DatasetFile {
    /// Its name, as `abn datasets` lists it.
    pub name: String,
    /// Its name in the table.
    pub title: String,
    /// What it is, in a line.
    pub note: String,
    /// Number of classes, of each task if there are several.
    pub classes: usize,
    /// Number of tasks.
    #[serde(default = "one")]
    pub tasks: usize,
    /// Number of training images.
    pub images: usize,
    /// Height and width of the images that suit it; square if it does not say.
    #[serde(default = "square")]
    pub shape: [usize; 2],
    /// Its folder in the datasets' folder, if not of its name.
    pub folder: Option<String>,
    /// What is drawn for it, if it is synthetic.
    pub synthetic: Option<Kind>,
    /// Networks that nobody trains here, and what was reported of them.
    #[serde(default)]
    pub also: Vec<Also>,
    /// What was reported of each of its attributes.
    pub attributes: Option<ReportedAttributes>,
    #[serde(default)]
    recipe: toml::Table,
}

/// A network.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RowFile {
    /// Family, as the paper's table names it.
    pub name: String,
    #[serde(default)]
    recipe: toml::Table,
    /// Columns it has, if not the usual ones.
    columns: Option<Vec<String>>,
    /// By dataset; a row without any is on every dataset.
    #[serde(default)]
    on: BTreeMap<String, CellFile>,
}

/// A network on a dataset.
#[derive(Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct CellFile {
    #[serde(default)]
    recipe: toml::Table,
    columns: Option<Vec<String>>,
    /// By column.
    #[serde(default)]
    reported: BTreeMap<String, Reported>,
}

/// A network that nobody trains here.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Also {
    /// Its name.
    pub name: String,
    /// What was reported of it, in the table's measure.
    pub reported: f64,
    /// Where it was read.
    pub source: String,
}

/// What was reported of ABN, attribute by attribute.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct ReportedAttributes {
    /// Where the accuracies were read.
    pub source: String,
    /// Attributes and accuracies in percent.
    pub accuracy: Vec<(String, f64)>,
    /// On how many attributes ABN was better than the baseline.
    pub odds: usize,
    /// Where that was read.
    pub odds_source: String,
}

/// A number that others reported: in the file in the table's measure, here the error in percent; and where it
/// was read.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct Reported(pub f64, pub String);

/// A network in one variant on one dataset.
pub struct Cell<'a> {
    /// The row.
    pub row: &'a RowFile,
    /// The dataset.
    pub dataset: &'a DatasetFile,
    /// The variant.
    pub column: &'a Column,
    /// What was reported of it.
    pub reported: Option<Reported>,
    /// How it is trained with seed 0.
    pub recipe: Recipe,
}

impl Cell<'_> {
    /// Size of the network's input.
    ///
    /// # Errors
    /// If the model is not known.
    pub fn input_size(&self) -> Result<Size> {
        let [height, width] = self.dataset.shape;
        Ok(self.recipe.input_size(Size { height, width })?)
    }

    /// What its network is, before anyone has seen the data: tasks and classes are numbers.
    ///
    /// # Errors
    /// If the model is not known.
    pub fn card(&self) -> Result<Card> {
        let Size { height, width } = self.input_size()?;
        let input = Input::square(height, [0.0; 3], [1.0; 3]);
        let input = Input { width: (width != height).then_some(width), ..input };
        let answers = Card::numbered_classes(self.dataset.classes);
        let question = |t: usize| Question { name: t.to_string(), answers: answers.clone() };
        let (classes, tasks) = match self.dataset.tasks {
            1 => (answers, Vec::new()),
            tasks => (Vec::new(), (0..tasks).map(question).collect()),
        };
        Ok(Card { recipe: self.recipe.clone(), classes, tasks, input })
    }
}

impl TableFile {
    /// Reads a table's file and checks every recipe that follows from it.
    ///
    /// # Errors
    /// Names the file and the key or cell that cannot be.
    pub fn load(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("cannot read {}", path.display()))?;
        Self::parse(&text).with_context(|| format!("cannot use {}", path.display()))
    }

    /// As [`load`](Self::load), of a text.
    ///
    /// # Errors
    /// Names the key or cell that cannot be.
    pub fn parse(text: &str) -> Result<Self> {
        let table: Self = toml::from_str(text)?;
        ensure!(!table.column.is_empty(), "a table needs a [[column]]");
        for row in &table.row {
            let known = |name: &String| table.dataset.iter().any(|d| d.name == *name);
            let unknown = row.on.keys().find(|name| !known(name));
            ensure!(unknown.is_none(), "row {:?}: no dataset {unknown:?} in this table", row.name);
            for cell in row.on.values() {
                for name in
                    cell.columns.iter().chain(&row.columns).flatten().chain(cell.reported.keys())
                {
                    let known = table.column.iter().any(|column| column.name == *name);
                    ensure!(known, "row {:?}: no column {name:?} in this table", row.name);
                }
            }
        }
        table.cells()?;
        Ok(table)
    }

    /// Every cell, by dataset, row and column.
    ///
    /// # Errors
    /// Names the cell whose recipe cannot be.
    pub fn cells(&self) -> Result<Vec<Cell<'_>>> {
        let mut cells = Vec::new();
        for dataset in &self.dataset {
            for row in &self.row {
                let Some(cell) = row.cell(&dataset.name) else { continue };
                let columns = cell.columns.as_ref().or(row.columns.as_ref());
                let has = |column: &&Column| match columns {
                    Some(names) => names.contains(&column.name),
                    None => column.usual,
                };
                for column in self.column.iter().filter(has) {
                    let recipe = self.recipe(dataset, row, &cell, column).with_context(|| {
                        format!("row {:?}, {}, {}", row.name, dataset.name, column.name)
                    })?;
                    let reported =
                        cell.reported.get(&column.name).map(|Reported(value, source)| {
                            // To the digits that it was given with.
                            let error = (self.measure.of(*value) * 1e6).round() / 1e6;
                            Reported(error, source.clone())
                        });
                    cells.push(Cell { row, dataset, column, reported, recipe });
                }
            }
        }
        Ok(cells)
    }

    fn recipe(
        &self,
        dataset: &DatasetFile,
        row: &RowFile,
        cell: &CellFile,
        column: &Column,
    ) -> Result<Recipe> {
        let mut merged = toml::Table::new();
        for part in [&self.recipe, &dataset.recipe, &row.recipe, &cell.recipe, &column.recipe] {
            merged.extend(part.clone());
        }
        merged.insert("dataset".into(), dataset.name.clone().into());
        let recipe: Recipe = toml::Value::Table(merged).try_into()?;
        recipe.validate()?;
        Ok(recipe)
    }
}

impl RowFile {
    fn cell(&self, dataset: &str) -> Option<CellFile> {
        match self.on.is_empty() {
            true => Some(CellFile::default()),
            false => self.on.get(dataset).cloned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = r#"
        title = "T"
        recipe = { epochs = 3, lr = 0.5 }
        [[column]]
        name = "baseline"
        title = "baseline"
        recipe = { variant = "baseline" }
        [[column]]
        name = "abn"
        title = "ABN"
        recipe = { variant = "abn" }
        [[column]]
        name = "multiply"
        title = "g·M"
        usual = false
        recipe = { variant = "abn", mechanism = "multiply" }
        [[dataset]]
        name = "fashion-mnist-mini"
        title = "F"
        note = "clothes"
        classes = 10
        images = 10000
        recipe = { lr = 0.25, milestones = [2] }
        [[row]]
        name = "Small"
        recipe = { model = "resnet8" }
    "#;

    #[test]
    fn the_special_goes_before_the_general() {
        let text = TABLE.to_owned()
            + "on.fashion-mnist-mini = { recipe = { epochs = 4 }, columns = [\"abn\", \"multiply\"], \
               reported = { abn = [12.5, \"a paper\"] } }";
        let table = TableFile::parse(&text).unwrap();
        let cells = table.cells().unwrap();
        let names: Vec<_> = cells.iter().map(|cell| cell.column.name.as_str()).collect();
        assert_eq!(names, ["abn", "multiply"]);
        let Recipe { epochs, lr, milestones, model, .. } = &cells[0].recipe;
        assert_eq!((*epochs, *lr, &milestones[..], model.as_str()), (4, 0.25, &[2][..], "resnet8"));
        assert_eq!(cells[0].reported, Some(Reported(12.5, "a paper".into())));
        assert_eq!(cells[1].reported, None);
    }

    #[test]
    fn a_row_without_more_has_the_usual_columns_everywhere() {
        let table = TableFile::parse(TABLE).unwrap();
        let names: Vec<_> = table.cells().unwrap().iter().map(|c| c.column.name.clone()).collect();
        assert_eq!(names, ["baseline", "abn"]);
    }

    #[test]
    fn mistakes_name_the_place() {
        let said = |addition: &str| match TableFile::parse(&(TABLE.to_owned() + addition)) {
            Ok(_) => panic!("{addition} was taken"),
            Err(error) => format!("{error:#}"),
        };
        assert!(said("on.cifar10 = {}").contains("cifar10"));
        assert!(said("colums = []").contains("colums"));
        let unknown = said("on.fashion-mnist-mini = { columns = [\"cam\"] }");
        assert!(unknown.contains("Small") && unknown.contains("cam"), "{unknown}");
        let epochs = said("on.fashion-mnist-mini = { recipe = { epochs = 0 } }");
        assert!(epochs.contains("epochs") && epochs.contains("Small"), "{epochs}");
    }
}
