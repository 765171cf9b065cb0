//! The meter's kernels.

use candle_core::Tensor;

use super::{Branch, OP, TaskBranch};
use crate::Result;
use crate::cuda::{Arg, Grid, Of, launch};

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

/// As [`super::Meter::add_tasks`], of branches with that many samples; with where a kernel adds what each gave.
pub fn add_tasks(sums: &Tensor, branches: &[&TaskBranch], labels: &Tensor, n: usize) -> Result<()> {
    // Their places in `sums`, perception's and attention's.
    const WRONG: [usize; 2] = [4, 5];
    const LOSS: [usize; 2] = [8, 9];
    let labels = labels.contiguous()?;
    let tasks = labels.dims()[1];
    for (branch, at) in branches.iter().zip(WRONG) {
        for (task, scores) in branch.scores.iter().enumerate() {
            let scores = scores.contiguous()?;
            let sizes = [n, scores.dims()[1], tasks, task, at].map(Arg::Size);
            let tensors =
                [Arg::read(&scores), Arg::In(Of::Index, &labels), Arg::Out(Of::Double, sums)];
            let grid = Grid { blocks: [1, 1, 1], threads: [32, 8] };
            launch(OP, "meter_task", &scores, grid, &[&tensors[..], &sizes].concat())?;
        }
    }
    let losses: Vec<_> = branches
        .iter()
        .zip(LOSS)
        .flat_map(|(branch, at)| branch.losses.iter().map(move |&loss| (loss, at)))
        .collect();
    for (i, &(loss, at)) in losses.iter().enumerate() {
        let args = [
            Arg::read_wide(loss),
            Arg::Out(Of::Double, sums),
            Arg::Size(at),
            Arg::Flag(i + 1 == losses.len()),
            Arg::Size(n),
        ];
        launch(OP, "meter_loss", branches[0].scores[0], Grid::each(1), &args)?;
    }
    Ok(())
}

/// In place: whoever holds the memory's address keeps it.
pub fn clear(sums: &Tensor) -> Result<()> {
    let count = sums.elem_count();
    let args = [Arg::write(sums), Arg::Size(count), Arg::Real(0.0)];
    launch(OP, "fill", sums, Grid::each(count), &args)
}
