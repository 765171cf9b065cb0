//! Weights of other programs as a run.

use std::path::Path;

use abn_core::ParamStore;
use candle_core::{DType, Device};

use crate::card::Card;
use crate::checkpoint::{self, State};
use crate::folder::{Found, RunFolder};
use crate::init::{self, Extent, TakenOver};
use crate::{Error, Result};

/// Makes a run, of no epochs, of the weights that `card.recipe.init` names: a folder that
/// [`Run::open`](crate::Run::open) takes.
///
/// With `from_baseline`, the weights may be those of the network without attention branch, whose
/// trunk then gets a copy of the last stage's, and of another number of classes; what is left keeps
/// its initial values. `command` goes into the header of the run's `recipe.toml`.
///
/// # Errors
/// If the weights cannot be read or are not the network's, or the folder holds something else;
/// then nothing is written.
pub fn import(card: &Card, folder: &Path, from_baseline: bool, command: &str) -> Result<TakenOver> {
    card.recipe.validate()?;
    let (recipe, file) = init::resolve(&card.recipe)?;
    let file = init::needed(&recipe, file)?.ok_or_else(|| Error::Setting {
        key: "init",
        problem: "names no weights to import".into(),
    })?;
    let folder = RunFolder::new(folder);
    match folder.inspect(&recipe, false)? {
        Found::Nothing => {}
        Found::Unfinished if !folder.last().exists() => {}
        Found::Unfinished | Found::Finished(_) => {
            return Err(Error::Invalid(format!(
                "{} holds a run that was trained from these weights; choose another folder",
                folder.root().display()
            )));
        }
    }
    let card = Card { recipe: recipe.identity(), ..card.clone() };
    let params = ParamStore::new(recipe.seed, DType::F32, Device::Cpu);
    card.build(&params)?;
    let extent = if from_baseline { Extent::Start } else { Extent::Whole };
    let report = init::take_over(&file, &card, &params, extent)?;
    let _claim = folder.claim(&recipe, &header(command), false)?;
    let state = State { recipe: checkpoint::fingerprint(&recipe), ..State::default() };
    checkpoint::save_network(&folder.best(), &params, &card, &state)?;
    Ok(report)
}

/// The comment at the top of the run's recipe.
fn header(command: &str) -> String {
    let version = env!("CARGO_PKG_VERSION");
    format!(
        "# Weights imported by abn {version}, and the recipe of a run that starts from them.\n\
         # Command: {}\n",
        command.replace('\n', " ")
    )
}

/// Names of classes, a line each.
///
/// # Errors
/// [`Error::Damaged`] if there are fewer than two, one is empty or two are the same.
pub fn read_class_names(path: &Path) -> Result<Vec<String>> {
    let text = std::fs::read_to_string(path).map_err(Error::io("cannot read", path))?;
    let names: Vec<String> = text.lines().map(|line| line.trim().to_owned()).collect();
    let damaged = |problem| Err(Error::Damaged { path: path.to_owned(), problem });
    if names.len() < 2 {
        return damaged(format!(
            "expected a class name on each of two or more lines, found {}",
            names.len()
        ));
    }
    if let Some(line) = names.iter().position(String::is_empty) {
        return damaged(format!("line {} is empty, expected a class name", line + 1));
    }
    let mut seen = std::collections::BTreeMap::new();
    for (line, name) in names.iter().enumerate() {
        if let Some(first) = seen.insert(name, line + 1) {
            return damaged(format!("lines {first} and {} are both {name:?}", line + 1));
        }
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn class_names_are_lines() {
        let root = tempfile::tempdir().unwrap();
        let file = root.path().join("names.txt");
        let read = |text: &str| {
            std::fs::write(&file, text).unwrap();
            read_class_names(&file)
        };
        assert_eq!(read("cat\n dog \r\nnewt\n").unwrap(), ["cat", "dog", "newt"]);
        for (text, expected) in [
            ("", "found 0"),
            ("cat\n", "found 1"),
            ("cat\n\ndog\n", "line 2 is empty"),
            ("cat\ndog\ncat\n", "lines 1 and 3 are both \"cat\""),
        ] {
            let said = read(text).unwrap_err().to_string();
            assert!(said.contains("names.txt") && said.contains(expected), "{said}");
        }
    }
}
