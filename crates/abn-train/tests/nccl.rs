//! Several GPUs train as one would, with NCCL between them:
//!
//!     cargo test -p abn-train --features nccl --test nccl -- --ignored --test-threads 1
//!
//! on a machine with two GPUs or more. Without any, `xtask/rehearse-gpu.sh` runs these tests where NCCL, driver and
//! libraries are stand-ins.

#![cfg(all(target_os = "linux", feature = "nccl"))]

mod common;

use std::fs;
use std::io::Write;
use std::process::{Child, Command, Output, Stdio};

use candle_core::cuda_backend::cudarc::driver::CudaContext;
use common::Lab;
use common::runs::{assert_same_counts, deviation, drop_first_model, lines, metrics, wait_for};

/// Two runs with these have the same bytes on a GPU.
const EXACT: [&str; 7] =
    ["--device", "cuda", "--precision", "f32", "--cudnn-guess", "--threads", "1"];
/// Two processes, and buckets so small that a network has several.
const TWO: [&str; 4] = ["--gpus", "2", "--bucket-bytes", "60000"];

/// Images to train on and to be tested on.
const IMAGES: [usize; 2] = [19, 6];

/// A place for a test with a few images, if this machine has the GPUs; or says that it has not.
fn lab(test: &str) -> Option<Lab> {
    let there = CudaContext::device_count().unwrap_or(0);
    if there < 2 {
        // Not `eprintln!`, which a test that passes does not show.
        let mut shown = std::io::stderr();
        writeln!(shown, "{test}: not run, it needs two GPUs and there are {there}").unwrap();
        return None;
    }
    let lab = Lab::new();
    for (name, count) in ["train", "t10k"].iter().zip(IMAGES) {
        // Squares of 4×4 pixels, of which no two images have the same.
        let mut images = common::idx_images(count);
        for (i, pixel) in images[16..].iter_mut().enumerate() {
            let (image, row, column) = (i / 784, i % 784 / 28, i % 28);
            let square = (image * 49 + row / 4 * 7 + column / 4) as u32;
            *pixel = (square.wrapping_mul(0x9e37_79b9) >> 24) as u8;
        }
        fs::write(lab.path("data").join(format!("{name}-images-idx3-ubyte")), images).unwrap();
        let labels = common::idx_labels(count);
        fs::write(lab.path("data").join(format!("{name}-labels-idx1-ubyte")), labels).unwrap();
    }
    Some(lab)
}

/// How far two processes may be from one. A GPU's libraries add up in another order for another batch.
fn bound() -> f32 {
    let rehearsed = CudaContext::new(0).unwrap().name().unwrap().contains("rehearsal");
    if rehearsed { 1e-5 } else { 1e-4 }
}

/// The one error of a process that failed.
fn one_error(output: &Output) -> String {
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    let errors: Vec<_> = said.lines().filter(|line| line.starts_with("error: ")).collect();
    assert_eq!(errors.len(), 1, "{said}");
    errors[0].to_owned()
}

#[test]
#[ignore = "needs two GPUs or their rehearsal"]
fn with_synchronised_batch_norm_two_gpus_are_one() {
    let Some(lab) = lab("with_synchronised_batch_norm_two_gpus_are_one") else { return };
    // Steps of 9, 9 and 1 images: the second process has none of the last.
    let flags = ["--sync-batch-norm", "--epochs", "1", "--lr", "0.01", "--batch-size", "9"];
    let flags = [&flags[..], &EXACT].concat();
    lab.run(&lab.training("one", &flags)).succeeds();
    lab.run(&lab.training("two", &[&flags[..], &TWO].concat())).succeeds();
    let (deviation, worst) = deviation(&lab, "one", "two");
    assert!(deviation < bound(), "{worst} differs by {deviation:e}");
    assert_same_counts(&lab, "one", "two");
}

