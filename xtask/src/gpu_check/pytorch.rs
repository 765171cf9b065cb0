//! The PyTorch that this project is timed beside.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};

use super::device::Target;
use super::files;

/// A step, as often as it is told.
pub const STEP: &str = "bench_step.py";
/// Whole runs.
pub const TRAIN: &str = "train_reference.py";

/// What a Python says of its PyTorch.
const LOOK: &str = "
import json, numpy, torch
sees = torch.cuda.is_available()
name = torch.cuda.get_device_name(0) if sees else None
print(json.dumps({'torch': torch.__version__, 'gpu': name}))
";

#[derive(Deserialize)]
struct Seen {
    torch: String,
    gpu: Option<String>,
}

/// A Python with PyTorch that computes where this project does.
#[derive(Debug, Serialize)]
pub struct PyTorch {
    /// Its version, and that it computes on the CPU if it does.
    pub version: String,
    #[serde(skip)]
    python: PathBuf,
    #[serde(skip)]
    scripts: PathBuf,
    #[serde(skip)]
    target: Target,
    #[serde(skip)]
    on_cpu: bool,
}

impl PyTorch {
    /// Looks whether all is there that will be needed, before anything is timed. `on_cpu`: it is to compute there, whatever is
    /// checked.
    ///
    /// # Errors
    /// If scripts, Python, PyTorch or its GPU are missing: says which.
    pub fn find(python: &Path, target: Target, on_cpu: bool) -> Result<Self> {
        let scripts = files::find(files::REFERENCE, "tests/reference")?;
        for script in [STEP, TRAIN] {
            let path = scripts.join(script);
            ensure!(
                path.exists(),
                "--against-pytorch needs {}, which is not there",
                path.display()
            );
        }
        let mut command = target.command(python);
        let output = command.args(["-c", LOOK]).stdin(Stdio::null()).output();
        let shown = python.display();
        let output = output.with_context(|| {
            format!("--against-pytorch {shown}: no Python can be started there")
        })?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            let last = said.trim().lines().last().unwrap_or_default();
            bail!(
                "--against-pytorch {shown}: it has no PyTorch that works ({last}); \
                 expected a Python with torch and numpy"
            );
        }
        let said = String::from_utf8_lossy(&output.stdout);
        let Seen { torch, gpu } = serde_json::from_str(&said)
            .with_context(|| format!("--against-pytorch {shown} said {said:?}"))?;
        let on_cpu = on_cpu || target == Target::Emulated;
        ensure!(
            on_cpu || gpu.is_some(),
            "--against-pytorch {shown}: its PyTorch, {torch}, sees no GPU; one that was built for CUDA is expected"
        );
        let version = if on_cpu { format!("{torch} on the CPU") } else { torch };
        Ok(Self { version, python: python.to_owned(), scripts, target, on_cpu })
    }

    /// A script of the reference, told where to compute.
    pub fn command(&self, script: &str) -> Command {
        let mut command = self.target.command(&self.python);
        command.arg(self.scripts.join(script));
        command.args(["--device", if self.on_cpu { "cpu" } else { self.target.within() }]);
        command
    }
}

#[cfg(all(test, unix))]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    /// A Python that does this, whatever it is told.
    fn python(folder: &Path, does: &str) -> PathBuf {
        let path = folder.join("python");
        std::fs::write(&path, format!("#!/bin/sh\n{does}\n")).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        path
    }

    #[test]
    fn what_is_missing_is_told_before_anything_is_timed() {
        let folder = tempfile::tempdir().unwrap();
        let find = |does: &str, target, on_cpu| {
            PyTorch::find(&python(folder.path(), does), target, on_cpu)
        };
        let gpu = Target::Gpu(0);
        let with_gpu = r#"echo '{"torch": "2.11.0+cu130", "gpu": "NVIDIA H100"}'"#;
        let without = r#"echo '{"torch": "2.11.0+cpu", "gpu": null}'"#;
        assert_eq!(find(with_gpu, gpu, false).unwrap().version, "2.11.0+cu130");
        for (target, on_cpu) in [(gpu, true), (Target::Emulated, false)] {
            let found = find(without, target, on_cpu).unwrap();
            assert_eq!(found.version, "2.11.0+cpu on the CPU");
            let command = found.command(STEP);
            assert!(command.get_args().any(|arg| arg == "cpu"), "{command:?}");
        }
        let nothing = "echo Traceback >&2; echo \"No module named 'torch'\" >&2; exit 1";
        for (does, expected) in [
            (without, "2.11.0+cpu, sees no GPU"),
            (nothing, "no PyTorch that works (No module named 'torch')"),
            ("echo hello", "said \"hello"),
        ] {
            let error = format!("{:#}", find(does, gpu, false).unwrap_err());
            assert!(error.contains(expected), "{error}");
        }
        let error = PyTorch::find(&folder.path().join("none"), gpu, false).unwrap_err();
        assert!(format!("{error:#}").contains("no Python can be started"), "{error:#}");
    }
}
