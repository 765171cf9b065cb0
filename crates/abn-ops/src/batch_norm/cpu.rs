//! CPU passes of batch normalisation: one forward, two backward.

use rayon::prelude::*;

use super::moments::Moments;
use super::pattern::{chunk, fold, period, repeat};
use super::shared;
use crate::Result;
use crate::across::Across;
use crate::host::Element;
use crate::simd::multiversion;

/// `(x − mean) · scale + bias`: kept as written, since folding the mean into the bias would lose
/// digits where the mean is far from zero.
pub struct Affine<T> {
    mean: Vec<T>,
    scale: Vec<T>,
    bias: Vec<T>,
    /// 1 / √(var + eps), and weight times that, of each channel.
    inverse_std: Vec<f64>,
    gain: Vec<f64>,
}

impl<T: Element> Affine<T> {
    pub fn new(moments: &Moments, weight: &[f64], bias: &[f64], eps: f64) -> Self {
        let inverse_std: Vec<f64> =
            moments.var.iter().map(|var| 1.0 / (var + eps).sqrt()).collect();
        let gain: Vec<f64> = inverse_std.iter().zip(weight).map(|(i, w)| i * w).collect();
        Self {
            mean: repeat(&moments.mean),
            scale: repeat(&gain),
            bias: repeat(bias),
            inverse_std,
            gain,
        }
    }

    pub fn channels(&self) -> usize {
        self.gain.len()
    }

    /// Mean, scale and bias of each channel.
    pub fn terms(&self) -> [&[T]; 3] {
        [&self.mean, &self.scale, &self.bias].map(|values| &values[..self.channels()])
    }

    /// How x's gradient follows from the output's, if mean and variance depend on x (`sums`) or
    /// not.
    pub fn slope(&self, sums: Option<&Sums>, count: usize) -> Slope<T> {
        let channels = self.channels();
        let none = vec![0.0; channels];
        let (mean_gradient, tilt) = match sums {
            None => (none.clone(), none),
            Some(sums) => (
                sums.gradient.iter().map(|s| s / count as f64).collect(),
                (0..channels)
                    .map(|c| sums.product[c] * self.inverse_std[c].powi(2) / count as f64)
                    .collect(),
            ),
        };
        Slope {
            mean: self.mean.clone(),
            gain: self.scale.clone(),
            mean_gradient: repeat(&mean_gradient),
            tilt: repeat(&tilt),
        }
    }
}

/// Coefficients of `gain · (dy − mean_gradient − (x − mean) · tilt)`.
pub struct Slope<T> {
    mean: Vec<T>,
    gain: Vec<T>,
    mean_gradient: Vec<T>,
    tilt: Vec<T>,
}

/// Sums over the batch, of each channel.
pub struct Sums {
    /// Of dy.
    gradient: Vec<f64>,
    /// Of dy · (x − mean).
    product: Vec<f64>,
}

impl Sums {
    pub fn zero(channels: usize) -> Self {
        Self { gradient: vec![0.0; channels], product: vec![0.0; channels] }
    }

    /// With `relu`, dy is the gradient after the ReLU.
    pub fn new<T: Element>(dy: &[T], x: &[T], affine: &Affine<T>, relu: bool) -> Self {
        let channels = affine.channels();
        let (chunk, period) = (chunk(channels), period(channels));
        let part = |dy: &[T], x: &[T]| -> Self {
            let mut lanes = vec![T::zero(); 2 * period];
            let (gradients, products) = lanes.split_at_mut(period);
            if relu {
                sums_relu(dy, x, &affine.mean, &affine.scale, &affine.bias, gradients, products);
            } else {
                sums(dy, x, &affine.mean, gradients, products);
            }
            let mut sums = Self::zero(channels);
            fold(gradients, &mut sums.gradient);
            fold(products, &mut sums.product);
            sums
        };
        if x.len() <= chunk {
            return part(dy, x);
        }
        let parts: Vec<Self> =
            dy.par_chunks(chunk).zip(x.par_chunks(chunk)).map(|(dy, x)| part(dy, x)).collect();
        let mut total = Self::zero(channels);
        for part in &parts {
            for c in 0..channels {
                total.gradient[c] += part.gradient[c];
                total.product[c] += part.product[c];
            }
        }
        total
    }

