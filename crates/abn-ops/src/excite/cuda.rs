//! Channel weights on a GPU.

use crate::cuda::{Arg, Grid, launch, unwritten_like};
use crate::elementwise::cuda::relu_backward;
use crate::{Result, Tracked, autograd};

/// `relu(x · scale + residual)` of samples (pixels, channels).
pub fn excite(
    op: &'static str,
    [x, scale, residual]: [&Tracked; 3],
    [samples, pixels, channels]: [usize; 3],
) -> Result<Tracked> {
    let contiguous = |tracked: &Tracked| tracked.value().contiguous();
    let (input, weights, rest) = (contiguous(x)?, contiguous(scale)?, contiguous(residual)?);
    let y = unwritten_like(&input)?;
    let count = y.elem_count();
    let sizes = [count, pixels * channels, channels].map(Arg::Size);
    let tensors = [Arg::read(&input), Arg::read(&weights), Arg::read(&rest), Arg::write(&y)];
    launch(op, "excite", &input, Grid::each(count), &[&tensors[..], &sizes].concat())?;
    let (saved, guided) = (y.clone(), autograd::is_guided());
    let tracked = [x, scale, residual].map(Tracked::is_tracked);
    Ok(Tracked::from_op(y, &[x, scale, residual], move |grad| {
        relu_backward(op, &grad, &saved, guided)?;
        let d_scale = if tracked[1] {
            let d_scale = unwritten_like(&weights)?;
            let args = [
                Arg::read(&grad),
                Arg::read(&input),
                Arg::write(&d_scale),
                Arg::Size(pixels),
                Arg::Size(channels),
            ];
            let grid = Grid { blocks: [channels.div_ceil(32), samples, 1], threads: [32, 8] };
            launch(op, "excite_scale_gradient", &grad, grid, &args)?;
            Some(d_scale)
        } else {
            None
        };
        let dx = if tracked[0] {
            let dx = unwritten_like(&grad)?;
            let args = [Arg::read(&grad), Arg::read(&weights), Arg::write(&dx)];
            let args = [&args[..], &sizes].concat();
            launch(op, "excite_input_gradient", &grad, Grid::each(count), &args)?;
            Some(dx)
        } else {
            None
        };
        Ok(vec![dx, d_scale, tracked[2].then_some(grad)])
    }))
}
