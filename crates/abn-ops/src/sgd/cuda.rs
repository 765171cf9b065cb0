//! Optimizer steps on a GPU: one kernel for many tensors.

use candle_core::Tensor;

use super::SgdConfig;
use crate::Result;
use crate::cuda::{Arg, Grid, Of, address, address_mut, check, launch};

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
    #[cfg(feature = "cuda")]
    if items[0].target.device().is_cpu() && crate::cuda::is_staged() {
        return staged(op, kernel, items, more);
    }
    for items in items.chunks(ITEMS) {
        let like = items[0].target;
        let mut words = Vec::with_capacity(5 * ITEMS + 1);
        let mut blocks = 0;
        for item in items {
            for tensor in [Some(item.target), item.velocity, Some(item.source)].iter().flatten() {
                check(op, tensor, like.dtype(), like.device())?;
            }
            words.push(address_mut(op, item.target)?);
            words.push(item.velocity.map_or(Ok(0), |velocity| address_mut(op, velocity))?);
            words.push(address(op, item.source)?);
            let count = item.target.elem_count();
            words.extend([count as u64, blocks as u64]);
            blocks += count.div_ceil(CHUNK);
        }
        words.resize(5 * ITEMS, 0);
        words.push(items.len() as u64);
        let args = [&[Arg::Words(&words), Arg::Size(CHUNK)][..], more].concat();
        launch(op, kernel, like, Grid { blocks: [blocks, 1, 1], threads: [256, 1] }, &args)?;
    }
    Ok(())
}

/// On copies of the tensors.
#[cfg(feature = "cuda")]
fn staged(
    op: &'static str,
    kernel: &'static str,
    items: &[Item<'_>],
    more: &[Arg<'_>],
) -> Result<()> {
    let mut stage = crate::cuda::Stage::default();
    let mut copies = Vec::with_capacity(items.len());
    for item in items {
        let velocity = item.velocity.map(|velocity| stage.copy(op, velocity)).transpose()?;
        copies.push((stage.copy(op, item.target)?, velocity, stage.copy(op, item.source)?));
    }
    let there = copies.iter().map(|(target, velocity, source)| Item {
        target,
        velocity: velocity.as_ref(),
        source,
    });
    let lent = more.iter().map(|arg| match arg {
        Arg::In(_, tensor) => stage.copy(op, tensor).map(Some),
        _ => Ok(None),
    });
    let lent = lent.collect::<Result<Vec<_>>>()?;
    let more = more.iter().zip(&lent).map(|(arg, copy)| match (arg, copy) {
        (Arg::In(of, _), Some(copy)) => Arg::In(*of, copy),
        (arg, _) => *arg,
    });
    by_tables(op, kernel, &there.collect::<Vec<_>>(), &more.collect::<Vec<_>>())?;
    for item in items {
        stage.back(op, item.target)?;
        item.velocity.map_or(Ok(()), |velocity| stage.back(op, velocity))?;
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
