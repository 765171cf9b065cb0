//! `cargo xtask gpu-check` without a GPU: what it says, and, with the feature `cuda-emulation`, that it runs.

use std::path::Path;
use std::process::{Command, Output};

fn check(args: &[&str], out: &Path) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_xtask"));
    command.arg("gpu-check").args(args).arg("--out").arg(out);
    command.env_remove("ABN_EMULATE_CUDA").output().unwrap()
}

/// Both streams, for messages.
fn said(output: &Output) -> String {
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    text(&output.stdout) + &text(&output.stderr)
}

#[cfg(not(feature = "cuda"))]
#[test]
fn a_program_without_cuda_says_so_once() {
    let folder = tempfile::tempdir().unwrap();
    let output = check(&[], folder.path());
    let said = said(&output);
    assert!(!output.status.success(), "{said}");
    assert_eq!(said.matches("was built without CUDA").count(), 1, "{said}");
    assert!(!folder.path().join("gpu-check.md").exists(), "nothing was found, and nothing is told");
}

#[cfg(not(feature = "cuda-emulation"))]
#[test]
fn a_program_without_the_emulation_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let output = check(&["--device", "emulated"], folder.path());
    let said = said(&output);
    assert!(!output.status.success(), "{said}");
    assert!(said.contains("--features cuda-emulation"), "{said}");
}

/// Training on the CPU and through the GPU's kernels, and the bench, each in their processes.
#[cfg(feature = "cuda-emulation")]
#[test]
fn the_emulation_comes_to_what_the_cpu_comes_to() {
    let folder = tempfile::tempdir().unwrap();
    let output = check(&["--device", "emulated", "--parts", "steps,bench"], folder.path());
    let said = said(&output);
    assert!(output.status.success(), "{said}");
    let page = std::fs::read_to_string(folder.path().join("gpu-check.md")).unwrap();
    assert!(page.starts_with("## On a GPU: emulated"), "{page}");
    assert!(page.contains("3 of 3 held"), "{page}");
    let text = std::fs::read_to_string(folder.path().join("training-steps.json")).unwrap();
    let record: serde_json::Value = serde_json::from_str(&text).unwrap();
    let apart = record["figures"]["weight_difference"].as_f64().unwrap();
    assert!(apart > 0.0, "the emulation took the CPU's way: {text}");
    assert!(folder.path().join("speed-resnet8.json").exists());
}

/// A captured step has other dropout masks each time, whose seed lies where the graph reads it.
#[cfg(feature = "cuda-emulation")]
#[test]
fn a_network_with_dropout_is_timed_as_a_graph() {
    use std::io::Write;
    use std::process::Stdio;

    let mut command = Command::new(env!("CARGO_BIN_EXE_xtask"));
    command.env("ABN_EMULATE_CUDA", "1");
    command.args(["bench", "worker", "wrn-10-1", "--pass", "train", "--cuda-graph"]);
    command.args(["--dropout", "0.3", "--batch", "2", "--size", "16", "--threads", "2"]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut worker = command.spawn().unwrap();
    worker.stdin.take().unwrap().write_all(b"step 5\nquit\n").unwrap();
    let output = worker.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", said(&output));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let ended: serde_json::Value = serde_json::from_str(text.lines().last().unwrap()).unwrap();
    assert_eq!(ended["replayed"], 2, "{text}");
}
