//! Equal recipes give equal bytes: whatever the threads, and however often a run is interrupted.

#![cfg(unix)]

mod common;

use std::fs;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::thread::sleep;
use std::time::{Duration, Instant};

use abn_train::{Error, Recipe, TrainOptions};
use common::Lab;

/// No run of these tests takes this long; a loop that does has hung.
const LONG: Duration = Duration::from_secs(300);

/// Everything that adds to a run's state or to the order of its sums.
const OPTIONS: [&str; 12] = [
    "--accumulate",
    "2",
    "--ema-decay",
    "0.9",
    "--schedule",
    "cosine",
    "--warmup-epochs",
    "1",
    "--label-smoothing",
    "0.1",
    "--preset",
    "paper",
];

#[test]
fn threads_change_nothing() {
    let lab = Lab::new();
    for (name, flags) in
        [("abn", &[][..]), ("baseline", &["--variant", "baseline"]), ("options", &OPTIONS)]
    {
        let [one, two] = [format!("{name}-1"), format!("{name}-2")];
        lab.run(&lab.training(&one, &[flags, &["--threads", "1"]].concat())).succeeds();
        lab.run(&lab.training(&two, &[flags, &["--threads", "2"]].concat())).succeeds();
        lab.assert_same_result(&one, &two);
    }
}

#[test]
fn a_run_that_lacks_only_its_last_page_gets_the_same() {
    let lab = Lab::new();
    lab.run(&lab.training("whole", &["--ema-decay", "0.9"])).succeeds();
    lab.run(&lab.training("cut", &["--ema-decay", "0.9"])).succeeds();
    fs::remove_file(lab.path("cut/summary.json")).unwrap();
    fs::remove_file(lab.path("cut/report.html")).unwrap();
    lab.run(&lab.training("cut", &["--ema-decay", "0.9"])).succeeds();
    lab.assert_same_result("whole", "cut");
}

#[test]
fn a_stop_after_the_last_epoch_names_that_one() {
    let lab = Lab::new();
    lab.run(&lab.training("cut", &["--epochs", "2"])).succeeds();
    fs::remove_file(lab.path("cut/summary.json")).unwrap();
    let mut recipe = Recipe::load(&lab.path("cut/recipe.toml")).unwrap();
    recipe.data_dir = Some(lab.path("data"));
    let options = TrainOptions { stop: Arc::new(AtomicBool::new(true)), ..TrainOptions::default() };
    let error = abn_train::train(&recipe, &lab.path("cut"), &options).unwrap_err();
    // 48 images in batches of 10.
    assert!(matches!(error, Error::Stopped { epoch: 2, step: 5, .. }), "{error}");
}

#[test]
fn seeds_change_the_weights() {
    let lab = Lab::new();
    lab.run(&lab.training("a", &["--epochs", "1"])).succeeds();
    lab.run(&lab.training("b", &["--epochs", "1", "--seed", "1"])).succeeds();
    let [a, b] = ["a", "b"].map(|run| lab.result(run));
    assert!(a["last/model.safetensors"] != b["last/model.safetensors"]);
}

/// Interrupts a run again and again, each time a little later, until it ends; gives how often it
/// was cut off.
fn interrupted(
    lab: &Lab,
    run: &str,
    flags: &[&str],
    mut cut: impl FnMut(&mut std::process::Child, u32),
) -> u32 {
    let start = Instant::now();
    for attempt in 0.. {
        assert!(start.elapsed() < LONG, "{run} makes no progress");
        let mut child = lab.spawn(&lab.training(run, flags));
        cut(&mut child, attempt);
        let output = child.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        match output.status.code() {
            Some(0) => return attempt,
            // Cut off before Ctrl-C was listened for, or by a kill.
            None => {}
            Some(130) => assert!(said.contains("run the same command again"), "{said}"),
            Some(code) => panic!("{run} ended with {code}: {said}"),
        }
    }
    unreachable!("the loop ends by itself")
}

