//! The tests of all operations, forward and gradients, on the GPU.

use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use serde_json::json;

use super::device::Target;
use super::outcome::{Line, Outcome};
use super::{Check, files};

const NAME: &str = "operations";

/// Runs them.
///
/// # Errors
/// If they cannot be had, or end without a result.
pub fn run(check: &Check) -> Result<Vec<Outcome>> {
    let mut command = check.target().command(files::ops_tests()?);
    if let Target::Gpu(_) = check.target() {
        // They know CPU tensors, which are carried to the GPU and back, kernel by kernel: one test at a
        // time, as one program would.
        command.env("ABN_STAGE_CUDA", "1").arg("--test-threads=1");
    }
    let output = command.stdin(Stdio::null()).stderr(Stdio::inherit()).output();
    let output = output.context("the tests of the operations do not start")?;
    let said = String::from_utf8_lossy(&output.stdout);
    let log = check.args.out.join("operations.log");
    std::fs::write(&log, &*said).with_context(|| format!("cannot write {}", log.display()))?;
    let result = Tests::read(&said).with_context(|| {
        format!("the tests ended with {}: see {}", output.status, log.display())
    })?;
    ensure!(result.passed > 0 || !result.failed.is_empty(), "no test ran");
    let mut found = format!("{} passed, {} failed", result.passed, result.failed.len());
    if !result.failed.is_empty() {
        found += &format!(" ({}; see {})", result.failed.join(", "), log.display());
    }
    let held = output.status.success() && result.failed.is_empty();
    let what = "tests of the operations, forward and gradients";
    let line = Line::asked(what, found, "all pass".into(), held);
    let figures = json!({ "passed": result.passed, "failed": result.failed });
    Ok(vec![Outcome::new(NAME, vec![line], figures)])
}

/// What a test program said.
#[derive(Debug, PartialEq)]
struct Tests {
    passed: u64,
    failed: Vec<String>,
}

impl Tests {
    /// `None` if it did not come to its last line.
    fn read(said: &str) -> Option<Self> {
        let failed = said.lines().filter_map(|line| {
            line.strip_prefix("test ")?.strip_suffix(" ... FAILED").map(str::to_owned)
        });
        let result = said.lines().find_map(|line| line.strip_prefix("test result: "))?;
        let passed = result.split_once(". ")?.1.split_once(" passed")?.0.parse().ok()?;
        Some(Self { passed, failed: failed.collect() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_are_read_as_libtest_writes_them() {
        let said = "\nrunning 3 tests\ntest a::b ... ok\ntest c ... FAILED\ntest d ... ok\n\nfailures:\n\
                    ---- c stdout ----\nno\n\ntest result: FAILED. 2 passed; 1 failed; 0 ignored; \
                    0 measured; 0 filtered out; finished in 0.01s\n";
        let expected = Tests { passed: 2, failed: vec!["c".into()] };
        assert_eq!(Tests::read(said), Some(expected));
        assert_eq!(Tests::read("running 3 tests\ntest a::b ... ok\n"), None);
    }
}
