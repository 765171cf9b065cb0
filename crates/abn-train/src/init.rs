//! Weights to start from: which file, and which of its tensors go where.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::Path;

use abn_backbones::Variant;
use abn_core::ParamStore;

use crate::card::{Card, Question};
use crate::checkpoint::MODEL;
use crate::run::find_checkpoint;
use crate::{Error, Recipe, Result, WeightsFile};

/// The recipe with the hash of the weights it starts from, and these.
///
/// A recipe that has the hash already needs the file only at its first epoch: without the file,
/// there are no weights, and that is no error here.
///
/// # Errors
/// If the file cannot be read, or has another hash.
pub(crate) fn resolve(recipe: &Recipe) -> Result<(Recipe, Option<WeightsFile>)> {
    let Some(path) = &recipe.init else { return Ok((recipe.clone(), None)) };
    if recipe.init_sha256.is_some() && !path.exists() {
        return Ok((recipe.clone(), None));
    }
    let file = open(path)?;
    let found = file.sha256();
    match &recipe.init_sha256 {
        Some(expected) if !expected.eq_ignore_ascii_case(&found) => Err(Error::Setting {
            key: "init_sha256",
            problem: format!("{} has SHA-256 {found}, expected {expected}", file.path().display()),
        }),
        _ => Ok((Recipe { init_sha256: Some(found), ..recipe.clone() }, Some(file))),
    }
}

/// Weights from a file, or from a run's folder.
fn open(path: &Path) -> Result<WeightsFile> {
    if path.is_dir() {
        return WeightsFile::read(&find_checkpoint(path)?.join(MODEL));
    }
    WeightsFile::read(path)
}

/// The weights that a run is to start from, for its first epoch.
///
/// # Errors
/// If the recipe names some, and they were not there.
pub(crate) fn needed(recipe: &Recipe, file: Option<WeightsFile>) -> Result<Option<WeightsFile>> {
    let Some(hash) = recipe.init_sha256.as_ref().filter(|_| file.is_none()) else {
        return Ok(file);
    };
    let place = recipe.init.as_ref().map(|path| format!("; {} is not there", path.display()));
    Err(Error::Setting {
        key: "init",
        problem: format!(
            "the run starts from weights with SHA-256 {hash}, which are needed{}",
            place.unwrap_or_default()
        ),
    })
}

/// How much of a network the weights must fill.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Extent {
    /// Every parameter.
    Whole,
    /// What training does not start anew: the attention branch may be missing, and layers that
    /// depend on the number of classes may have another.
    Start,
}

/// What weights of a file became in a network.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TakenOver {
    /// Names taken over as they are.
    pub taken: Vec<String>,
    /// Names in the attention trunk that got a copy of the last stage's weights.
    pub copied: Vec<String>,
    /// Names that keep their initial values.
    pub initial: Vec<String>,
    /// Names in the file that only the baseline has, and this network has no place for.
    pub unused: Vec<String>,
}

impl fmt::Display for TakenOver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} tensors taken over", self.taken.len())?;
        if !self.copied.is_empty() {
            write!(f, ", {} copied into the attention trunk", self.copied.len())?;
        }
        if !self.initial.is_empty() {
            write!(f, ", {} left at their initial values: ", self.initial.len())?;
            f.write_str(&self.initial.join(", "))?;
        }
        if !self.unused.is_empty() {
            write!(f, "; {} not used: {}", self.unused.len(), self.unused.join(", "))?;
        }
        Ok(())
    }
}

/// Puts the weights of a file into a network that was built from `card`; all, or nothing on an
/// error.
///
/// # Errors
/// [`Error::Misfit`] if a name or shape does not belong to the network, or one is missing;
/// [`Error::Weights`] if a tensor cannot be had.
pub(crate) fn take_over(
    file: &WeightsFile,
    card: &Card,
    params: &ParamStore,
    extent: Extent,
) -> Result<TakenOver> {
    let misfit = |error: abn_core::Error, hint: &str| Error::Misfit {
        path: file.path().to_owned(),
        network: card.network(),
        problem: format!("{error}{hint}").trim_end_matches("; ").to_owned(),
    };
    let network = params.tensors();
    let groups = Groups::of(card)?;
    let mut report = TakenOver::default();
    let mut sources = BTreeMap::new();
    let mut missing = Vec::new();
    let mut wrong_shape = None;
    for (name, tensor) in &network {
        let dims = tensor.dims();
        match file.shape(name) {
            Some(shape) if shape == dims => {
                sources.insert(name, name.clone());
                report.taken.push(name.clone());
            }
            Some(_) if extent == Extent::Start && groups.of_classes.contains(name) => {
                report.initial.push(name.clone());
            }
            Some(shape) => {
                let (expected, got) = (dims.to_vec(), shape.to_vec());
                let name = name.clone();
                wrong_shape.get_or_insert(abn_core::Error::ParameterShape { name, expected, got });
            }
            None if extent == Extent::Start && groups.added.contains(name) => {
                let mut twins = last_stage_twins(name).into_iter();
                match twins.find(|twin| file.shape(twin) == Some(dims)) {
                    Some(twin) => {
                        sources.insert(name, twin);
                        report.copied.push(name.clone());
                    }
                    None => report.initial.push(name.clone()),
                }
            }
            None => missing.push(name.clone()),
        }
    }
    let foreign = file.shapes().map(|(name, _)| name.to_owned());
    let foreign = foreign.filter(|name| !network.contains_key(name));
    let (unused, unexpected): (Vec<_>, Vec<_>) =
        foreign.partition(|name| extent == Extent::Start && groups.replaced.contains(name));
    report.unused = unused;
    if !missing.is_empty() || !unexpected.is_empty() {
        let branch = |name| groups.added.contains(name);
        let baseline = unexpected.is_empty() && missing.iter().all(branch);
        let hint = match baseline {
            true => {
                "these are weights without attention branch: --init-from-baseline takes them to start from"
            }
            false => "",
        };
        return Err(misfit(abn_core::Error::Keys { missing, unexpected }, hint));
    }
    // After the names: with many of them wrong, they tell more.
    if let Some(error) = wrong_shape {
        return Err(misfit(error, ""));
    }
    let mut tensors = BTreeMap::new();
    for (name, source) in sources {
        tensors.insert(name.clone(), file.tensor(&source)?);
    }
    params.load(tensors, false).map_err(|error| misfit(error, ""))?;
    Ok(report)
}

