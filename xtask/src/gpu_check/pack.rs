//! The check in a folder, for a machine with a GPU but without this repository.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};
use flate2::Compression;
use flate2::write::GzEncoder;

use super::device::Target;
use super::files::{self, COMMIT, FIXTURES, OPS_TESTS, REFERENCE};

/// What the folder may weigh.
const MOST: u64 = 60 << 20;
const MEBIBYTE: f64 = 1024.0 * 1024.0;
/// Of tests/reference, what the check starts in Python.
const SCRIPTS: [&str; 4] = ["bench_step.py", "models.py", "train_reference.py", "worker.py"];
/// Starts the program with CUDA's libraries, wherever they are.
const LAUNCHER: &str = "xtask/gpu-check.sh";

/// Builds the programs and lays everything into the folder: for a GPU, with a compiler and link stubs that need neither
/// GPU nor toolkit here (`xtask/cuda-toolchain.sh`); or for the emulation.
///
/// # Errors
/// If something cannot be built, the folder is not empty, or it would weigh more than it may.
pub fn run(target: Target, folder: &Path) -> Result<()> {
    let root = crate::root()?;
    ensure!(root.exists(), "--pack builds from the repository, which is not at {}", root.display());
    let empty = folder.read_dir().map_or(true, |mut entries| entries.next().is_none());
    ensure!(empty, "{} is not empty", folder.display());
    let features: &[&str] = match target {
        Target::Gpu(_) => &["cuda", "cuda-emulation"],
        Target::Emulated => &["cuda-emulation"],
    };
    let cargo = || cargo(target, root);
    let tests = files::build_tests(cargo()?, features)?;
    let program = build_program(cargo()?, features)?;

    std::fs::create_dir_all(folder.join(FIXTURES))?;
    std::fs::create_dir_all(folder.join(REFERENCE))?;
    for (program, name) in [(&program, "xtask"), (&tests, OPS_TESTS)] {
        let packed = folder.join(name);
        stripped(program, &packed)?;
        if target != Target::Emulated {
            asks_for(&packed, "cuInit").with_context(|| program.display().to_string())?;
        }
    }
    for entry in root.join("tests/fixtures").read_dir()? {
        let path = entry?.path();
        if path.is_file() {
            copy(&path, &folder.join(FIXTURES))?;
        }
    }
    for script in SCRIPTS {
        copy(&root.join("tests/reference").join(script), &folder.join(REFERENCE))?;
    }
    let launcher = folder.join("gpu-check");
    std::fs::copy(root.join(LAUNCHER), &launcher).context(LAUNCHER)?;
    executable(&launcher)?;
    let commit = files::git_commit(root).unwrap_or_else(|| "unknown".into());
    std::fs::write(folder.join(COMMIT), commit + "\n")?;

    if weigh(folder)? > MOST {
        println!("too much: the programs are compressed, and the launcher unpacks them");
        for program in ["xtask", OPS_TESTS] {
            compress(&folder.join(program))?;
        }
        let most = MOST as f64 / MEBIBYTE;
        if weigh(folder)? > MOST {
            bail!("{} weighs more than the {most:.0} MiB it may", folder.display());
        }
    }
    println!(
        "on the GPU's machine: {}/gpu-check --out DIR [--against-pytorch python3]",
        folder.display()
    );
    Ok(())
}

/// cargo, in the environment in which the feature `cuda` builds here.
fn cargo(target: Target, root: &Path) -> Result<Command> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.current_dir(root);
    if target == Target::Emulated {
        return Ok(command);
    }
    // The script prints what to export; a shell says what that comes to.
    let script = "eval \"$(xtask/cuda-toolchain.sh)\"; env -0";
    let output = Command::new("bash")
        .current_dir(root)
        .args(["-euc", script])
        .stderr(Stdio::inherit())
        .output()
        .context("cannot start bash")?;
    ensure!(output.status.success(), "xtask/cuda-toolchain.sh ended with {}", output.status);
    let text = String::from_utf8(output.stdout).context("the environment is not UTF-8")?;
    let variables = text.split_terminator('\0').filter_map(|line| line.split_once('='));
    command.envs(variables).env("CARGO_TARGET_DIR", root.join("target/cuda"));
    Ok(command)
}

