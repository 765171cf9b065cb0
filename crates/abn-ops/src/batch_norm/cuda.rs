//! Batch normalisation on a GPU: two passes over the feature map forward (its statistics, and what
//! they make of it), two backward, each followed by a small kernel that adds up the blocks' sums.

mod shared;

use candle_core::{DType, Tensor};

use self::shared::Shared;
use super::{BatchNorm, OP};
use crate::cuda::{Arg, Grid, Of, launch, packed, unwritten, unwritten_like, wide};
use crate::{Result, Tracked, across, autograd};

/// How a pass over a feature map is split.
#[derive(Clone, Copy)]
struct Pass {
    grid: Grid,
    /// Rows of a block.
    chunk: usize,
}

/// A feature map's sizes.
#[derive(Clone, Copy)]
struct Sizes {
    dtype: DType,
    parts: usize,
    /// Of each part.
    rows: usize,
    channels: usize,
    /// Whether channels are read in packs of 16 bytes.
    packs: bool,
}

impl Sizes {
    fn new(x: &Tensor, parts: usize, channels: usize, others: &[&Tensor]) -> Self {
        let (dtype, rows) = (x.dtype(), x.elem_count() / parts / channels);
        let lanes = 16 / dtype.size_in_bytes();
        let packs = channels.is_multiple_of(lanes) && packed(&[x]) && packed(others);
        Self { dtype, parts, rows, channels, packs }
    }

    /// A pass of about that many blocks for each part, in which a thread has no less than `rows` rows
    /// if there are any. Depends on the sizes alone, so that sums come out the same everywhere.
    fn pass(&self, blocks: usize, rows: usize) -> Pass {
        const THREADS: usize = 256;
        let lanes = if self.packs { 16 / self.dtype.size_in_bytes() } else { 1 };
        let columns = self.channels / lanes;
        let width = columns.next_power_of_two().min(32);
        let height = THREADS / width;
        let across = columns.div_ceil(width);
        let chunks = self.rows.div_ceil(height * rows).min((blocks / across).max(1));
        let chunk = self.rows.div_ceil(chunks);
        let blocks = [across, self.rows.div_ceil(chunk), self.parts];
        Pass { grid: Grid { blocks, threads: [width, height] }, chunk }
    }

    fn sums(&self) -> Pass {
        self.pass(512, 8)
    }

    fn writes(&self) -> Pass {
        self.pass(2048, 4)
    }

    /// For the kernels that add up chunks: eight channels a block.
    fn fold(&self) -> Grid {
        Grid { blocks: [self.channels.div_ceil(8), 1, 1], threads: [8, 32] }
    }

    fn partial(&self, like: &Tensor) -> Result<Tensor> {
        unwritten(like, DType::F64, (self.parts, self.sums().grid.blocks[1], 2, self.channels))
    }

    fn size_args(&self, pass: Pass) -> [Arg<'static>; 3] {
        [Arg::Size(self.rows), Arg::Size(self.channels), Arg::Size(pass.chunk)]
    }

    /// Sums of x and its square, shifted, of each chunk of each part's channels.
    fn moments(&self, x: &Tensor) -> Result<Tensor> {
        let pass = self.sums();
        let partial = self.partial(x)?;
        let [rows, channels, chunk] = self.size_args(pass);
        launch(
            OP,
            "batch_moments",
            x,
            pass.grid,
            &[
                Arg::read(x),
                Arg::Out(Of::Double, &partial),
                rows,
                channels,
                chunk,
                Arg::Flag(self.packs),
            ],
        )?;
        Ok(partial)
    }

    fn unwritten_stats(&self, x: &Tensor) -> Result<Tensor> {
        unwritten(x, wide(OP, self.dtype)?, (self.parts, 3, self.channels))
    }

