//! What is checked, and what it is called.

use std::fmt;
use std::process::Command;
use std::str::FromStr;

use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};

use super::part;

/// What is checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// The GPU of this number, of those that `CUDA_VISIBLE_DEVICES` leaves.
    Gpu(usize),
    /// A GPU's code on the CPU.
    Emulated,
}

impl FromStr for Target {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is nothing to check; expected cuda, cuda:N or emulated");
        match text.split_once(':') {
            None if text == "cuda" => Ok(Self::Gpu(0)),
            None if text == "emulated" => Ok(Self::Emulated),
            Some(("cuda", number)) => number.parse().map(Self::Gpu).map_err(|_| wrong()),
            _ => Err(wrong()),
        }
    }
}

impl Target {
    /// A command in whose process the device is the only one of its kind, or the CPU that kind.
    pub fn command(self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new(program);
        match self {
            Self::Gpu(number) => {
                let visible = std::env::var("CUDA_VISIBLE_DEVICES").ok();
                command.env("CUDA_VISIBLE_DEVICES", nth(visible.as_deref(), number));
            }
            Self::Emulated => {
                command.env("ABN_EMULATE_CUDA", "1");
            }
        }
        command
    }

    /// What `--device` is told in such a process.
    pub fn within(self) -> &'static str {
        match self {
            Self::Gpu(_) => "cuda",
            Self::Emulated => "cpu",
        }
    }
}

/// The driver's name for the GPU of that number among the visible ones.
fn nth(visible: Option<&str>, number: usize) -> String {
    match visible {
        // One that is not there stays one that is not there.
        Some(list) => list.split(',').nth(number).unwrap_or("none").trim().to_owned(),
        None => number.to_string(),
    }
}

/// The device in words.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Described {
    /// As its maker calls it.
    pub name: String,
    /// Version of its driver, if that was to be had.
    pub driver: Option<String>,
    /// The commit that was built.
    pub commit: Option<String>,
}

impl fmt::Display for Described {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)?;
        if let Some(driver) = &self.driver {
            write!(f, ", driver {driver}")?;
        }
        match &self.commit {
            Some(commit) => write!(f, ", commit {commit}"),
            None => Ok(()),
        }
    }
}

/// Opens the device in a process of its own, and asks what it is.
///
/// # Errors
/// If this program cannot use it: says what is missing.
pub fn describe(target: Target) -> Result<Described> {
    let mut command = part::command(target, "device")?;
    command.args(["--device", target.within()]);
    let output = command.output().context("cannot start this program again")?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        let said = said.trim().trim_start_matches("error: ");
        bail!("{said}");
    }
    let commit = super::files::commit();
    let Target::Gpu(number) = target else {
        let name = "emulated (a GPU's code on the CPU)".to_owned();
        return Ok(Described { name, driver: None, commit });
    };
    let visible = std::env::var("CUDA_VISIBLE_DEVICES").ok();
    let (name, driver) = match ask_driver(&nth(visible.as_deref(), number)) {
        Ok((name, driver)) => (name, Some(driver)),
        Err(error) => {
            eprintln!("the GPU's name is not known: {error:#}");
            (format!("GPU {number}"), None)
        }
    };
    Ok(Described { name, driver, commit })
}

/// Name and driver, from the tool that comes with every driver.
fn ask_driver(which: &str) -> Result<(String, String)> {
    let query = ["--query-gpu=name,driver_version", "--format=csv,noheader", "-i", which];
    let output = Command::new("nvidia-smi").args(query).output().context("nvidia-smi")?;
    let said = String::from_utf8_lossy(&output.stdout);
    ensure!(output.status.success(), "nvidia-smi: {}", said.trim());
    let (name, driver) =
        said.trim().rsplit_once(',').with_context(|| format!("nvidia-smi said {said:?}"))?;
    Ok((name.trim().to_owned(), driver.trim().to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_checked_is_named() {
        assert_eq!("cuda".parse(), Ok(Target::Gpu(0)));
        assert_eq!("cuda:3".parse(), Ok(Target::Gpu(3)));
        assert_eq!("emulated".parse(), Ok(Target::Emulated));
        for wrong in ["cpu", "cuda:", "cuda:x", ""] {
            assert!(wrong.parse::<Target>().unwrap_err().contains("cuda:N"), "{wrong}");
        }
    }

    #[test]
    fn numbers_count_the_visible_gpus() {
        assert_eq!(nth(None, 2), "2");
        assert_eq!(nth(Some("4, 7"), 1), "7");
        assert_eq!(nth(Some("GPU-aa"), 0), "GPU-aa");
        assert_eq!(nth(Some("4"), 1), "none");
    }
}
