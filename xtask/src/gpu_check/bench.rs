//! Speed and memory of a training step, beside PyTorch's in alternation.

use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde::Serialize;
use serde_json::json;

use super::Check;
use super::device::Target;
use super::outcome::{Line, Outcome, Table, refused};
use super::plan::{Bar, CASES, Case, Ours, PAIRS, Pair, SMALL, Theirs, few_pairs, our_ways};
use super::pytorch::{PyTorch, STEP};
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
            // Some of the steps are replayed.
            _ if check.small() => Self { warm_up: 4, steps: 2, rounds: 2 },
            (_, true) => Self { warm_up: 5, steps: 5, rounds: 3 },
            (_, false) => Self { warm_up: 10, steps: 10, rounds: 7 },
        }
    }
}

/// What ours is timed beside, if there is PyTorch, and what that counts for.
type Beside<'a> = Option<(&'a PyTorch, Theirs, Bar)>;

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
    /// Why one of them is missing, or both.
    error: Option<String>,
    /// That it is ours.
    ours_failed: bool,
}

/// Times every network that was asked for.
///
/// # Errors
/// If a network is not of the plan. What fails of one is told, and the others are timed all the same.
pub fn run(check: &Check) -> Result<Vec<Outcome>> {
    // The small one can be asked for on a GPU too, to see that all runs.
    let usual = if check.small() { &SMALL[..] } else { &CASES[..] };
    let cases = match check.target() {
        Target::Emulated => SMALL.to_vec(),
        Target::Gpu(_) => [&CASES[..], &SMALL].concat(),
    };
    let wanted = &check.args.networks;
    for name in wanted {
        let known = cases.iter().map(|case| case.network).collect::<Vec<_>>().join(", ");
        let there = cases.iter().any(|case| case.network == name);
        ensure!(there, "no network `{name}` is timed here; expected some of {known}");
    }
    if wanted.is_empty() {
        return usual.iter().map(|case| of_network(check, case)).collect();
    }
    let asked = |case: &&Case| wanted.iter().any(|name| name == case.network);
    cases.iter().filter(asked).map(|case| of_network(check, case)).collect()
}

fn of_network(check: &Check, case: &Case) -> Result<Outcome> {
    let effort = Effort::of(check);
    let Case { network, batch, size, .. } = *case;
    println!("  {network}, batch {batch}, {size}×{size}");
    let pytorch = check.pytorch.as_ref();
    let ways: Vec<(Ours, Beside)> = match pytorch {
        Some(pytorch) => {
            let pairs = match check.target() {
                Target::Emulated => few_pairs(),
                Target::Gpu(_) => PAIRS.to_vec(),
            };
            let way = |Pair { ours, theirs, bar }| (ours, Some((pytorch, theirs, bar)));
            pairs.into_iter().map(way).collect()
        }
        None => our_ways().into_iter().map(|ours| (ours, None)).collect(),
    };
    let torch = pytorch.map(|pytorch| pytorch.version.as_str());
    let outcome = |rows: &[Row]| {
        let figures = json!({
            "network": network,
            "batch": batch,
            "image_size": size,
            "torch": torch,
            "effort": effort,
            "rows": rows,
        });
        let lines = lines(case, rows, !check.small());
        let table = Some(table(case, rows, torch));
        Outcome { table, ..Outcome::new(format!("speed {network}"), lines, figures) }
    };
    let mut rows = Vec::new();
    for &(ours, other) in &ways {
        rows.push(timed(check, case, effort, ours, other));
        check.keep(&outcome(&rows).so_far(rows.len(), ways.len()))?;
    }
    Ok(outcome(&rows))
}

fn timed(check: &Check, case: &Case, effort: Effort, ours: Ours, other: Beside) -> Row {
    let (theirs, bar) = other.map_or((None, Bar::None), |(_, theirs, bar)| (Some(theirs), bar));
    let (us, them, ratio, error) = (None, None, None, None);
    let mut row = Row { ours, theirs, bar, us, them, ratio, error, ours_failed: false };
    let them = other.map(|(pytorch, theirs, _)| (pytorch, theirs));
    let patience = Duration::from_secs(check.args.patience);
    match our_worker(check, case, effort, ours) {
        Err(error) => (row.ours_failed, row.error) = (true, Some(format!("{error:#}"))),
        Ok(worker) => match alternate(case, effort, patience, worker, them) {
            Err(error) => row.error = Some(format!("{error:#}")),
            Ok((us, them)) => {
                row.ratio = them.as_ref().map(|them| us.images_per_second / them.images_per_second);
                (row.us, row.them) = (Some(us), them);
            }
        },
    }
    println!("    {}", in_words(&row));
    row
}

/// Ours, ready to be timed.
fn our_worker(check: &Check, case: &Case, effort: Effort, ours: Ours) -> Result<Worker> {
    let mut command = check.target().command(std::env::current_exe()?);
    command.args(["bench", "worker", "--device", check.target().within()]).args(ours.args());
    step(&mut command, case);
    let mut worker = Worker::start("this project's worker", command)?.0;
    worker.steps(effort.warm_up)?;
    Ok(worker)
}