    /// Of whole batches, of each of which this process has a part, which may not count.
    pub fn of_all(parts: &[Self], counts: bool, across: &dyn Across) -> Result<Vec<Self>> {
        let channels = parts.first().map_or(0, |part| part.gradient.len());
        let flat = parts.iter().flat_map(|part| part.gradient.iter().chain(&part.product));
        let flat = flat.map(|&sum| if counts { sum } else { 0.0 }).collect();
        let whole = |sums: &[f64]| {
            let (gradient, product) = sums.split_at(channels);
            Self { gradient: gradient.to_vec(), product: product.to_vec() }
        };
        Ok(shared::sum(flat, across)?.chunks_exact(2 * channels).map(whole).collect())
    }

    /// The weight's gradient, over all parts.
    pub fn d_weight<T: Element>(parts: &[Self], affines: &[Affine<T>]) -> Vec<T> {
        let mut total = vec![0.0; affines[0].channels()];
        for (sums, affine) in parts.iter().zip(affines) {
            for (c, total) in total.iter_mut().enumerate() {
                *total += sums.product[c] * affine.inverse_std[c];
            }
        }
        total.into_iter().map(T::of).collect()
    }

    /// The bias's gradient, over all parts.
    pub fn d_bias<T: Element>(parts: &[Self]) -> Vec<T> {
        let channels = parts[0].gradient.len();
        (0..channels).map(|c| T::of(parts.iter().map(|sums| sums.gradient[c]).sum())).collect()
    }
}

/// Writes all of `y`.
pub fn forward<T: Element>(
    y: &mut [T],
    x: &[T],
    residual: Option<&[T]>,
    affine: &Affine<T>,
    relu: bool,
) {
    let chunk = chunk(affine.channels());
    let run = |i: usize, y: &mut [T]| {
        let start = i * chunk;
        let (x, Affine { mean, scale, bias, .. }) = (&x[start..start + y.len()], affine);
        match (residual, relu) {
            (None, false) => normalise(y, x, mean, scale, bias),
            (None, true) => normalise_relu(y, x, mean, scale, bias),
            (Some(r), false) => normalise_add(y, x, &r[start..start + x.len()], mean, scale, bias),
            (Some(r), true) => {
                normalise_add_relu(y, x, &r[start..start + x.len()], mean, scale, bias)
            }
        }
    };
    if y.len() <= chunk {
        run(0, y);
    } else {
        y.par_chunks_mut(chunk).enumerate().for_each(|(i, y)| run(i, y));
    }
}

/// Sets the gradient to zero where the ReLU's output is.
pub fn mask<T: Element>(grad: &mut [T], y: &[T]) {
    crate::elementwise::relu_backward(grad, y);
}

/// x's gradient in the memory of the output's. With `relu`, the output's is the gradient after the
/// ReLU.
pub fn input_gradient_in_place<T: Element>(
    grad: &mut [T],
    x: &[T],
    slope: &Slope<T>,
    relu: Option<&Affine<T>>,
) {
    let chunk = chunk(slope.gain.len());
    let run = |(grad, x): (&mut [T], &[T])| match relu {
        Some(affine) => grad_relu(grad, x, slope, affine),
        None => grad_plain(grad, x, slope),
    };
    if x.len() <= chunk {
        run((grad, x));
    } else {
        grad.par_chunks_mut(chunk).zip(x.par_chunks(chunk)).for_each(run);
    }
}

/// x's gradient in memory of its own: writes all of `dx`.
pub fn input_gradient<T: Element>(dx: &mut [T], grad: &[T], x: &[T], slope: &Slope<T>) {
    let chunk = chunk(slope.gain.len());
    let run = |(dx, (grad, x)): (&mut [T], (&[T], &[T]))| {
        grad_into(dx, grad, x, slope);
    };
    if x.len() <= chunk {
        run((dx, (grad, x)));
    } else {
        dx.par_chunks_mut(chunk).zip(grad.par_chunks(chunk).zip(x.par_chunks(chunk))).for_each(run);
    }
}

/// Defines one of the forward pass's variants.
macro_rules! normalise {
    ($name:ident, |$v:ident $(, $r:ident)?| $result:expr) => {
        multiversion! {
            fn $name<T>(y: &mut [T], x: &[T], $($r: &[T],)? mean: &[T], scale: &[T], bias: &[T]) {
                let period = mean.len();
                for start in (0..x.len()).step_by(period) {
                    let len = period.min(x.len() - start);
                    let y = &mut y[start..start + len];
                    let x = &x[start..start + len];
                    $(let $r = &$r[start..start + len];)?
                    let (mean, scale, bias) = (&mean[..len], &scale[..len], &bias[..len]);
                    for i in 0..len {
                        let $v = (x[i] - mean[i]) * scale[i] + bias[i];
                        $(let $r = $r[i];)?
                        y[i] = $result;
                    }
                }
            }
        }
    };
}
normalise!(normalise, |v| v);
normalise!(normalise_relu, |v| positive(v));
normalise!(normalise_add, |v, r| v + r);
normalise!(normalise_add_relu, |v, r| positive(v + r));

