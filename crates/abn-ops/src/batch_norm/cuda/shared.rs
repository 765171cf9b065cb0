//! Batches that several processes share, on a GPU: what is to be summed over them stays there.

use std::sync::Arc;

use candle_core::{DType, Tensor};

use super::super::{BatchNorm, OP};
use super::Sizes;
use crate::cuda::{Arg, Grid, Of, launch, unwritten, wide};
use crate::{Across, Error, Result};

/// Those who share a batch, and what they have of it together.
pub struct Shared {
    across: Arc<dyn Across>,
    /// Whether this process's values count.
    counts: bool,
    /// Count, sums and sums of squares of each part's channels, over all processes.
    totals: Tensor,
}

impl Shared {
    /// The batch's statistics, as [`Sizes::of_batch`] gives them; the running ones move.
    ///
    /// That they are of more than one value is looked at where this process's part alone does not
    /// make it so: to look is to wait for the GPU.
    pub fn new(
        sizes: &Sizes,
        x: &Tensor,
        bn: &BatchNorm,
        across: Arc<dyn Across>,
    ) -> Result<(Self, Tensor)> {
        let counts = across.counts();
        let partial = sizes.moments(x)?;
        let row = 1 + 2 * sizes.channels;
        let totals = unwritten(x, DType::F64, sizes.parts * row)?;
        let [rows, channels, _] = sizes.size_args(sizes.sums());
        launch(
            OP,
            "batch_totals",
            x,
            sizes.fold(),
            &[
                Arg::read(x),
                Arg::In(Of::Double, &partial),
                Arg::Out(Of::Double, &totals),
                Arg::Size(sizes.parts),
                Arg::Size(sizes.sums().grid.blocks[1]),
                rows,
                channels,
                Arg::Flag(counts),
            ],
        )?;
        let totals = across.sum(totals)?.contiguous()?;
        if !counts || sizes.rows < 2 {
            let counted = totals.reshape((sizes.parts, row))?.narrow(1, 0, 1)?;
            if counted.flatten_all()?.to_vec1::<f64>()?.iter().any(|&count| count < 2.0) {
                let expected = "more than one value per channel over all processes";
                return Err(Error::shape(OP, expected, x.dims()));
            }
        }
        let (stats, weight) = (sizes.unwritten_stats(x)?, bn.weight.value().contiguous()?);
        launch(
            OP,
            "shared_statistics",
            x,
            Grid::each(sizes.channels),
            &[
                Arg::In(Of::Double, &totals),
                Arg::write_wide(&stats),
                Arg::read_wide(&weight),
                Arg::write_wide(bn.running_mean),
                Arg::write_wide(bn.running_var),
                Arg::Size(sizes.parts),
                channels,
                Arg::Real(bn.momentum),
                Arg::Real(bn.eps),
            ],
        )?;
        Ok((Self { across, counts, totals }, stats))
    }

    /// What x's gradient needs of the whole batch, and the gradients of weight and bias of this
    /// process's part, from the sums of its chunks.
    pub fn slopes(
        &self,
        sizes: &Sizes,
        grad: &Tensor,
        partial: &Tensor,
        stats: &Tensor,
    ) -> Result<[Tensor; 3]> {
        let parameters = wide(OP, sizes.dtype)?;
        let d_weight = unwritten(grad, parameters, sizes.channels)?;
        let d_bias = unwritten(grad, parameters, sizes.channels)?;
        let totals = unwritten(grad, DType::F64, sizes.parts * 2 * sizes.channels)?;
        let (parts, channels) = (Arg::Size(sizes.parts), Arg::Size(sizes.channels));
        launch(
            OP,
            "batch_gradient_totals",
            grad,
            sizes.fold(),
            &[
                Arg::In(Of::Double, partial),
                Arg::read_wide(stats),
                Arg::Out(Of::Double, &totals),
                Arg::write_wide(&d_weight),
                Arg::write_wide(&d_bias),
                parts,
                Arg::Size(sizes.sums().grid.blocks[1]),
                channels,
                Arg::Flag(self.counts),
            ],
        )?;
        let totals = self.across.sum(totals)?.contiguous()?;
        let slopes = unwritten(grad, parameters, (sizes.parts, 2, sizes.channels))?;
        launch(
            OP,
            "shared_slopes",
            grad,
            Grid::each(sizes.channels),
            &[
                Arg::In(Of::Double, &totals),
                Arg::In(Of::Double, &self.totals),
                Arg::read_wide(stats),
                Arg::write_wide(&slopes),
                parts,
                channels,
                Arg::Flag(self.counts),
            ],
        )?;
        Ok([slopes, d_weight, d_bias])
    }
}