/// Rounds of both sides by turns.
fn alternate(
    case: &Case,
    effort: Effort,
    patience: Duration,
    ours: Worker,
    other: Option<(&PyTorch, Theirs)>,
) -> Result<(Side, Option<Side>)> {
    let mut workers = vec![ours];
    if let Some((pytorch, theirs)) = other {
        let mut command = pytorch.command(STEP);
        command.args(theirs.args());
        step(&mut command, case);
        let mut worker = Worker::start("PyTorch's worker", command)?.0;
        worker.limit(patience);
        worker.steps(effort.warm_up)?;
        workers.push(worker);
    }
    let mut seconds = vec![Vec::new(); workers.len()];
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
fn step(command: &mut Command, case: &Case) {
    command.args([case.network, "--pass", "train"]);
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

/// The verdicts: none where speed means nothing.
fn lines(case: &Case, rows: &[Row], means_something: bool) -> Vec<Line> {
    let network = case.network;
    let why = |row: &Row| row.error.clone().unwrap_or_default();
    let failed = rows.iter().filter(|row| row.ours_failed);
    let mut lines: Vec<Line> = failed
        .map(|row| {
            let what = format!("{network} in {}", row.ours.name());
            Line::asked(what, why(row), "runs".into(), false)
        })
        .collect();
    for (what, of, asked) in [
        ("in TF32 against PyTorch, eager, in TF32", Bar::Eager, case.of_eager),
        ("in bf16 against PyTorch's best", Bar::Best, case.of_best),
    ] {
        let mut rows = rows.iter().filter(|row| row.bar == of).peekable();
        if rows.peek().is_none() {
            continue;
        }
        let timed = rows.filter_map(|row| Some((row.ratio?, row.theirs?)));
        let slowest = timed.min_by(|a, b| a.0.total_cmp(&b.0));
        let found = slowest.map_or("nothing was timed".into(), |(ratio, theirs)| {
            format!("{ratio:.2} × PyTorch, {}", theirs.name())
        });
        let held = slowest.is_some_and(|(ratio, _)| ratio >= asked);
        let asked = format!("at least {asked} ×");
        let mut line = Line::asked(format!("{network} {what}"), found, asked, held);
        if !means_something && slowest.is_some() {
            line.held = None;
        }
        lines.push(line);
    }
    let missing = rows.iter().filter(|row| row.error.is_some() && !row.ours_failed);
    let missing = missing.filter_map(|row| Some(format!("{}: {}", row.theirs?.name(), why(row))));
    let missing = missing.collect::<Vec<_>>().join("; ");
    let ours = rows.iter().filter_map(|row| row.us.as_ref());
    lines.extend(refused(&format!("{network}: "), ours.flat_map(|us| &us.peak.refused)));
    if !missing.is_empty() {
        lines.push(Line::told(format!("{network}: PyTorch not timed"), missing));
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
        let mut cells = vec![row.ours.name()];
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

#[cfg(test)]
mod tests {
    use super::*;

    fn row(pair: Pair, ratio: Option<f64>) -> Row {
        let Pair { ours, theirs, bar } = pair;
        let error = ratio.is_none().then(|| "no memory".into());
        let theirs = Some(theirs);
        Row { ours, theirs, bar, us: None, them: None, ratio, error, ours_failed: false }
    }

    /// One of ours in TF32 against eager, and all against the best.
    fn rows(eager: f64, best: [Option<f64>; 2]) -> Vec<Row> {
        let of = |bar| PAIRS.into_iter().filter(move |pair| pair.bar == bar);
        let eager = of(Bar::Eager).map(|pair| row(pair, Some(eager)));
        eager.chain(of(Bar::Best).zip(best).map(|(pair, ratio)| row(pair, ratio))).collect()
    }

    #[test]
    fn the_fastest_way_of_pytorchs_is_the_bar() {
        let held = |rows: &[Row], means_something| -> Vec<Option<bool>> {
            lines(&CASES[0], rows, means_something).iter().map(|line| line.held).collect()
        };
        assert_eq!(held(&rows(2.0, [Some(1.5), Some(1.0)]), true), [Some(true); 2]);
        assert_eq!(held(&rows(1.9, [Some(1.5), Some(0.9)]), true), [Some(false); 2]);
        // What PyTorch cannot do is told.
        assert_eq!(held(&rows(2.0, [Some(1.5), None]), true), [Some(true), Some(true), None]);
        assert_eq!(held(&rows(2.0, [None, None]), true), [Some(true), Some(false), None]);
        assert_eq!(held(&rows(0.1, [Some(0.1), Some(0.1)]), false), [None; 2]);
        let mut failed = rows(2.0, [Some(1.5), Some(1.0)]);
        failed[0].ours_failed = true;
        assert_eq!(held(&failed, true)[0], Some(false));
    }
}
