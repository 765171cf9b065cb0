//! Optimizer steps on a GPU: one kernel for many tensors.

use candle_core::Tensor;

use super::SgdConfig;
use crate::Result;
use crate::cuda::{Arg, Grid, Of, launch};

/// Tensors of a kernel's table, `ITEMS` of the kernels: what its arguments hold.
const ITEMS: usize = 96;
/// Elements of a block.
const CHUNK: usize = 4096;

/// A tensor that is written, perhaps one that goes with it, and one that is read.
pub struct Item<'a> {
    pub target: &'a Tensor,
    pub velocity: Option<&'a Tensor>,
    pub source: &'a Tensor,
}

/// Runs a kernel whose first arguments are a table and the elements of a block, for as many tables
/// as it takes. All tensors are of one number type and device.
fn by_tables(
    op: &'static str,
    kernel: &'static str,
    items: &[Item<'_>],
    more: &[Arg<'_>],
) -> Result<()> {
    for items in items.chunks(ITEMS) {
        let mut args = vec![Arg::Begin];
        let mut blocks = 0;
        for item in items {
            let count = item.target.elem_count();
            args.extend([
                Arg::write(item.target),
                Arg::or_null(item.velocity, Arg::write),
                Arg::read(item.source),
                Arg::Size(count),
                Arg::Size(blocks),
            ]);
            blocks += count.div_ceil(CHUNK);
        }
        let free = ITEMS - items.len();
        args.extend([Arg::Null; 5].repeat(free));
        args.extend([Arg::Size(items.len()), Arg::End(5 * ITEMS + 1), Arg::Size(CHUNK)]);
        args.extend(more);
        let grid = Grid { blocks: [blocks, 1, 1], threads: [256, 1] };
        launch(op, kernel, items[0].target, grid, &args)?;
    }
    Ok(())
}

pub fn sgd(
    op: &'static str,
    items: &[Item<'_>],
    config: &SgdConfig,
    lr: Option<&Tensor>,
    first: bool,
) -> Result<()> {
    let more = [
        Arg::Real(config.lr),
        Arg::Real(config.momentum),
        Arg::Real(config.weight_decay),
        Arg::Flag(config.nesterov),
        Arg::Flag(first),
        Arg::or_null(lr, |lr| Arg::In(Of::Double, lr)),
    ];
    by_tables(op, "sgd", items, &more)
}

pub fn ema(op: &'static str, items: &[Item<'_>], decay: f64) -> Result<()> {
    by_tables(op, "ema", items, &[Arg::Real(1.0 - decay)])
}