/// ReLU; NaN stays NaN.
#[inline(always)]
fn positive<T: Element>(v: T) -> T {
    if v <= T::zero() { T::zero() } else { v }
}

multiversion! {
    fn sums<T>(dy: &[T], x: &[T], mean: &[T], gradients: &mut [T], products: &mut [T]) {
        for (dy, x) in dy.chunks(mean.len()).zip(x.chunks(mean.len())) {
            let len = dy.len();
            let (x, mean) = (&x[..len], &mean[..len]);
            let (gradients, products) = (&mut gradients[..len], &mut products[..len]);
            for i in 0..len {
                gradients[i] += dy[i];
                products[i] += dy[i] * (x[i] - mean[i]);
            }
        }
    }
}

multiversion! {
    fn sums_relu<T>(
        dy: &[T],
        x: &[T],
        mean: &[T],
        scale: &[T],
        bias: &[T],
        gradients: &mut [T],
        products: &mut [T],
    ) {
        for (dy, x) in dy.chunks(mean.len()).zip(x.chunks(mean.len())) {
            let len = dy.len();
            let x = &x[..len];
            let (mean, scale, bias) = (&mean[..len], &scale[..len], &bias[..len]);
            let (gradients, products) = (&mut gradients[..len], &mut products[..len]);
            for i in 0..len {
                let centred = x[i] - mean[i];
                // The very expression of the forward pass, so the same elements pass.
                let dy = if centred * scale[i] + bias[i] <= T::zero() { T::zero() } else { dy[i] };
                gradients[i] += dy;
                products[i] += dy * centred;
            }
        }
    }
}

multiversion! {
    fn grad_plain<T>(grad: &mut [T], x: &[T], slope: &Slope<T>) {
        for (grad, x) in grad.chunks_mut(slope.mean.len()).zip(x.chunks(slope.mean.len())) {
            let len = grad.len();
            let x = &x[..len];
            let (mean, gain) = (&slope.mean[..len], &slope.gain[..len]);
            let (mean_gradient, tilt) = (&slope.mean_gradient[..len], &slope.tilt[..len]);
            for i in 0..len {
                grad[i] = gain[i] * (grad[i] - mean_gradient[i] - (x[i] - mean[i]) * tilt[i]);
            }
        }
    }
}

multiversion! {
    fn grad_into<T>(dx: &mut [T], grad: &[T], x: &[T], slope: &Slope<T>) {
        let period = slope.mean.len();
        for ((dx, grad), x) in dx.chunks_mut(period).zip(grad.chunks(period)).zip(x.chunks(period)) {
            let len = dx.len();
            let (grad, x) = (&grad[..len], &x[..len]);
            let (mean, gain) = (&slope.mean[..len], &slope.gain[..len]);
            let (mean_gradient, tilt) = (&slope.mean_gradient[..len], &slope.tilt[..len]);
            for i in 0..len {
                dx[i] = gain[i] * (grad[i] - mean_gradient[i] - (x[i] - mean[i]) * tilt[i]);
            }
        }
    }
}

multiversion! {
    fn grad_relu<T>(grad: &mut [T], x: &[T], slope: &Slope<T>, affine: &Affine<T>) {
        for (grad, x) in grad.chunks_mut(slope.mean.len()).zip(x.chunks(slope.mean.len())) {
            let len = grad.len();
            let x = &x[..len];
            let (mean, gain, bias) = (&slope.mean[..len], &slope.gain[..len], &affine.bias[..len]);
            let (mean_gradient, tilt) = (&slope.mean_gradient[..len], &slope.tilt[..len]);
            for i in 0..len {
                let centred = x[i] - mean[i];
                let masked = if centred * gain[i] + bias[i] <= T::zero() { T::zero() } else { grad[i] };
                grad[i] = gain[i] * (masked - mean_gradient[i] - centred * tilt[i]);
            }
        }
    }
}