/// In parts, and without batch norm: then processes are one, whatever each has of a part.
#[test]
#[ignore = "needs two GPUs or their rehearsal"]
fn without_batch_norm_two_gpus_are_one() {
    let Some(lab) = lab("without_batch_norm_two_gpus_are_one") else { return };
    let flags = ["--model", "cifar-vgg11-w16", "--variant", "baseline", "--dropout", "0"];
    let more = ["--epochs", "1", "--lr", "0.01", "--accumulate", "2", "--label-smoothing", "0.1"];
    let flags = [&flags[..], &more, &EXACT, &["--ema-decay", "0.5"]].concat();
    lab.run(&drop_first_model(lab.training("one", &flags))).succeeds();
    lab.run(&drop_first_model(lab.training("two", &[&flags[..], &TWO].concat()))).succeeds();
    let (deviation, worst) = deviation(&lab, "one", "two");
    assert!(deviation < bound(), "{worst} differs by {deviation:e}");
    assert_same_counts(&lab, "one", "two");
}

/// The sum of two numbers does not depend on who adds them up, and what is recorded is true of the network that
/// is left.
#[test]
#[ignore = "needs two GPUs or their rehearsal"]
fn nccl_gives_the_bytes_that_tcp_gives_and_evaluates_exactly() {
    let Some(lab) = lab("nccl_gives_the_bytes_that_tcp_gives_and_evaluates_exactly") else {
        return;
    };
    for batch_norm in [&[][..], &["--sync-batch-norm"]] {
        let flags =
            ["--epochs", "2", "--accumulate", "2", "--ema-decay", "0.9", "--schedule", "cosine"];
        let flags = [&flags[..], &EXACT, &TWO, batch_norm].concat();
        let names = ["nccl", "tcp"].map(|reducer| format!("{reducer}{}", batch_norm.len()));
        for (name, reducer) in names.iter().zip(["nccl", "tcp"]) {
            let flags = [&flags[..], &["--reducer", reducer]].concat();
            lab.run(&lab.training(name, &flags)).succeeds();
        }
        lab.assert_same_result(&names[0], &names[1]);
    }

    let eval = ["eval", "--checkpoint", "nccl0/last", "--json", "--device", "cuda"];
    let eval = [&eval[..], &["--confusion", "c.csv"]].concat();
    let report: serde_json::Value =
        serde_json::from_str(&lab.run(&eval).succeeds().stdout()).unwrap();
    let last = &metrics(&lab, "nccl0")[1];
    assert_eq!(report["images"], IMAGES[1]);
    for key in ["test_error", "test_error_attention"] {
        assert_eq!(report[key], last[key], "{key}");
    }
    let [alone, shared] = [&report, last].map(|of| of["test_loss"].as_f64().unwrap());
    assert!((alone - shared).abs() < 1e-5 * alone, "{alone} against {shared}");
    let read = |file: &str| fs::read_to_string(lab.path(file)).unwrap();
    assert_eq!(read("c.csv"), read("nccl0/confusion.csv"));
}

/// A graph ends with the gradients, which are then summed and used. Steps are of 6 images in two parts, and of 1, of which
/// the second process has none.
#[test]
#[ignore = "needs two GPUs or their rehearsal"]
fn graphs_change_no_bit_of_two_gpus() {
    let Some(lab) = lab("graphs_change_no_bit_of_two_gpus") else { return };
    let flags = ["--epochs", "2", "--batch-size", "6", "--accumulate", "2", "--ema-decay", "0.9"];
    let flags = [&flags[..], &EXACT, &TWO].concat();
    lab.run(&lab.training("told", &flags)).succeeds();
    let replayed = lab.run(&lab.training("replayed", &[&flags[..], &["--cuda-graph"]].concat()));
    let said = replayed.succeeds().stderr();
    assert!(!said.contains("without CUDA graphs"), "{said}");
    lab.assert_same_result("told", "replayed");

    let flags = [&flags[..], &["--cuda-graph", "--sync-batch-norm"]].concat();
    let whole = lab.run(&lab.training("synchronised", &flags)).succeeds();
    let said = whole.stderr();
    assert!(said.contains("without CUDA graphs: batch norm's statistics are summed"), "{said}");
}

/// `abn train` as torchrun would start it, on the GPU of its number or of another one.
fn rank(lab: &Lab, arguments: &[&str], rank: usize, gpu: usize, port: u16) -> Command {
    let mut command = lab.command(arguments);
    let (rank, gpu) = (rank.to_string(), gpu.to_string());
    command.env("RANK", rank).env("LOCAL_RANK", gpu).env("WORLD_SIZE", "2");
    command.env("MASTER_ADDR", "127.0.0.1").env("MASTER_PORT", port.to_string());
    command.stdout(Stdio::null());
    command
}

fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn start(lab: &Lab, out: &str, flags: &[&str]) -> [Child; 2] {
    let (port, arguments) = (free_port(), lab.training(out, flags));
    [0, 1].map(|number| rank(lab, &arguments, number, number, port).spawn().unwrap())
}

/// Processes that find their standard input at an end stop after their first step.
#[test]
#[ignore = "needs two GPUs or their rehearsal"]
fn stopped_after_each_step_it_ends_with_the_same_bytes() {
    let Some(lab) = lab("stopped_after_each_step_it_ends_with_the_same_bytes") else { return };
    let flags = [&["--epochs", "1", "--batch-size", "5"], &EXACT[..], &TWO[2..]].concat();
    let run = |out: &str, listens: bool| {
        let (port, arguments) = (free_port(), lab.training(out, &flags));
        let processes = [0, 1].map(|number| {
            let mut command = rank(&lab, &arguments, number, number, port);
            if listens {
                command.env("ABN_LAUNCHED", "1");
            }
            command.spawn().unwrap()
        });
        processes.map(|process| {
            let output = process.wait_with_output().unwrap();
            (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
        })
    };
    let ended = |said: &[(Option<i32>, String); 2], code: i32| {
        assert!(said.iter().all(|(ended, _)| *ended == Some(code)), "{said:?}");
    };
    ended(&run("whole", false), 0);
    for _ in 0..3 {
        ended(&run("stopped", true), 130);
    }
    ended(&run("stopped", false), 0);
    lab.assert_same_result("whole", "stopped");
}

/// Who is left does not wait for the GPU, which waits for the one that is gone.
#[test]
#[ignore = "needs two GPUs or their rehearsal"]
fn a_killed_process_ends_the_other_with_one_message_and_loses_nothing() {
    let Some(lab) = lab("a_killed_process_ends_the_other_with_one_message_and_loses_nothing")
    else {
        return;
    };
    let flags = [&["--epochs", "6"], &EXACT[..], &TWO[2..]].concat();
    for killed in [0, 1] {
        let out = format!("killed-{killed}");
        let mut processes = start(&lab, &out, &flags);
        wait_for("the second epoch", || lines(&lab.path(&out).join("metrics.jsonl")) >= 2);
        processes[killed].kill().unwrap();
        let [first, second] = processes;
        let other = if killed == 0 { second } else { first };
        let said = one_error(&other.wait_with_output().unwrap());
        assert!(said.starts_with(&format!("error: rank {killed} is gone")), "{said}");
        assert!(!lab.path(&out).join("summary.json").exists(), "it ended before the kill");
        lab.run(&lab.training(&out, &[&flags[..], &TWO[..2]].concat())).succeeds();
    }
    lab.assert_same_result("killed-0", "killed-1");
}

#[test]
#[ignore = "needs two GPUs or their rehearsal"]
fn two_processes_on_one_gpu_are_told_so() {
    let Some(lab) = lab("two_processes_on_one_gpu_are_told_so") else { return };
    let (port, arguments) = (free_port(), lab.training("run", &EXACT));
    let processes = [0, 1].map(|number| rank(&lab, &arguments, number, 0, port).spawn().unwrap());
    for process in processes {
        let said = one_error(&process.wait_with_output().unwrap());
        assert!(
            said.starts_with("error: NCCL cannot sum between the GPUs: invalid usage"),
            "{said}"
        );
    }
    assert!(!lab.path("run").exists(), "something was written");
}

#[test]
#[ignore = "needs a GPU or its rehearsal"]
fn more_processes_than_gpus_are_refused() {
    let lab = Lab::new();
    let mut command = lab.command(&lab.training("run", &[&EXACT[..], &TWO].concat()));
    let said = one_error(&command.env("CUDA_VISIBLE_DEVICES", "0").output().unwrap());
    assert!(said.starts_with("error: --gpus 2, but there is one"), "{said}");
    assert!(!lab.path("run").exists(), "something was written");
}