/// In what a network differs from its baseline, and from itself with other classes.
struct Groups {
    /// What the baseline does not have: the attention branch, mostly.
    added: BTreeSet<String>,
    /// What only the baseline has.
    replaced: BTreeSet<String>,
    /// Parameters whose shape depends on the number of classes.
    of_classes: BTreeSet<String>,
}

impl Groups {
    /// Asks the networks themselves, without giving them memory.
    fn of(card: &Card) -> Result<Self> {
        let shapes = |card: &Card| -> Result<BTreeMap<String, Vec<usize>>> {
            let store = ParamStore::shapes_only();
            card.build(&store)?;
            let tensors = store.tensors().into_iter();
            Ok(tensors.map(|(name, tensor)| (name, tensor.dims().to_vec())).collect())
        };
        let whole = shapes(card)?;
        let mut baseline = card.clone();
        baseline.recipe.variant = Variant::Baseline;
        let mut larger = card.clone();
        if card.tasks.is_empty() {
            larger.classes.push(String::new());
        } else {
            // What is at hand to start from is a network of one task, such as torchvision's; one of
            // several has its names, too.
            baseline.tasks.clear();
            baseline.classes = Card::numbered_classes(2);
            // Longer than any of their names, so none of them.
            let name = card.tasks.iter().map(|task| task.name.as_str()).collect::<String>() + "+";
            let answers = card.tasks[0].answers.clone();
            larger.tasks.push(Question { name, answers });
            // And each with more answers: forms differ in how many outputs two answers have.
            larger.tasks.iter_mut().for_each(|task| task.answers.push(String::new()));
        }
        let (baseline, larger) = (shapes(&baseline)?, shapes(&larger)?);
        let whole_names = whole.keys();
        Ok(Self {
            added: whole_names.filter(|name| !baseline.contains_key(*name)).cloned().collect(),
            of_classes: (whole.iter())
                .filter(|(name, shape)| larger.get(*name) != Some(shape))
                .map(|(name, _)| name.clone())
                .collect(),
            replaced: baseline.into_keys().filter(|name| !whole.contains_key(name)).collect(),
        })
    }
}

/// Where the last stage may have what the attention trunk has under `name`: the trunk is that stage
/// once more. The names are the authors', and for ImageNet's DenseNet torchvision's.
fn last_stage_twins(name: &str) -> Vec<String> {
    match name.strip_prefix("att_") {
        Some(stage) => vec![stage.to_owned(), format!("features.{stage}")],
        // Of several tasks.
        None if name.starts_with("layer") && name.contains("_att.") => {
            vec![name.replacen("_att.", ".", 1)]
        }
        None if name.contains("stage_att") => vec![name.replace("stage_att", "stage_3")],
        None => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Input;

    /// The trunk of every family that repeats its last stage is found, whole.
    #[test]
    fn every_networks_trunk_has_its_stage() {
        for spec in abn_backbones::catalogue() {
            let shapes = |variant| {
                let recipe = Recipe { model: spec.name().into(), variant, ..Recipe::default() };
                let input = Input::square(32, [0.0; 3], [1.0; 3]);
                let classes = Card::numbered_classes(10);
                let card = Card { recipe, classes, tasks: Vec::new(), input };
                let store = ParamStore::shapes_only();
                card.build(&store).unwrap();
                store.tensors()
            };
            let (abn, baseline) = (shapes(Variant::Abn), shapes(Variant::Baseline));
            let head = |name: &str| name.starts_with("bn_att") || name.starts_with("att_conv");
            let trunk: Vec<_> =
                abn.keys().filter(|name| !baseline.contains_key(*name) && !head(name)).collect();
            assert!(!trunk.is_empty(), "{}", spec.name());
            // VGG has no such stage: its trunk stands for the fully connected layers.
            let repeats = !spec.name().contains("vgg");
            for name in trunk {
                let twins = last_stage_twins(name);
                let twins: Vec<_> = twins.iter().filter_map(|twin| baseline.get(twin)).collect();
                let fits = twins.iter().any(|twin| twin.dims() == abn[name].dims());
                assert!(twins.len() <= 1, "{}: {name} has two twins", spec.name());
                assert_eq!(fits, repeats, "{}: {name}", spec.name());
            }
        }
    }
}
