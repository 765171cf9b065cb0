//! Convolution on a GPU: by cuDNN in f32 and bf16, by kernels of our own in f64 and for what cuDNN
//! refuses. Both read weights as (C_out, KH, KW, C_in / groups).

use candle_core::Tensor;

#[cfg(feature = "cuda")]
use super::cudnn::{Pass, convolve};
use super::{Geometry, OP};
use crate::Result;
use crate::cuda::{Arg, Grid, launch, unwritten};
use crate::packed;
use crate::weighted::OnGpu;

/// `struct Geometry` of the kernels.
fn words(geo: &Geometry) -> [u64; 13] {
    [
        geo.n,
        geo.h,
        geo.w,
        geo.ci,
        geo.co,
        geo.kh,
        geo.kw,
        geo.oh,
        geo.ow,
        geo.stride,
        geo.padding,
        geo.dilation,
        geo.groups,
    ]
    .map(|size| size as u64)
}

/// Writes a convolution's output, or one of its gradients, by cuDNN; false if there is none, or it
/// refuses.
#[cfg(not(feature = "cuda"))]
macro_rules! convolve {
    ($pass:ident, $geo:expr, $a:expr, $b:expr, $to:expr) => {
        false
    };
}
#[cfg(feature = "cuda")]
macro_rules! convolve {
    ($pass:ident, $geo:expr, $a:expr, $b:expr, $to:expr) => {
        convolve(Pass::$pass, $geo, $a, $b, $to)?
    };
}

impl Geometry {
    fn area(&self) -> usize {
        self.kh * self.kw
    }

    /// Of the weight as the kernels read it.
    fn prepared_shape(&self) -> [usize; 4] {
        [self.co, self.kh, self.kw, self.ci / self.groups]
    }

    fn reorder(&self, kernel: &'static str, like: &Tensor, args: [Arg<'_>; 2]) -> Result<()> {
        let (inputs, area) = (self.ci / self.groups, self.area());
        let count = self.co * inputs * area;
        let sizes = [count, inputs, area].map(Arg::Size);
        launch(OP, kernel, like, Grid::each(count), &[&args[..], &sizes].concat())
    }
}

impl OnGpu for Geometry {
    fn prepare(&self, weight: &Tensor, like: &Tensor) -> Result<Tensor> {
        if self.area() == 1 && weight.dtype() == like.dtype() {
            return Ok(weight.reshape(&self.prepared_shape()[..])?);
        }
        let prepared = unwritten(weight, like.dtype(), &self.prepared_shape()[..])?;
        self.reorder("weights_to_ohwi", like, [Arg::read_wide(weight), Arg::write(&prepared)])?;
        Ok(prepared)
    }

    fn prepare_kept(&self, weight: &Tensor, like: &Tensor) -> Result<Tensor> {
        let order = if like.dtype() == weight.dtype() { "ohwi" } else { "ohwi, rounded" };
        let key = packed::Key { weight: weight.id(), order, groups: self.groups };
        let prepare = || self.prepare(&weight.contiguous()?, like);
        packed::kept(key, prepare).map(|kept| (*kept).clone())
    }

    fn gpu_forward(&self, x: &Tensor, prepared: &Tensor) -> Result<Tensor> {
        let y = unwritten(x, x.dtype(), &self.output_shape()[..])?;
        if !convolve!(Forward, self, x, prepared, &y) {
            let (count, words) = (y.elem_count(), words(self));
            let args = [
                Arg::read(x),
                Arg::read(prepared),
                Arg::write(&y),
                Arg::Size(count),
                Arg::Words(&words),
            ];
            launch(OP, "conv_forward", x, Grid::each(count), &args)?;
        }
        Ok(y)
    }

    fn gpu_input_gradient(&self, prepared: &Tensor, dy: &Tensor) -> Result<Tensor> {
        let dx = unwritten(dy, dy.dtype(), &self.input_shape()[..])?;
        if !convolve!(InputGradient, self, dy, prepared, &dx) {
            let (count, words) = (dx.elem_count(), words(self));
            let args = [
                Arg::read(dy),
                Arg::read(prepared),
                Arg::write(&dx),
                Arg::Size(count),
                Arg::Words(&words),
            ];
            launch(OP, "conv_input_gradient", dy, Grid::each(count), &args)?;
        }
        Ok(dx)
    }

    fn gpu_weight_gradient(&self, x: &Tensor, dy: &Tensor) -> Result<Tensor> {
        let gradient = unwritten(x, x.dtype(), &self.prepared_shape()[..])?;
        if !convolve!(WeightGradient, self, x, dy, &gradient) {
            let words = words(self);
            let args = [Arg::read(x), Arg::read(dy), Arg::write(&gradient), Arg::Words(&words)];
            let inputs = self.ci / self.groups;
            let blocks = [self.co * self.area(), inputs.div_ceil(32), 1];
            let grid = Grid { blocks, threads: [32, 8] };
            launch(OP, "conv_weight_gradient", x, grid, &args)?;
        }
        let dtype = crate::cuda::wide(OP, x.dtype())?;
        if self.area() == 1 && dtype == x.dtype() {
            return Ok(gradient.reshape(&self.weight_shape()[..])?);
        }
        let d_weight = unwritten(x, dtype, &self.weight_shape()[..])?;
        self.reorder("weights_from_ohwi", x, [Arg::read(&gradient), Arg::write_wide(&d_weight)])?;
        Ok(d_weight)
    }
}