    /// Mean, 1 / √(var + eps) and weight times that, of each part's channels; the running statistics
    /// move.
    fn of_batch(&self, x: &Tensor, bn: &BatchNorm) -> Result<Tensor> {
        let (partial, stats) = (self.moments(x)?, self.unwritten_stats(x)?);
        let pass = self.sums();
        let [rows, channels, _] = self.size_args(pass);
        let weight = bn.weight.value().contiguous()?;
        launch(
            OP,
            "batch_statistics",
            x,
            self.fold(),
            &[
                Arg::read(x),
                Arg::In(Of::Double, &partial),
                Arg::write_wide(&stats),
                Arg::read_wide(&weight),
                Arg::write_wide(bn.running_mean),
                Arg::write_wide(bn.running_var),
                Arg::Size(self.parts),
                Arg::Size(pass.grid.blocks[1]),
                rows,
                channels,
                Arg::Real(bn.momentum),
                Arg::Real(bn.eps),
            ],
        )?;
        Ok(stats)
    }

    /// As [`Self::of_batch`], by the running statistics.
    fn running(&self, x: &Tensor, bn: &BatchNorm) -> Result<Tensor> {
        let stats = unwritten(x, wide(OP, self.dtype)?, (1, 3, self.channels))?;
        let weight = bn.weight.value().contiguous()?;
        let [mean, var] = [bn.running_mean.contiguous()?, bn.running_var.contiguous()?];
        launch(
            OP,
            "running_statistics",
            x,
            Grid::each(self.channels),
            &[
                Arg::write_wide(&stats),
                Arg::read_wide(&weight),
                Arg::read_wide(&mean),
                Arg::read_wide(&var),
                Arg::Size(self.channels),
                Arg::Real(bn.eps),
            ],
        )?;
        Ok(stats)
    }
}

pub fn run(
    x: &Tracked,
    bn: &BatchNorm,
    residual: Option<&Tracked>,
    relu: bool,
    parts: Option<usize>,
) -> Result<Tracked> {
    let input = x.value().contiguous()?;
    let rest = residual.map(|r| r.value().contiguous()).transpose()?;
    let y = unwritten_like(&input)?;
    let train = parts.is_some();
    let others: Vec<&Tensor> = rest.iter().collect();
    let sizes = Sizes::new(&input, parts.unwrap_or(1), bn.weight.dims()[0], &others);
    let (shared, stats) = match across::current().filter(|_| train) {
        Some(across) => {
            let (shared, stats) = Shared::new(&sizes, &input, bn, across)?;
            (Some(shared), stats)
        }
        None if train => (None, sizes.of_batch(&input, bn)?),
        None => (None, sizes.running(&input, bn)?),
    };
    let bias = bn.bias.value().contiguous()?;
    let pass = sizes.writes();
    let [rows, channels, chunk] = sizes.size_args(pass);
    launch(
        OP,
        "batch_normalise",
        &input,
        pass.grid,
        &[
            Arg::read(&input),
            Arg::or_null(rest.as_ref(), Arg::read),
            Arg::write(&y),
            Arg::read_wide(&stats),
            Arg::read_wide(&bias),
            rows,
            channels,
            chunk,
            Arg::Flag(relu),
            Arg::Flag(sizes.packs),
        ],
    )?;
    let backward = Backward {
        // With a residual, the ReLU's mask comes from the output.
        output: (relu && rest.is_some()).then(|| y.clone()),
        mask: relu && rest.is_none(),
        guided: relu && autograd::is_guided(),
        train,
        x_tracked: x.is_tracked(),
        parameters_tracked: bn.weight.is_tracked() || bn.bias.is_tracked(),
        residual_tracked: residual.is_some_and(Tracked::is_tracked),
        input,
        stats,
        bias,
        parts: sizes.parts,
        shared,
    };
    let no_residual = Tracked::constant(y.clone());
    let inputs = [x, bn.weight, bn.bias, residual.unwrap_or(&no_residual)];
    Ok(Tracked::from_op(y, &inputs, move |grad| backward.run(grad)))
}

