//! What the check needs beside the program: beside it, as `--pack` lays it down, or in the repository.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

/// Where `--pack` puts the fixtures of the parity tests.
pub const FIXTURES: &str = "fixtures";
/// Where it puts what runs in PyTorch.
pub const REFERENCE: &str = "reference";
/// The tests of the operations.
pub const OPS_TESTS: &str = "abn-ops-tests";
/// The commit that was packed.
pub const COMMIT: &str = "COMMIT";

/// The folder that the program lies in.
fn beside(name: &str) -> Result<PathBuf> {
    let program = std::env::current_exe().context("where this program lies")?;
    Ok(program.parent().context("a program lies in a folder")?.join(name))
}

/// A file or folder that was packed, or else its place in the repository.
///
/// # Errors
/// If there is neither.
pub fn find(packed: &str, in_repository: &str) -> Result<PathBuf> {
    let packed = beside(packed)?;
    if packed.exists() {
        return Ok(packed);
    }
    let here = crate::root()?.join(in_repository);
    if !here.exists() {
        bail!("neither {} nor {} is there", packed.display(), here.display());
    }
    Ok(here)
}

/// The tests of the operations: packed, or built for the features of this program.
///
/// # Errors
/// If they cannot be built.
pub fn ops_tests() -> Result<PathBuf> {
    let packed = beside(OPS_TESTS)?;
    if packed.exists() {
        return Ok(packed);
    }
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(crate::root()?);
    let mut features = vec!["cuda-emulation"];
    if cfg!(feature = "cuda") {
        features.push("cuda");
    }
    if cfg!(feature = "nccl") {
        features.push("nccl");
    }
    build_tests(cargo, &features)
}

/// Builds the tests of the operations by this `cargo`, with features of xtask; returns their program.
///
/// # Errors
/// If cargo fails.
pub fn build_tests(mut cargo: Command, features: &[&str]) -> Result<PathBuf> {
    // With xtask, whose features are the workspace's: candle is not built once more.
    cargo.args(["test", "--locked", "--no-run", "--lib", "-p", "abn-ops", "-p", "xtask"]);
    cargo.args(["--features", &qualified(features), "--message-format", "json-render-diagnostics"]);
    let output = cargo.stderr(std::process::Stdio::inherit()).output().context("cargo")?;
    if !output.status.success() {
        bail!("cargo cannot build the tests of the operations; its own message is above");
    }
    artifact(&output.stdout, "abn_ops")
}

/// xtask's features, for a command that builds more than xtask.
pub fn qualified(features: &[&str]) -> String {
    features.iter().map(|feature| format!("xtask/{feature}")).collect::<Vec<_>>().join(",")
}

/// The program of a target among what cargo says it has built.
///
/// # Errors
/// If it is not there.
pub fn artifact(messages: &[u8], target: &str) -> Result<PathBuf> {
    let lines = String::from_utf8_lossy(messages);
    let lines = lines.lines().filter_map(|line| serde_json::from_str(line).ok());
    let program = lines
        .filter(|message: &serde_json::Value| message["target"]["name"] == target)
        .find_map(|message| message["executable"].as_str().map(PathBuf::from));
    program.with_context(|| format!("cargo built no program of {target}"))
}

/// What the program was built from: as packed, or as git says.
pub fn commit() -> Option<String> {
    let packed = beside(COMMIT).ok().and_then(|path| std::fs::read_to_string(path).ok());
    packed.map(|text| text.trim().to_owned()).or_else(|| git_commit(crate::root().ok()?))
}

/// The checked-out commit, short, and whether files differ from it.
pub fn git_commit(root: &Path) -> Option<String> {
    let git = ["describe", "--always", "--dirty", "--abbrev=10"];
    let output = Command::new("git").current_dir(root).args(git).output().ok()?;
    let commit = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    (output.status.success() && !commit.is_empty()).then_some(commit)
}