fn build_program(mut cargo: Command, features: &[&str]) -> Result<PathBuf> {
    // With abn-ops, as its tests were: one build of what both depend on.
    cargo.args(["build", "--locked", "-p", "xtask", "-p", "abn-ops"]);
    cargo.args(["--features", &files::qualified(features)]);
    cargo.args(["--message-format", "json-render-diagnostics"]);
    let output = cargo.stderr(Stdio::inherit()).output().context("cargo")?;
    ensure!(output.status.success(), "cargo cannot build xtask; its own message is above");
    files::artifact(&output.stdout, "xtask")
}

/// A copy without what only debuggers read.
fn stripped(program: &Path, to: &Path) -> Result<()> {
    let strip = Command::new("strip").arg("-o").args([to, program]).status();
    let strip = strip.context("cannot start strip, of the linker's package (binutils)")?;
    ensure!(strip.success(), "strip ended with {strip}");
    executable(to)
}

/// Fails unless a stripped program has its linker look for a function elsewhere.
fn asks_for(program: &Path, function: &str) -> Result<()> {
    let name = [b"\0", function.as_bytes(), b"\0"].concat();
    let there = std::fs::read(program)?.windows(name.len()).any(|window| window == name);
    // One that was linked with stubs of no contents would call it at address 0.
    ensure!(there, "it does not ask for {function}: remove it, so that it is linked again");
    Ok(())
}

/// Replaces a file by itself in gzip's format.
fn compress(path: &Path) -> Result<()> {
    let to = std::fs::File::create(path.with_extension("gz"))?;
    let mut encoder = GzEncoder::new(to, Compression::best());
    std::io::copy(&mut std::fs::File::open(path)?, &mut encoder)?;
    encoder.finish()?;
    Ok(std::fs::remove_file(path)?)
}

fn executable(path: &Path) -> Result<()> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755))?;
    }
    #[cfg(not(unix))]
    let _ = path;
    Ok(())
}

fn copy(file: &Path, folder: &Path) -> Result<()> {
    let name = file.file_name().context("a file has a name")?;
    std::fs::copy(file, folder.join(name)).with_context(|| file.display().to_string())?;
    Ok(())
}

/// Bytes of the folder; says what the large files have of them.
fn weigh(folder: &Path) -> Result<u64> {
    let mut total = 0;
    for (path, bytes) in sizes(folder)? {
        if bytes > 1 << 20 {
            println!("{:>7.1} MiB  {}", bytes as f64 / MEBIBYTE, path.display());
        }
        total += bytes;
    }
    println!("{:>7.1} MiB  together", total as f64 / MEBIBYTE);
    Ok(total)
}

/// Every file below, with its size.
fn sizes(folder: &Path) -> Result<Vec<(PathBuf, u64)>> {
    let mut found = Vec::new();
    for entry in folder.read_dir()? {
        let entry = entry?;
        match entry.metadata()? {
            about if about.is_dir() => found.extend(sizes(&entry.path())?),
            about => found.push((entry.path(), about.len())),
        }
    }
    found.sort();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    #[test]
    fn what_a_program_asks_for_is_found_by_its_whole_name() {
        let folder = tempfile::tempdir().unwrap();
        let program = folder.path().join("program");
        std::fs::write(&program, b"ELF\0malloc\0cuInitial\0mycuInit\0").unwrap();
        asks_for(&program, "malloc").unwrap();
        let refused = asks_for(&program, "cuInit").unwrap_err().to_string();
        assert!(refused.contains("cuInit") && refused.contains("linked again"), "{refused}");
    }

    #[test]
    fn programs_are_compressed_and_every_file_is_weighed() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("sub")).unwrap();
        std::fs::write(folder.path().join("sub/a"), [1; 10]).unwrap();
        std::fs::write(folder.path().join("program"), [7; 100_000]).unwrap();
        assert_eq!(weigh(folder.path()).unwrap(), 100_010);
        compress(&folder.path().join("program")).unwrap();
        assert!(weigh(folder.path()).unwrap() < 1000);
        let packed = std::fs::File::open(folder.path().join("program.gz")).unwrap();
        let mut bytes = Vec::new();
        flate2::read::GzDecoder::new(packed).read_to_end(&mut bytes).unwrap();
        assert_eq!(bytes, [7; 100_000]);
    }
}
