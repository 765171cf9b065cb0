//! The meter's kernels.

use candle_core::{DType, Tensor};

use super::{Branch, OP, TaskBranch};
use crate::Result;
use crate::cuda::{Arg, Grid, Of, launch, unwritten};
use crate::loss::cuda::{TASKS, task_table};

pub fn add(
    sums: &Tensor,
    total: &Tensor,
    perception: Branch,
    attention: Option<Branch>,
    labels: &Tensor,
    [n, k]: [usize; 2],
) -> Result<()> {
    let scores = perception.scores.contiguous()?;
    let others = attention.map(|branch| branch.scores.contiguous()).transpose()?;
    let labels = labels.contiguous()?;
    let args = [
        Arg::read(&scores),
        Arg::or_null(others.as_ref(), Arg::read),
        Arg::In(Of::Index, &labels),
        Arg::read_wide(total),
        Arg::read_wide(perception.loss),
        Arg::or_null(attention.map(|branch| branch.loss), Arg::read_wide),
        Arg::Out(Of::Double, sums),
        Arg::Size(n),
        Arg::Size(k),
    ];
    launch(OP, "meter", &scores, Grid { blocks: [1, 1, 1], threads: [32, 8] }, &args)
}

/// Losses of a kernel's table.
const LOSSES: usize = 96;

/// As [`super::Meter::add_tasks`], of branches with that many samples.
pub fn add_tasks(sums: &Tensor, branches: &[&TaskBranch], labels: &Tensor, n: usize) -> Result<()> {
    let labels = labels.contiguous()?;
    let tasks = labels.dims()[1];
    let like = branches[0].scores[0].contiguous()?;
    let wrong = unwritten(&like, DType::F64, branches.len() * tasks)?;
    let sizes = [n, tasks].map(Arg::Size);
    for (branch, start) in branches.iter().zip((0..).step_by(tasks)) {
        let scores = branch.scores.iter().map(|scores| Ok(scores.contiguous()?));
        let scores = scores.collect::<Result<Vec<_>>>()?;
        for (some, at) in scores.chunks(TASKS).zip((0..).step_by(TASKS)) {
            let there = wrong.narrow(0, start + at, some.len())?;
            let table = task_table(&some.iter().collect::<Vec<_>>(), None, at);
            let tensors = [Arg::In(Of::Index, &labels), Arg::Out(Of::Double, &there)];
            let grid = Grid { blocks: [some.len(), 1, 1], threads: [32, 8] };
            let args = [&table[..], &tensors, &sizes].concat();
            launch(OP, "meter_tasks", &like, grid, &args)?;
        }
    }
    let losses: Vec<_> = branches.iter().flat_map(|branch| &branch.losses).collect();
    for (some, at) in losses.chunks(LOSSES).zip((0..).step_by(LOSSES)) {
        let table = some.iter().map(|loss| Arg::read_wide(loss));
        let table = [Arg::Begin].into_iter().chain(table).chain([Arg::End(LOSSES)]);
        let mut args: Vec<_> = table.collect();
        args.extend([Arg::In(Of::Double, &wrong), Arg::Out(Of::Double, sums)]);
        let perception = branches[0].losses.len().saturating_sub(at);
        let sizes = [perception, some.len(), tasks, wrong.elem_count(), n];
        args.extend(sizes.map(Arg::Size));
        args.push(Arg::Flag(at + some.len() == losses.len()));
        launch(OP, "meter_batch", &like, Grid { blocks: [1, 1, 1], threads: [32, 1] }, &args)?;
    }
    Ok(())
}

/// In place: whoever holds the memory's address keeps it.
pub fn clear(sums: &Tensor) -> Result<()> {
    let count = sums.elem_count();
    let args = [Arg::write(sums), Arg::Size(count), Arg::Real(0.0)];
    launch(OP, "fill", sums, Grid::each(count), &args)
}
