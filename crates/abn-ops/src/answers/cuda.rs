//! Answers on a GPU.

use candle_core::{DType, Tensor};

use crate::Result;
use crate::cuda::{Arg, Grid, Of, launch, unwritten};
use crate::loss::cuda::{TASKS, task_table};

pub fn task_answers(op: &'static str, scores: &[Tensor]) -> Result<Tensor> {
    let (n, tasks) = (scores[0].dims()[0], scores.len());
    let answers = unwritten(&scores[0], DType::U32, (n, tasks))?;
    for (some, at) in scores.chunks(TASKS).zip((0..).step_by(TASKS)) {
        let mut args = task_table(&some.iter().collect::<Vec<_>>(), None, at);
        args.extend([Arg::Out(Of::Index, &answers), Arg::Size(n), Arg::Size(tasks)]);
        let mut grid = Grid::each(n);
        grid.blocks[1] = some.len();
        launch(op, "task_answers", &scores[0], grid, &args)?;
    }
    Ok(answers)
}
