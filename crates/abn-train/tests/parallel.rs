//! Several processes train as one would: over TCP on this host, in the program itself.

#![cfg(target_os = "linux")]

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use common::Lab;
use common::runs::{assert_same_counts, deviation, drop_first_model, lines, metrics, wait_for};
use serde_json::Value;

/// Processes on the CPU, each with one thread, and buckets so small that a network has several.
const SMALL: [&str; 6] = ["--device", "cpu", "--threads", "1", "--bucket-bytes", "60000"];

/// `abn train` into `out` with so many processes.
fn train(lab: &Lab, out: &str, processes: &str, flags: &[&str]) {
    let flags = [&["--gpus", processes], &SMALL[..], flags].concat();
    lab.run(&lab.training(out, &flags)).succeeds();
}

/// 50 images in steps of 23, 23 and 4, and of 24, 24 and 2, in which the third process has none in the
/// last. Embedded ones: the lab's are alike, and the variance of two of them is all rounding.
#[test]
fn with_synchronised_batch_norm_two_and_three_processes_are_one() {
    let lab = Lab::new();
    let run = |out: &str, flags: &[&str]| {
        let rest =
            ["--model", "resnet8", "--images-per-class", "5", "--epochs", "1", "--lr", "0.01"];
        let rest = [&["train", "--sync-batch-norm", "--out", out], &rest[..], flags].concat();
        lab.run(&rest).succeeds();
    };
    for (processes, batch) in [("2", "23"), ("3", "24")] {
        let one = format!("one-{batch}");
        run(&one, &["--batch-size", batch]);
        run(processes, &[&["--batch-size", batch, "--gpus", processes], &SMALL[..]].concat());
        let (deviation, worst) = deviation(&lab, &one, processes);
        assert!(deviation < 1e-5, "{processes} processes: {worst} differs by {deviation:e}");
        assert_same_counts(&lab, &one, processes);
    }
}

#[test]
fn without_batch_norm_two_processes_are_one() {
    let lab = Lab::new();
    let flags = [
        &["--model", "cifar-vgg11-w16", "--variant", "baseline", "--dropout", "0"][..],
        &["--epochs", "1", "--lr", "0.01", "--accumulate", "2", "--label-smoothing", "0.1"],
        &["--ema-decay", "0.5"],
    ]
    .concat();
    lab.run(&drop_first_model(lab.training("one", &flags))).succeeds();
    let flags = [&["--gpus", "2"], &SMALL[..], &flags].concat();
    lab.run(&drop_first_model(lab.training("two", &flags))).succeeds();
    let (deviation, worst) = deviation(&lab, "one", "two");
    assert!(deviation < 1e-5, "{worst} differs by {deviation:e}");
    assert_same_counts(&lab, "one", "two");
}

/// With batch norm's statistics of each part, processes are not one; but equal ones are equal, and the
/// numbers of their records are those of the network they leave.
#[test]
fn equal_processes_give_equal_bytes_and_evaluate_exactly() {
    let lab = Lab::new();
    let flags = ["--accumulate", "2", "--ema-decay", "0.9", "--schedule", "cosine"];
    train(&lab, "a", "3", &flags);
    let flags = [&["--gpus", "3", "--device", "cpu", "--threads", "2"], &flags[..]].concat();
    lab.run(&lab.training("b", &flags)).succeeds();
    lab.assert_same_result("a", "b");

    let said = lab.run(&["eval", "--checkpoint", "a/last", "--json", "--confusion", "c.csv"]);
    let report: Value = serde_json::from_str(&said.succeeds().stdout()).unwrap();
    let last = &metrics(&lab, "a")[2];
    assert_eq!(report["images"], common::TEST);
    for key in ["test_error", "test_error_attention"] {
        assert_eq!(report[key], last[key], "{key}");
    }
    let (alone, shared) =
        (report["test_loss"].as_f64().unwrap(), last["test_loss"].as_f64().unwrap());
    assert!((alone - shared).abs() < 1e-6 * alone, "{alone} against {shared}");
    let read = |file: &str| fs::read_to_string(lab.path(file)).unwrap();
    assert_eq!(read("c.csv"), read("a/confusion.csv"));
}

/// Process ids of a launcher's processes, by rank.
fn ranks(launcher: &Child) -> BTreeMap<usize, u32> {
    let entries = fs::read_dir("/proc").unwrap().flatten();
    let ids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let rank = |id: u32| {
        let stat = fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
        // After the name in brackets: state, then the parent.
        let parent = stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse::<u32>().ok()?;
        let environment = fs::read(format!("/proc/{id}/environ")).ok()?;
        let mut variables = environment.split(|&byte| byte == 0);
        let rank = variables.find_map(|variable| variable.strip_prefix(b"RANK="))?;
        (parent == launcher.id()).then_some((String::from_utf8_lossy(rank).parse().ok()?, id))
    };
    ids.filter_map(rank).collect()
}

fn signal(id: u32, name: &str) {
    assert!(Command::new("kill").args([name, &id.to_string()]).status().unwrap().success());
}

