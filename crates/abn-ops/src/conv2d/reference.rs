//! Convolution as its equation says, one pixel and tap at a time.

use rayon::prelude::*;

use super::Geometry;
use crate::host::Element;

/// Output positions `o` with `0 <= o·stride + tap·dilation − padding < size`.
fn valid(geo: &Geometry, tap: usize, size: usize, outputs: usize) -> impl Iterator<Item = usize> {
    let Geometry { stride, padding, dilation, .. } = *geo;
    let inside = move |at: usize| (padding..size + padding).contains(&at);
    (0..outputs).filter(move |o| inside(o * stride + tap * dilation))
}

/// Calls `f(output pixel, input pixel)` for each pixel of an image that tap `(u, v)` reaches.
fn each_pixel(geo: &Geometry, u: usize, v: usize, mut f: impl FnMut(usize, usize)) {
    for i in valid(geo, u, geo.h, geo.oh) {
        let row = i * geo.stride + u * geo.dilation - geo.padding;
        for j in valid(geo, v, geo.w, geo.ow) {
            let column = j * geo.stride + v * geo.dilation - geo.padding;
            f(i * geo.ow + j, row * geo.w + column);
        }
    }
}

fn taps(geo: &Geometry) -> impl Iterator<Item = (usize, usize)> {
    let kw = geo.kw;
    (0..geo.kh).flat_map(move |u| (0..kw).map(move |v| (u, v)))
}

/// The weight of tap `(u, v)` as rows of a group's output channels, `[o][c]`.
fn tap_weight<T: Element>(geo: &Geometry, weight: &[T], u: usize, v: usize) -> Vec<T> {
    weight.iter().skip(u * geo.kw + v).step_by(geo.kh * geo.kw).copied().collect()
}

pub fn forward<T: Element>(geo: &Geometry, x: &[T], weight: &[T], bias: Option<&[T]>) -> Vec<T> {
    let (gi, go) = (geo.ci / geo.groups, geo.co / geo.groups);
    let mut y = vec![T::zero(); geo.n * geo.oh * geo.ow * geo.co];
    if let Some(bias) = bias {
        y.par_chunks_mut(geo.co).for_each(|pixel| pixel.copy_from_slice(bias));
    }
    for (u, v) in taps(geo) {
        let weight = tap_weight(geo, weight, u, v);
        let images = x.par_chunks(geo.h * geo.w * geo.ci);
        y.par_chunks_mut(geo.oh * geo.ow * geo.co).zip(images).for_each(|(y, x)| {
            each_pixel(geo, u, v, |out, at| {
                for o in 0..geo.co {
                    let x = &x[at * geo.ci + o / go * gi..][..gi];
                    let w = &weight[o * gi..][..gi];
                    y[out * geo.co + o] += x.iter().zip(w).map(|(&x, &w)| x * w).sum::<T>();
                }
            });
        });
    }
    y
}

pub fn input_gradient<T: Element>(geo: &Geometry, weight: &[T], dy: &[T]) -> Vec<T> {
    let (gi, go) = (geo.ci / geo.groups, geo.co / geo.groups);
    let mut dx = vec![T::zero(); geo.n * geo.h * geo.w * geo.ci];
    for (u, v) in taps(geo) {
        let weight = tap_weight(geo, weight, u, v);
        let images = dy.par_chunks(geo.oh * geo.ow * geo.co);
        dx.par_chunks_mut(geo.h * geo.w * geo.ci).zip(images).for_each(|(dx, dy)| {
            each_pixel(geo, u, v, |out, at| {
                for o in 0..geo.co {
                    let dy = dy[out * geo.co + o];
                    let dx = &mut dx[at * geo.ci + o / go * gi..][..gi];
                    dx.iter_mut().zip(&weight[o * gi..][..gi]).for_each(|(dx, &w)| *dx += dy * w);
                }
            });
        });
    }
    dx
}

pub fn weight_gradient<T: Element>(geo: &Geometry, x: &[T], dy: &[T]) -> Vec<T> {
    let (gi, go) = (geo.ci / geo.groups, geo.co / geo.groups);
    let taps = taps(geo).collect::<Vec<_>>();
    let sums = taps.par_iter().map(|&(u, v)| {
        let mut sum = vec![T::zero(); geo.co * gi];
        let images = dy.chunks(geo.oh * geo.ow * geo.co).zip(x.chunks(geo.h * geo.w * geo.ci));
        for (dy, x) in images {
            each_pixel(geo, u, v, |out, at| {
                for o in 0..geo.co {
                    let dy = dy[out * geo.co + o];
                    let x = &x[at * geo.ci + o / go * gi..][..gi];
                    sum[o * gi..][..gi].iter_mut().zip(x).for_each(|(s, &x)| *s += dy * x);
                }
            });
        }
        sum
    });
    let sums = sums.collect::<Vec<_>>();
    let mut dw = Vec::with_capacity(geo.co * gi * taps.len());
    for k in 0..geo.co * gi {
        dw.extend(sums.iter().map(|sum| sum[k]));
    }
    dw
}

pub fn bias_gradient<T: Element>(geo: &Geometry, dy: &[T]) -> Vec<T> {
    let mut sum = vec![T::zero(); geo.co];
    for pixel in dy.chunks(geo.co) {
        sum.iter_mut().zip(pixel).for_each(|(s, &d)| *s += d);
    }
    sum
}
