//! Speed and memory of a training step, beside PyTorch's in alternation.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde::Serialize;
use serde_json::json;

use super::device::Target;
use super::outcome::{Line, Outcome, Table};
use super::plan::{Bar, CASES, Case, EMULATED, Ours, PAIRS, Theirs, our_ways};
use super::{Check, files};
use crate::bench::versus::Side;
use crate::bench::worker::Worker;

const MEBIBYTE: f64 = 1024.0 * 1024.0;

/// How often.
#[derive(Clone, Copy, Serialize)]
struct Effort {
    /// Steps before anything is measured: algorithms are picked, graphs captured, programs compiled.
    warm_up: usize,
    /// Steps of a round, between which nobody waits for the GPU.
    steps: usize,
    /// Rounds of each side, in alternation.
    rounds: usize,
}

impl Effort {
    fn of(check: &Check) -> Self {
        match (check.target(), check.args.quick) {
            (Target::Emulated, _) => Self { warm_up: 1, steps: 1, rounds: 1 },
            (_, true) => Self { warm_up: 5, steps: 5, rounds: 3 },
            (_, false) => Self { warm_up: 10, steps: 10, rounds: 7 },
        }
    }
}

/// Two sides, or ours alone.
#[derive(Serialize)]
struct Row {
    ours: Ours,
    theirs: Option<Theirs>,
    bar: Bar,
    us: Option<Side>,
    them: Option<Side>,
    /// Our images per second by theirs.
    ratio: Option<f64>,
    error: Option<String>,
}

/// Times every network that was asked for.
///
/// # Errors
/// If a network is not of the plan. What fails of one is told, and the others are timed all the same.
pub fn run(check: &Check) -> Result<Vec<Outcome>> {
    let cases = match check.target() {
        Target::Emulated => &EMULATED[..],
        Target::Gpu(_) => &CASES[..],
    };
    let wanted = &check.args.networks;
    for name in wanted {
        let known = cases.iter().map(|case| case.network).collect::<Vec<_>>().join(", ");
        let there = cases.iter().any(|case| case.network == name);
        ensure!(there, "no network `{name}` is timed here; expected some of {known}");
    }
    let asked = |case: &&Case| wanted.is_empty() || wanted.iter().any(|name| name == case.network);
    cases.iter().filter(asked).map(|case| of_network(check, case)).collect()
}

fn of_network(check: &Check, case: &Case) -> Result<Outcome> {
    let effort = Effort::of(check);
    let Case { network, batch, size, .. } = *case;
    println!("  {network}, batch {batch}, {size}×{size}");
    let mut torch = None;
    let mut rows = Vec::new();
    if let Some(python) = &check.args.against_pytorch {
        for pair in PAIRS {
            rows.push(timed(
                check,
                case,
                effort,
                pair.ours,
                Some((python, pair.theirs, pair.bar)),
                &mut torch,
            ));
        }
    } else {
        for ours in our_ways() {
            rows.push(timed(check, case, effort, ours, None, &mut torch));
        }
    }
    let figures = json!({
        "network": network,
        "batch": batch,
        "image_size": size,
        "torch": torch,
        "effort": effort,
        "rows": rows,
    });
    let lines = lines(case, &rows, check.target());
    let table = Some(table(case, &rows, torch.as_deref()));
    Ok(Outcome { table, ..Outcome::new(format!("speed {network}"), lines, figures) })
}

fn timed(
    check: &Check,
    case: &Case,
    effort: Effort,
    ours: Ours,
    other: Option<(&std::path::PathBuf, Theirs, Bar)>,
    torch: &mut Option<String>,
) -> Row {
    let (theirs, bar) = other.map_or((None, Bar::None), |(_, theirs, bar)| (Some(theirs), bar));
    let mut row = Row { ours, theirs, bar, us: None, them: None, ratio: None, error: None };
    let python = other.map(|(python, theirs, _)| (python.as_path(), theirs));
    match alternate(check, case, effort, ours, python, torch) {
        Ok((us, them)) => {
            row.ratio = them.as_ref().map(|them| us.images_per_second / them.images_per_second);
            (row.us, row.them) = (Some(us), them);
        }
        Err(error) => row.error = Some(format!("{error:#}")),
    }
    println!("    {}", in_words(&row));
    row
}

/// Rounds of both sides by turns.
fn alternate(
    check: &Check,
    case: &Case,
    effort: Effort,
    ours: Ours,
    other: Option<(&Path, Theirs)>,
    torch: &mut Option<String>,
) -> Result<(Side, Option<Side>)> {
    let mut command = check.target().command(std::env::current_exe()?);
    command.args(["bench", "worker"]).args(ours.args());
    step(&mut command, check, case);
    let mut workers = vec![Worker::start("this project's worker", command)?.0];
    if let Some((python, theirs)) = other {
        let mut command = check.target().command(python);
        command.arg(files::find(files::REFERENCE, "tests/reference")?.join("bench_step.py"));
        command.args(theirs.args());
        step(&mut command, check, case);
        let (worker, ready) = Worker::start("PyTorch's worker", command)?;
        *torch = ready.torch;
        workers.push(worker);
    }
    let mut seconds = vec![Vec::new(); workers.len()];
    for worker in &mut workers {
        worker.steps(effort.warm_up)?;
    }
    for _ in 0..effort.rounds {
        for (worker, seconds) in workers.iter_mut().zip(&mut seconds) {
            seconds.extend(worker.steps(effort.steps)?);
        }
    }
    let sides = workers.into_iter().zip(seconds);
    let sides = sides.map(|(worker, seconds)| Ok(Side::new(seconds, case.batch, worker.quit()?)));
    let mut sides = sides.collect::<Result<Vec<_>>>()?.into_iter();
    let us = sides.next().context("this project's worker was started first")?;
    Ok((us, sides.next()))
}