#[test]
fn kills_change_nothing() {
    for flags in [&[][..], &OPTIONS] {
        let lab = Lab::new();
        let start = Instant::now();
        lab.run(&lab.training("whole", flags)).succeeds();
        // So that the kills are spread over the run, however fast this machine is.
        let pause = start.elapsed() / 10;
        let cuts = interrupted(&lab, "killed", flags, |child, attempt| {
            sleep(pause * (attempt + 1));
            child.kill().unwrap();
        });
        assert!(cuts > 0, "the first run was not killed");
        lab.assert_same_result("whole", "killed");
    }
}

#[test]
fn kills_while_a_checkpoint_is_written_change_nothing() {
    let lab = Lab::new();
    lab.run(&lab.training("whole", &[])).succeeds();
    let mut hits = 0;
    for (name, file) in
        [("killed-last", "last.tmp"), ("killed-best", "best.tmp"), ("killed-old", "last.old")]
    {
        let temporary = lab.path(name).join(file);
        // At its first, second and third appearance; then the run may end.
        interrupted(&lab, name, &[], |child, attempt| {
            let mut seen = 0;
            let mut there = false;
            while attempt < 3 && child.try_wait().unwrap().is_none() {
                let now = temporary.exists();
                seen += u32::from(now && !there);
                there = now;
                if seen == attempt + 1 {
                    child.kill().unwrap();
                    hits += u32::from(temporary.exists());
                    break;
                }
                std::hint::spin_loop();
            }
        });
        lab.assert_same_result("whole", name);
    }
    assert!(hits > 0, "no kill fell into the writing of a checkpoint");
}

#[test]
fn a_checkpoint_caught_between_its_renames_is_found() {
    let lab = Lab::new();
    lab.run(&lab.training("whole", &[])).succeeds();
    interrupted(&lab, "caught", &[], |child, attempt| {
        if attempt == 0 {
            let (last, old) = (lab.path("caught/last"), lab.path("caught/last.old"));
            while !last.exists() {
                assert!(child.try_wait().unwrap().is_none(), "the run ended early");
                sleep(Duration::from_millis(1));
            }
            child.kill().unwrap();
            child.wait().unwrap();
            assert!(!lab.path("caught/summary.json").exists(), "the run ended before the kill");
            if last.exists() {
                fs::remove_dir_all(&old).ok();
                fs::rename(&last, &old).unwrap();
            }
        }
    });
    lab.assert_same_result("whole", "caught");
}

#[test]
fn ctrl_c_saves_within_the_epoch_and_changes_nothing() {
    for flags in [&[][..], &OPTIONS] {
        let lab = Lab::new();
        let start = Instant::now();
        lab.run(&lab.training("whole", flags)).succeeds();
        let pause = start.elapsed() / 6;
        let mut saved = 0;
        interrupted(&lab, "stopped", flags, |child, attempt| {
            if saved < 3 {
                sleep(pause + pause / 4 * attempt);
                let id = child.id().to_string();
                assert!(Command::new("kill").args(["-INT", &id]).status().unwrap().success());
                child.wait().unwrap();
            }
            let state = fs::read_to_string(lab.path("stopped/last/state.json")).unwrap_or_default();
            saved += u32::from(state.contains("\"partial\""));
        });
        assert!(saved >= 1, "no stop fell into an epoch");
        lab.assert_same_result("whole", "stopped");
    }
}

#[test]
fn one_folder_takes_one_process() {
    let lab = Lab::new();
    let mut first = lab.spawn(&lab.training("run", &["--epochs", "50"]));
    while !lab.path("run/recipe.toml").exists() {
        assert!(first.try_wait().unwrap().is_none(), "the first run ended early");
        sleep(Duration::from_millis(5));
    }
    lab.run(&lab.training("run", &["--epochs", "50"])).fails_naming(&["another process", "run"]);
    first.kill().unwrap();
    first.wait().unwrap();
}