/// What the backward pass needs.
struct Backward {
    input: Tensor,
    /// The ReLU's, if its mask is taken from there; `mask` if it is computed again.
    output: Option<Tensor>,
    mask: bool,
    guided: bool,
    stats: Tensor,
    bias: Tensor,
    parts: usize,
    shared: Option<Shared>,
    train: bool,
    x_tracked: bool,
    parameters_tracked: bool,
    residual_tracked: bool,
}

impl Backward {
    fn run(self, grad: Tensor) -> Result<Vec<Option<Tensor>>> {
        let channels = self.bias.elem_count();
        let mut others = vec![&grad];
        others.extend(&self.output);
        let sizes = Sizes::new(&self.input, self.parts, channels, &others);
        let [slopes, d_weight, d_bias] =
            if self.train || self.parameters_tracked || self.output.is_some() {
                self.sums(&sizes, &grad)?.map(Some)
            } else {
                [None, None, None]
            };
        let in_place = !self.residual_tracked;
        let dx = match self.x_tracked {
            false => None,
            true if in_place => Some(grad.clone()),
            true => Some(unwritten_like(&grad)?),
        };
        if let Some(dx) = &dx {
            let pass = sizes.writes();
            let [rows, channels, chunk] = sizes.size_args(pass);
            launch(
                OP,
                "batch_input_gradient",
                &grad,
                pass.grid,
                &[
                    Arg::read(&grad),
                    Arg::read(&self.input),
                    Arg::write(dx),
                    Arg::read_wide(&self.stats),
                    Arg::or_null(slopes.as_ref().filter(|_| self.train), Arg::read_wide),
                    Arg::read_wide(&self.bias),
                    rows,
                    channels,
                    chunk,
                    Arg::Flag(self.mask),
                    Arg::Flag(self.guided && self.mask),
                    Arg::Flag(sizes.packs),
                ],
            )?;
        }
        Ok(vec![dx, d_weight, d_bias, self.residual_tracked.then_some(grad)])
    }

    /// What the input's gradient needs of the sums, and the gradients of weight and bias. If the
    /// ReLU's mask is the output's, `grad` is masked.
    fn sums(&self, sizes: &Sizes, grad: &Tensor) -> Result<[Tensor; 3]> {
        let pass = sizes.sums();
        let partial = sizes.partial(grad)?;
        let [rows, channels, chunk] = sizes.size_args(pass);
        let gradient = if self.output.is_some() { Arg::write(grad) } else { Arg::read(grad) };
        launch(
            OP,
            "batch_gradient_sums",
            grad,
            pass.grid,
            &[
                gradient,
                Arg::read(&self.input),
                Arg::or_null(self.output.as_ref(), Arg::read),
                Arg::read_wide(&self.stats),
                Arg::read_wide(&self.bias),
                Arg::Out(Of::Double, &partial),
                rows,
                channels,
                chunk,
                Arg::Flag(self.mask),
                Arg::Flag(self.guided),
                Arg::Flag(sizes.packs),
            ],
        )?;
        if let Some(shared) = &self.shared {
            return shared.slopes(sizes, grad, &partial, &self.stats);
        }
        let parameters = wide(OP, sizes.dtype)?;
        let slopes = unwritten(grad, parameters, (sizes.parts, 2, sizes.channels))?;
        let gradients = [0, 1].map(|_| unwritten(grad, parameters, sizes.channels));
        let [d_weight, d_bias] = gradients;
        let (d_weight, d_bias) = (d_weight?, d_bias?);
        launch(
            OP,
            "batch_gradient_fold",
            grad,
            sizes.fold(),
            &[
                Arg::In(Of::Double, &partial),
                Arg::read_wide(&self.stats),
                Arg::write_wide(&slopes),
                Arg::write_wide(&d_weight),
                Arg::write_wide(&d_bias),
                Arg::Size(sizes.parts),
                Arg::Size(pass.grid.blocks[1]),
                rows,
                channels,
                Arg::Flag(self.train),
            ],
        )?;
        Ok([slopes, d_weight, d_bias])
    }
}
