//! The numbers that runs are held to: `tests/baselines/regress.toml`.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use abn_ops::simd::{Isa, isa};
use anyhow::{Context, Result};
use safetensors::SafeTensors;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::fetch::hex;

const HEADER: &str = "\
# What the runs of recipes/regress.toml came to, for each type of machine (architecture, system, vector
# instructions). Written by `cargo xtask regress --bless`, compared by `cargo xtask regress`.
# `recipe` is a hash of the run's keys, `weights` one of the final weights and statistics.
";

/// What a run came to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Numbers {
    /// Fingerprint of what was run.
    pub recipe: String,
    /// Top-1 test error after the last epoch, in percent.
    pub test_error: f64,
    /// Hash of the final weights and statistics.
    pub weights: String,
}

/// The numbers of each run, by its name.
pub type Runs = BTreeMap<String, Numbers>;

/// The numbers of each run on each type of machine.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Baselines {
    machines: BTreeMap<String, Runs>,
}

impl Baselines {
    /// Reads the file; empty if there is none.
    ///
    /// # Errors
    /// If it cannot be read, or has an unknown or missing key.
    pub fn load(path: &Path) -> Result<Self> {
        match fs::read_to_string(path) {
            Ok(text) => {
                toml::from_str(&text).with_context(|| format!("cannot use {}", path.display()))
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
        }
    }

    /// Writes the file.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn save(&self, path: &Path) -> Result<()> {
        let writing = || format!("cannot write {}", path.display());
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).with_context(writing)?;
        }
        let temporary = path.with_extension("toml.tmp");
        fs::write(&temporary, format!("{HEADER}\n{}", toml::to_string(self)?))
            .with_context(writing)?;
        fs::rename(&temporary, path).with_context(writing)
    }

    /// The numbers that hold on a type of machine: its own, or else the first's, with its name.
    pub fn of(&self, machine: &str) -> Option<(&str, &Runs)> {
        let own = self.machines.get_key_value(machine);
        own.or_else(|| self.machines.first_key_value()).map(|(name, runs)| (name.as_str(), runs))
    }

    /// Puts the numbers of some runs in the place of the old ones, and forgets the runs that
    /// are not among `names`; other machines' stay.
    pub fn bless(&mut self, machine: &str, new: Runs, names: &[&str]) {
        let runs = self.machines.entry(machine.to_owned()).or_default();
        runs.extend(new);
        runs.retain(|name, _| names.contains(&name.as_str()));
    }
}

/// This type of machine: numbers made on one are exact on others of it. The system is part of
/// it because its mathematical library is.
pub fn machine() -> String {
    let instructions = match isa() {
        Isa::Portable => "portable",
        Isa::Avx2 => "avx2",
        Isa::Avx512 => "avx512",
    };
    format!("{} {} {instructions}", std::env::consts::ARCH, std::env::consts::OS)
}

/// Hash of every tensor in a file, by name: of what it holds, not of how it is written.
///
/// # Errors
/// If the file cannot be read or is damaged.
pub fn weights_hash(path: &Path) -> Result<String> {
    let bytes = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    let file = SafeTensors::deserialize(&bytes).with_context(|| path.display().to_string())?;
    let mut tensors = file.tensors();
    tensors.sort_by(|(a, _), (b, _)| a.cmp(b));
    let mut hash = Sha256::new();
    for (name, tensor) in tensors {
        let head = format!("{name} {:?} {:?}\n", tensor.dtype(), tensor.shape());
        hash.update(head.as_bytes());
        hash.update(tensor.data());
    }
    Ok(hex(&hash.finalize()))
}
