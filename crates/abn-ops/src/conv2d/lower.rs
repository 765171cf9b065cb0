//! The input as forward pass and weight gradient see it: taps, and values of a tap that lie
//! next to each other.

use std::borrow::Cow;

use rayon::prelude::*;

use super::Geometry;
use super::pack::WeightMap;
use crate::host::Element;

/// One step from an output pixel's first input pixel.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tap {
    pub row: usize,
    pub column: usize,
    /// Its position in the weights of one output and one input channel.
    pub weight: usize,
}

/// How a convolution's input is read, and what of it meets which weight.
pub(super) struct Lowering {
    pub h: usize,
    pub w: usize,
    /// Elements of a pixel, of all groups.
    pub pixel: usize,
    pub padding: usize,
    pub taps: Vec<Tap>,
    /// Position in the weight of each value that a tap reads.
    pub channels: Vec<usize>,
    /// Whether a kernel row is read as one tap, from images with real zeros around them.
    pub rows: bool,
}

/// Up to so many channels, a whole kernel row is read as one tap.
const FEW_CHANNELS: usize = 4;

impl Lowering {
    pub fn new(geo: &Geometry) -> Self {
        let area = geo.kh * geo.kw;
        if geo.kw > 1 && geo.ci <= FEW_CHANNELS && geo.groups == 1 && geo.dilation == 1 {
            // A kernel row's values are neighbours in memory once the borders are real zeros.
            let taps = (0..geo.kh).map(|u| Tap { row: u, column: 0, weight: u * geo.kw }).collect();
            let columns = (0..geo.kw).flat_map(|v| (0..geo.ci).map(move |c| c * area + v));
            let (h, w) = (geo.h + 2 * geo.padding, geo.w + 2 * geo.padding);
            let channels = columns.collect();
            return Self { h, w, pixel: geo.ci, padding: 0, taps, channels, rows: true };
        }
        let (step, kw) = (geo.dilation, geo.kw);
        let tap = |t| Tap { row: t / kw * step, column: t % kw * step, weight: t };
        Self {
            h: geo.h,
            w: geo.w,
            pixel: geo.ci,
            padding: geo.padding,
            taps: (0..area).map(tap).collect(),
            channels: (0..geo.ci / geo.groups).map(|c| c * area).collect(),
            rows: false,
        }
    }

    /// The input as it is read.
    pub fn data<'a, T: Element>(&self, geo: &Geometry, x: &'a [T]) -> Cow<'a, [T]> {
        if self.padding == geo.padding { Cow::Borrowed(x) } else { padded(geo, x).into() }
    }

    pub fn weight_map(&self, geo: &Geometry) -> WeightMap {
        let column_step = geo.ci / geo.groups * geo.kh * geo.kw;
        let columns = geo.co / geo.groups;
        WeightMap {
            groups: geo.groups,
            group_step: columns * column_step,
            columns,
            column_step,
            taps: self.taps.iter().map(|tap| tap.weight).collect(),
            channels: self.channels.clone(),
            channels_apart: false,
        }
    }
}

/// The images with their zero borders.
fn padded<T: Element>(geo: &Geometry, x: &[T]) -> Vec<T> {
    let (w, border) = (geo.w * geo.ci, geo.padding * geo.ci);
    let row = w + 2 * border;
    let image = (geo.h + 2 * geo.padding) * row;
    let mut out = vec![T::zero(); geo.n * image];
    out.par_chunks_mut(image).zip(x.par_chunks(geo.h * w)).for_each(|(out, x)| {
        let rows = out[geo.padding * row..].chunks_mut(row);
        rows.zip(x.chunks(w)).for_each(|(out, x)| out[border..border + w].copy_from_slice(x));
    });
    out
}
