//! Sizes of a convolution, checked.

use super::Conv2dConfig;
use crate::{Error, Result};

/// All sizes of one convolution; the names are those of the equation in [`super::conv2d`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Geometry {
    /// Batch size.
    pub n: usize,
    /// Input rows.
    pub h: usize,
    /// Input columns.
    pub w: usize,
    /// Input channels, of all groups.
    pub ci: usize,
    /// Output channels, of all groups.
    pub co: usize,
    /// Kernel rows.
    pub kh: usize,
    /// Kernel columns.
    pub kw: usize,
    /// Output rows.
    pub oh: usize,
    /// Output columns.
    pub ow: usize,
    pub stride: usize,
    pub padding: usize,
    pub dilation: usize,
    pub groups: usize,
}

impl Geometry {
    /// Checks shapes and settings.
    pub fn new(
        op: &'static str,
        x: &[usize],
        weight: &[usize],
        bias: Option<&[usize]>,
        cfg: &Conv2dConfig,
    ) -> Result<Self> {
        let Conv2dConfig { stride, padding, dilation, groups } = *cfg;
        let &[n, h, w, ci] = x else {
            return Err(Error::shape(op, "an input (N, H, W, C)", x));
        };
        let &[co, group_ci, kh, kw] = weight else {
            return Err(Error::shape(op, "a weight (C_out, C_in / groups, KH, KW)", weight));
        };
        if stride == 0 || dilation == 0 || groups == 0 {
            return Err(Error::config(op, "stride, dilation and groups must be at least 1"));
        }
        if ci % groups != 0 || co % groups != 0 {
            let reason = format!("{groups} groups divide {ci} input and {co} output channels not");
            return Err(Error::config(op, reason));
        }
        if group_ci != ci / groups || x.contains(&0) || weight.contains(&0) {
            let expected = format!(
                "a weight (C_out, {}, KH, KW) for an input {x:?} in {groups} group(s), no size 0",
                ci / groups
            );
            return Err(Error::shape(op, expected, weight));
        }
        if let Some(bias) = bias
            && bias != [co]
        {
            return Err(Error::shape(op, format!("a bias of {co} element(s)"), bias));
        }
        let (span_h, span_w) = (dilation * (kh - 1) + 1, dilation * (kw - 1) + 1);
        if span_h > h + 2 * padding || span_w > w + 2 * padding {
            let expected = format!(
                "an input of at least {span_h}x{span_w} pixels with {padding} of padding on each side"
            );
            return Err(Error::shape(op, expected, x));
        }
        let oh = (h + 2 * padding - span_h) / stride + 1;
        let ow = (w + 2 * padding - span_w) / stride + 1;
        Ok(Self { n, h, w, ci, co, kh, kw, oh, ow, stride, padding, dilation, groups })
    }

    pub fn input_shape(&self) -> [usize; 4] {
        [self.n, self.h, self.w, self.ci]
    }

    pub fn weight_shape(&self) -> [usize; 4] {
        [self.co, self.ci / self.groups, self.kh, self.kw]
    }

    pub fn output_shape(&self) -> [usize; 4] {
        [self.n, self.oh, self.ow, self.co]
    }

    /// Multiply-adds of the forward pass, those with padding included.
    pub fn macs(&self) -> u64 {
        let weights: usize = self.weight_shape().iter().product();
        (self.n * self.oh * self.ow) as u64 * weights as u64
    }
}