#[test]
fn a_killed_process_ends_the_others_with_one_message_and_loses_nothing() {
    let lab = Lab::new();
    let flags = [&["--gpus", "2", "--epochs", "8"], &SMALL[..]].concat();
    lab.run(&lab.training("whole", &flags)).succeeds();
    for rank in [0, 1] {
        let run = format!("killed-{rank}");
        let child = lab.spawn(&lab.training(&run, &flags));
        wait_for("the second epoch", || lines(&lab.path(&run).join("metrics.jsonl")) >= 2);
        signal(ranks(&child)[&rank], "-KILL");
        let output = child.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{said}");
        let errors: Vec<_> = said.lines().filter(|line| line.starts_with("error: ")).collect();
        assert_eq!(errors.len(), 1, "{said}");
        let expected = format!("error: rank {rank} has ended (signal: 9");
        assert!(errors[0].starts_with(&expected) && errors[0].contains("kept"), "{said}");
        assert!(!lab.path(&run).join("summary.json").exists(), "it ended before the kill");
        lab.run(&lab.training(&run, &flags)).succeeds();
        lab.assert_same_result("whole", &run);
    }
}

/// Told by a signal to the launcher alone, as `kill` sends it, and by one to each, as a terminal does.
#[test]
fn ctrl_c_saves_within_the_epoch_and_changes_nothing() {
    let lab = Lab::new();
    let flags = [&["--gpus", "2", "--epochs", "6", "--ema-decay", "0.9"], &SMALL[..]].concat();
    lab.run(&lab.training("whole", &flags)).succeeds();
    let (mut attempts, mut within) = (0, 0);
    wait_for("the end", || {
        attempts += 1;
        let child = lab.spawn(&lab.training("stopped", &flags));
        if within < 2 {
            let done = lines(&lab.path("stopped/metrics.jsonl"));
            wait_for("both processes", || ranks(&child).len() == 2);
            wait_for("an epoch", || {
                lines(&lab.path("stopped/metrics.jsonl")) > done
                    || lab.path("stopped/summary.json").exists()
            });
            sleep(Duration::from_millis(7 * attempts));
            if attempts % 2 == 0 {
                ranks(&child).values().for_each(|&id| {
                    Command::new("kill").args(["-INT", &id.to_string()]).status().unwrap();
                });
            }
            signal(child.id(), "-INT");
        }
        let output = child.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        let state = fs::read_to_string(lab.path("stopped/last/state.json")).unwrap_or_default();
        within += u32::from(state.contains("\"partial\""));
        match output.status.code() {
            Some(0) => true,
            Some(130) => {
                assert_eq!(said.matches("run the same command again").count(), 1, "{said}");
                assert!(!said.contains("error:"), "{said}");
                false
            }
            code => panic!("ended with {code:?}: {said}"),
        }
    });
    assert!(within > 0, "no stop fell into an epoch");
    lab.assert_same_result("whole", "stopped");
}

#[test]
fn nobody_is_left_behind_if_the_launcher_is_killed() {
    let lab = Lab::new();
    let flags = [&["--gpus", "2", "--epochs", "200"], &SMALL[..]].concat();
    let mut child = lab.spawn(&lab.training("run", &flags));
    wait_for("an epoch", || lines(&lab.path("run/metrics.jsonl")) >= 1);
    let ids = ranks(&child);
    assert_eq!(ids.len(), 2);
    child.kill().unwrap();
    child.wait().unwrap();
    wait_for("the end of both", || ids.values().all(|id| !is_running(*id)));
    // They had time to save.
    assert!(lab.path("run/last/state.json").exists() && !lab.path("run/summary.json").exists());
}

fn is_running(id: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
    !stat.is_empty() && !stat.contains(") Z ")
}

#[test]
fn what_cannot_be_is_said_once() {
    let lab = Lab::new();
    let fails = |flags: &[&str], parts: &[&str]| {
        lab.run(&lab.training("run", flags)).fails_naming(parts);
        assert!(!lab.path("run").exists(), "{flags:?} wrote something");
    };
    let two = |flags: &[&'static str]| [&["--gpus", "2", "--device", "cpu"], flags].concat();
    fails(&two(&["--batch-size", "1"]), &["batch_size: 1 images", "2 processes"]);
    fails(&two(&["--images-per-class", "0"]), &["images_per_class"]);
    if cfg!(not(feature = "nccl")) {
        fails(&two(&["--reducer", "nccl"]), &["built without NCCL"]);
    }
    if cfg!(not(feature = "cuda")) {
        fails(&["--gpus", "2"], &["device cuda:0", "built without CUDA", "--features cuda"]);
        fails(&["--device", "cuda:1"], &["device cuda:1", "built without CUDA"]);
    }
    // Every process finds the data missing; it is said once.
    fs::rename(lab.path("data"), lab.path("moved")).unwrap();
    fails(&two(&[]), &["data"]);
}

#[test]
fn processes_that_do_not_belong_together_say_so() {
    let lab = Lab::new();
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let start = |rank: &str, seed: &str| {
        let flags = ["--seed", seed, "--patience", "60"];
        let mut command = lab.command(&lab.training("run", &flags));
        command.env("RANK", rank).env("WORLD_SIZE", "2").env("MASTER_ADDR", "127.0.0.1");
        command.env("MASTER_PORT", port.to_string()).stdout(Stdio::null()).spawn().unwrap()
    };
    let processes = [start("0", "0"), start("1", "3")];
    let said = processes.map(|process| {
        let output = process.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(1));
        String::from_utf8(output.stderr).unwrap()
    });
    let cause = "rank 1 has another recipe than rank 0: seed = 3 there, seed = 0 here";
    assert_eq!(said[0].trim(), format!("error: {cause}"));
    assert_eq!(said[1].trim(), format!("error: rank 0 has failed: {cause}"));
    assert!(!lab.path("run").exists(), "something was written");
}

#[test]
fn a_rank_alone_says_what_is_missing() {
    let lab = Lab::new();
    let output = lab.command(&lab.training("run", &[])).env("RANK", "0").output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("not WORLD_SIZE, MASTER_ADDR, MASTER_PORT"), "{said}");
}
