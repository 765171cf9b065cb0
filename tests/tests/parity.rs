//! Parity with the authors' released code and torchvision: `cargo test -p abn-tests parity`.
//!
//! `-- --nocapture` prints each deviation and its bound. `ABN_PARITY_DIR` names a folder of further
//! fixtures.

use std::path::{Path, PathBuf};

use abn_tests::fixture::Fixture;
use abn_tests::parity::{self, Setup};
use candle_core::{DType, Device};

fn committed() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures")
}

/// Where a GPU's kernels run on the CPU (`xtask/emulate-gpu.sh`), those that take minutes and not hours, unless
/// `ABN_EMULATE_ALL=1`.
const EMULATED: [&str; 4] = [
    "cifar_densenet22_abn",
    "cifar_resnet20_abn",
    "cifar_wrn16_2_abn",
    "mtabn_chainer_resnet18_2_5_3",
];

/// Whether the fixture is run.
fn takes_part(name: &str) -> bool {
    let is_set = |name| std::env::var_os(name).is_some_and(|value| value == "1");
    !is_set("ABN_EMULATE_CUDA") || is_set("ABN_EMULATE_ALL") || EMULATED.contains(&name)
}

/// Runs every fixture in a folder; returns how many ran and what went wrong.
fn run_all(folder: &Path) -> (usize, Vec<String>) {
    let (mut ran, mut failures) = (0, Vec::new());
    for fixture in Fixture::all(folder).expect("readable fixtures") {
        let name = &fixture.name;
        ran += 1;
        if !takes_part(name) {
            println!("{name}: left out, too slow in the emulation");
            continue;
        }
        match parity::run(&fixture, &Setup::cpu(DType::F32), None) {
            Ok(report) => {
                println!("{report}");
                let outside = report.failures().map(|check| format!("{check:?}"));
                let outside = outside.collect::<Vec<_>>().join(", ");
                match parity::is_rounding(&fixture, &report, &Device::Cpu) {
                    _ if outside.is_empty() => {}
                    Ok(double) => println!("{name}: rounding, not code: {outside}\n  {double}"),
                    Err(double) => failures.push(format!("{name}: {outside}\n  {double}")),
                }
            }
            Err(error) => failures.push(format!("{name}: {error:#}")),
        }
    }
    (ran, failures)
}

#[test]
fn parity_of_all_fixtures() {
    let (ran, failures) = run_all(&committed());
    assert!(failures.is_empty(), "out of bounds:\n{}", failures.join("\n"));
    assert_eq!(ran, 12);
}

#[test]
fn parity_of_further_fixtures() {
    let Some(folder) = std::env::var_os("ABN_PARITY_DIR") else { return };
    let (_, failures) = run_all(Path::new(&folder));
    assert!(failures.is_empty(), "out of bounds:\n{}", failures.join("\n"));
}

/// Single precision hides small errors behind its rounding; in double precision model and gradients
/// must agree as far as the fixtures' float32 tensors go.
#[test]
fn parity_in_double_precision() {
    for name in [
        "cifar_resnet20_abn",
        "cifar_wrn16_2_abn",
        "cifar_resnext29_2x64d_abn",
        "cifar_densenet22_abn",
        "mtabn_chainer_resnet18_2_5_3",
    ] {
        if !takes_part(name) {
            continue;
        }
        let fixture = Fixture::read(&committed().join(name).with_extension("json")).unwrap();
        let report = parity::run(&fixture, &Setup::cpu(DType::F64), Some(1e-7)).unwrap();
        println!("float64 {report}");
        let failures: Vec<_> = report.failures().collect();
        assert!(failures.is_empty(), "{name} in double precision: {failures:?}");
    }
}
