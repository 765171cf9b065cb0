//! Compiles the GPU kernels, if a feature asks for them: to PTX, and for their tests to C++.
//!
//! A folder's `kernels.cu` is written once for a number type `T`. All of them together are compiled
//! once for each type.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

/// The types, as the headers and the crate call them.
const TYPES: [&str; 3] = ["f32", "bf16", "f64"];

fn main() {
    println!("cargo::rustc-check-cfg=cfg(gpu)");
    println!("cargo::rerun-if-changed=build.rs");
    let asked = |feature: &str| env::var_os(format!("CARGO_FEATURE_{feature}")).is_some();
    if !asked("CUDA") && !asked("CUDA_EMULATION") {
        return;
    }
    println!("cargo::rustc-cfg=gpu");
    println!("cargo::rerun-if-changed=src");
    let source = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").unwrap()).join("src");
    let kernels = Kernels::find(&source);
    if asked("CUDA") {
        to_ptx(&source, &kernels);
    }
    #[cfg(feature = "cuda-emulation")]
    for_the_cpu(&source, &kernels);
}

/// Every `kernels.cu`, and the names of the kernels in them.
struct Kernels {
    files: Vec<PathBuf>,
    /// With whether a kernel's threads meet (`BLOCK_KERNEL`).
    #[cfg_attr(not(feature = "cuda-emulation"), allow(dead_code))]
    names: Vec<(String, bool)>,
}

impl Kernels {
    fn find(source: &Path) -> Self {
        let folders = fs::read_dir(source).unwrap().map(|entry| entry.unwrap().path());
        let mut files: Vec<_> =
            folders.map(|folder| folder.join("kernels.cu")).filter(|file| file.exists()).collect();
        files.sort();
        let mut names = Vec::new();
        for file in &files {
            for line in fs::read_to_string(file).unwrap().lines() {
                for (start, meets) in [("KERNEL(", false), ("BLOCK_KERNEL(", true)] {
                    if let Some((name, _)) =
                        line.strip_prefix(start).and_then(|l| l.split_once(')'))
                    {
                        names.push((name.to_owned(), meets));
                    }
                }
            }
        }
        Self { files, names }
    }

    fn includes(&self) -> String {
        self.files.iter().map(|file| format!("#include \"{}\"\n", file.display())).collect()
    }
}

/// `kernels_TYPE.ptx` for the oldest architecture that is to run them (`CUDA_COMPUTE_CAP`, as candle
/// reads it; 80 otherwise). The driver compiles them for newer ones.
fn to_ptx(source: &Path, kernels: &Kernels) {
    for variable in ["CUDA_COMPUTE_CAP", "CUDA_HOME", "CUDA_PATH", "NVCC"] {
        println!("cargo::rerun-if-env-changed={variable}");
    }
    let out = PathBuf::from(env::var_os("OUT_DIR").unwrap());
    let all = out.join("kernels.cu");
    fs::write(&all, kernels.includes()).unwrap();
    let root = env::var_os("CUDA_HOME").or_else(|| env::var_os("CUDA_PATH")).map(PathBuf::from);
    let nvcc = env::var_os("NVCC")
        .map(PathBuf::from)
        .or_else(|| root.map(|root| root.join("bin/nvcc")).filter(|nvcc| nvcc.exists()));
    let nvcc = nvcc.unwrap_or_else(|| PathBuf::from("nvcc"));
    let architecture = env::var("CUDA_COMPUTE_CAP").unwrap_or_else(|_| "80".to_owned());
    let compilers = TYPES.map(|element| {
        let mut command = std::process::Command::new(&nvcc);
        command.args(["-ptx", "-O3", "-std=c++17"]);
        command.arg(format!("-arch=compute_{architecture}"));
        command.arg(format!("-DELEMENT_{element}"));
        command.arg("-I").arg(source);
        command.arg("-o").arg(out.join(format!("kernels_{element}.ptx"))).arg(&all);
        command.spawn().unwrap_or_else(|error| {
            panic!(
                "the feature `cuda` needs NVIDIA's compiler, and {} did not start ({error}): \
                 install the CUDA toolkit, and set CUDA_HOME to its folder",
                nvcc.display()
            )
        })
    });
    for mut compiler in compilers {
        let status = compiler.wait().unwrap();
        assert!(status.success(), "nvcc failed ({status}): see above");
    }
}

/// A static library with `abn_emulate_TYPE` for each type.
#[cfg(feature = "cuda-emulation")]
fn for_the_cpu(source: &Path, kernels: &Kernels) {
    use std::fmt::Write;

    let out = PathBuf::from(env::var_os("OUT_DIR").unwrap());
    let mut build = cc::Build::new();
    // Without fusing products and sums that are written apart: a kernel's results are then those
    // of the operations as they stand.
    build.cpp(true).std("c++17").opt_level(2).flag("-ffp-contract=off").include(source);
    // A product and a sum that are written as one are one instruction where this machine has it, with the same bits;
    // otherwise a call, three times as slow.
    #[cfg(target_arch = "x86_64")]
    if std::is_x86_feature_detected!("fma")
        && env::var("CARGO_CFG_TARGET_ARCH").unwrap() == "x86_64"
    {
        build.flag("-mfma");
    }
    // Jumps between stacks are what fibers do.
    build.flag("-U_FORTIFY_SOURCE").flag("-Wno-unused-function").flag("-Wno-unknown-pragmas");
    build.file(source.join("cuda/emulator.cpp"));
    for element in TYPES {
        let mut text = format!("#define ELEMENT_{element}\n{}", kernels.includes());
        text.push_str("static const abn::Entry entries[] = {\n");
        for (name, meets) in &kernels.names {
            writeln!(text, "    {{\"{name}\", abn::call<{name}>, {meets}}},").unwrap();
        }
        write!(
            text,
            "}};\nextern \"C\" int abn_emulate_{element}(const char* name, void** arguments, \
             const unsigned* grid, const unsigned* block) {{\n    \
             return abn::emulate(entries, {}, name, arguments, grid, block);\n}}\n",
            kernels.names.len()
        )
        .unwrap();
        let file = out.join(format!("emulated_{element}.cpp"));
        fs::write(&file, text).unwrap();
        build.file(file);
    }
    build.compile("abn_emulated_kernels");
}