/// What both sides' workers are told.
fn step(command: &mut Command, check: &Check, case: &Case) {
    command.args([case.network, "--pass", "train", "--device", check.target().within()]);
    command.args(["--batch", &case.batch.to_string(), "--size", &case.size.to_string()]);
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    command.args(["--threads", &threads.to_string()]);
}

fn in_words(row: &Row) -> String {
    let speed = |side: &Option<Side>| {
        side.as_ref().map_or("-".to_owned(), |side| format!("{:.1}", side.images_per_second))
    };
    let against = row.theirs.map_or(String::new(), |theirs| {
        let ratio = row.ratio.map_or("-".to_owned(), |ratio| format!("{ratio:.2}"));
        format!(", PyTorch {} {}: {ratio} ×", theirs.name(), speed(&row.them))
    });
    let error = row.error.as_ref().map_or(String::new(), |error| format!(" ({error})"));
    format!("{} {} images/s{against}{error}", row.ours.name(), speed(&row.us))
}

/// The verdicts: none on an emulated GPU, whose speed means nothing.
fn lines(case: &Case, rows: &[Row], target: Target) -> Vec<Line> {
    let network = case.network;
    // What fails of ours fails by itself.
    let ours_failed = rows.iter().filter(|row| row.us.is_none() && row.theirs.is_none());
    let mut lines: Vec<Line> = ours_failed
        .map(|row| {
            let what = format!("{network} in {}", row.ours.name());
            let error = row.error.clone().unwrap_or_default();
            Line::asked(what, error, "runs".into(), false)
        })
        .collect();
    let failed: Vec<_> = rows
        .iter()
        .filter(|row| row.theirs.is_some() && row.ratio.is_none())
        .map(|row| {
            format!(
                "{}: {}",
                row.theirs.map_or(String::new(), Theirs::name),
                row.error.clone().unwrap_or_default()
            )
        })
        .collect();
    let mut bar = |what: String, of: Bar, asked: f64| {
        let rows = rows.iter().filter(|row| row.bar == of);
        let count = rows.clone().count();
        let timed: Vec<_> = rows.filter_map(|row| Some((row.ratio?, row.theirs?))).collect();
        if count == 0 {
            return;
        }
        let Some((ratio, theirs)) = timed.iter().min_by(|a, b| a.0.total_cmp(&b.0)) else {
            lines.push(Line::asked(
                what,
                "nothing was timed".into(),
                format!("at least {asked} ×"),
                false,
            ));
            return;
        };
        let found = format!("{ratio:.2} × PyTorch, {}", theirs.name());
        let mut line = Line::asked(what, found, format!("at least {asked} ×"), *ratio >= asked);
        if target == Target::Emulated {
            line.held = None;
        }
        lines.push(line);
    };
    bar(format!("{network} in TF32 against PyTorch, eager, in TF32"), Bar::Eager, case.of_eager);
    bar(format!("{network} in bf16 against PyTorch's best"), Bar::Best, case.of_best);
    if !failed.is_empty() {
        lines.push(Line::told(format!("{network}: not timed"), failed.join("; ")));
    }
    lines
}

fn table(case: &Case, rows: &[Row], torch: Option<&str>) -> Table {
    let what = format!("ABN {}, batch {}, {}×{}", case.network, case.batch, case.size, case.size);
    let mut columns = vec![what, "images/s:".into(), "peak MiB:".into()];
    if let Some(torch) = torch {
        let theirs = ["images/s:", "peak MiB:", "ratio:"].map(str::to_owned);
        columns.push(format!("PyTorch {torch}"));
        columns.extend(theirs);
    }
    let side = |side: &Option<Side>| match side {
        None => ["-".to_owned(), "-".to_owned()],
        Some(side) => {
            let bytes = side.peak.peak_device_bytes.or(side.peak.peak_rss_bytes);
            let peak = bytes.map_or("-".to_owned(), |b| format!("{:.0}", b as f64 / MEBIBYTE));
            [format!("{:.1}", side.images_per_second), peak]
        }
    };
    let cells = |row: &Row| {
        let mut cells = vec![row.ours.name().to_owned()];
        cells.extend(side(&row.us));
        if torch.is_some() {
            cells.push(row.theirs.map_or("-".to_owned(), Theirs::name));
            cells.extend(side(&row.them));
            cells.push(row.ratio.map_or("-".to_owned(), |ratio| format!("{ratio:.2}")));
        }
        cells
    };
    Table { columns, rows: rows.iter().map(cells).collect() }
}
