//! The names of makers and models.

use std::path::Path;

use crate::error::{Error, Result};
use crate::mat::{self, CELL_CLASS, Field};

/// What `make_model_name.mat` tells: number i is at i − 1.
#[derive(Debug)]
pub(super) struct Names {
    pub makers: Vec<String>,
    pub models: Vec<String>,
}

impl Names {
    /// Reads the two cell arrays. A number without a name is called by the number.
    pub fn read(path: &Path) -> Result<Self> {
        let (mut makers, mut models) = (None, None);
        mat::variables(path, |variable| {
            let place = match variable.name.as_str() {
                "make_names" => &mut makers,
                "model_names" => &mut models,
                _ => return Ok(()),
            };
            if variable.class != CELL_CLASS {
                let expected = format!("`{}` as a cell array", variable.name);
                let found = format!("a variable of class {}", variable.class);
                return Err(Error::format(path, expected, found));
            }
            let name = |(index, cell): (usize, Field)| match cell {
                Field::Text(name) if !name.trim().is_empty() => name.trim().to_owned(),
                _ => (index + 1).to_string(),
            };
            *place = Some(mat::cells(variable)?.into_iter().enumerate().map(name).collect());
            Ok(())
        })?;
        let needed = |names: Option<Vec<String>>, name: &str| {
            names.ok_or_else(|| {
                Error::format(path, format!("a cell array `{name}`"), "none of that name")
            })
        };
        Ok(Self { makers: needed(makers, "make_names")?, models: needed(models, "model_names")? })
    }
}
