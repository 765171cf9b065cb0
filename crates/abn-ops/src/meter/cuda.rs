//! The meter's kernels.

use candle_core::Tensor;

use super::{Branch, OP};
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

/// In place: whoever holds the memory's address keeps it.
pub fn clear(sums: &Tensor) -> Result<()> {
    let count = sums.elem_count();
    launch(OP, "clear", sums, Grid::each(count), &[Arg::write(sums), Arg::Size(count)])
}
