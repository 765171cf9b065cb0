//! A recipe as TOML: read, written and compared.

use std::fmt;
use std::ops::Range;
use std::path::Path;

use toml::de::DeTable;

use super::Recipe;
use crate::{Error, Result, names};

/// The keys that recipes did not have from the start, with their defaults in TOML. A recipe is
/// identified without them where they have these, so that older runs stay what they are.
pub(super) const LATER: [(&str, &str); 8] = [
    ("preset", "\"code\""),
    ("form", "\"chainer\""),
    ("accumulate", "1"),
    ("schedule", "\"multistep\""),
    ("warmup_epochs", "0"),
    ("label_smoothing", "0.0"),
    ("sync_batch_norm", "false"),
    ("precision", "\"tf32\""),
];

impl Recipe {
    /// Reads and checks a recipe.
    ///
    /// # Errors
    /// If the file cannot be read, is not TOML, has a key that no recipe has, or a value that
    /// cannot be: names the file, the line and the key.
    pub fn load(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).map_err(Error::io("cannot read", path))?;
        Self::parse(&text, path)
    }

    /// Checks a recipe given as text; `path` is what errors call it.
    ///
    /// # Errors
    /// As [`Recipe::load`].
    pub fn parse(text: &str, path: &Path) -> Result<Self> {
        let located = |span: Option<Range<usize>>, key: Option<&str>, problem: String| {
            let start = span.map_or(0, |span| span.start).min(text.len());
            Error::Recipe {
                file: path.to_owned(),
                line: 1 + text.as_bytes()[..start].iter().filter(|&&byte| byte == b'\n').count(),
                key: key.map(str::to_owned),
                problem,
            }
        };
        let table = DeTable::parse(text)
            .map_err(|error| located(error.span(), None, error.message().to_owned()))?;
        let table = table.get_ref();
        for key in table.keys() {
            if !Self::KEYS.contains(&key.get_ref().as_ref()) {
                let near = names::did_you_mean(key.get_ref(), Self::KEYS);
                let problem = format!("no such key{near} (the keys are {})", Self::KEYS.join(", "));
                return Err(located(Some(key.span()), Some(key.get_ref()), problem));
            }
        }
        let mut recipe: Self = toml::from_str(text).map_err(|error| {
            let at = error.span().map_or(0, |span| span.start);
            let key = table.iter().find(|(_, value)| value.span().contains(&at));
            located(
                error.span(),
                key.map(|(key, _)| key.get_ref().as_ref()),
                error.message().into(),
            )
        })?;
        if !table.contains_key("mechanism") {
            recipe.mechanism = Self::published_mechanism(&recipe.dataset);
        }
        recipe.check().map_err(|invalid| {
            let key = table.keys().find(|key| key.get_ref() == invalid.key);
            located(key.map(|key| key.span()), Some(invalid.key), invalid.problem)
        })?;
        Ok(recipe)
    }

    /// The recipe as TOML, every key with its value.
    pub fn to_toml(&self) -> String {
        let mut text = self.compact();
        let table: toml::Table = toml::from_str(&text).expect("just written");
        for (key, default) in LATER {
            if !table.contains_key(key) {
                text.push_str(&format!("{key} = {default}\n"));
            }
        }
        text
    }

    /// The recipe as TOML without the [`LATER`] keys that have their default.
    pub(crate) fn compact(&self) -> String {
        toml::to_string(self).expect("numbers, strings and lists are always TOML")
    }

    /// The recipe without what does not change the result.
    pub(crate) fn identity(&self) -> Self {
        Self { data_dir: None, init: None, ..self.clone() }
    }

    /// The keys in which two recipes differ, with both values; where the data lies is no
    /// difference.
    pub(crate) fn differences(&self, other: &Self) -> Vec<Difference> {
        let table = |recipe: &Self| {
            toml::from_str::<toml::Table>(&recipe.identity().to_toml()).expect("just written")
        };
        let (ours, theirs) = (table(self), table(other));
        let differs = |key: &&str| ours.get(*key) != theirs.get(*key);
        let shown = |table: &toml::Table, key: &str| {
            table.get(key).map_or("(none)".into(), toml::Value::to_string)
        };
        let difference = |key: &str| Difference {
            key: key.to_owned(),
            ours: shown(&ours, key),
            theirs: shown(&theirs, key),
        };
        Self::KEYS.into_iter().filter(differs).map(difference).collect()
    }
}

/// One key in which two recipes differ.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// The key.
    pub key: String,
    /// Its value in the recipe asked for.
    pub ours: String,
    /// Its value in the recipe found.
    pub theirs: String,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} = {} there, {} asked for", self.key, self.theirs, self.ours)
    }
}
