//! Squeeze-and-excitation: Hu, Shen and Sun, "Squeeze-and-Excitation Networks", section 3.

use abn_core::Result;
use abn_core::layers::{Linear, LinearInit};
use abn_ops::Tracked;
use candle_nn::VarBuilder;

/// A weight for every channel of every sample, from the means of all of its channels: `fc1` to a
/// sixteenth of them, ReLU, `fc2` back, sigmoid.
pub(crate) struct Squeeze {
    fc1: Linear,
    fc2: Linear,
}

impl Squeeze {
    /// The paper's r.
    const REDUCTION: usize = 16;

    pub(crate) fn new(channels: usize, vb: &VarBuilder) -> Result<Self> {
        let hidden = channels / Self::REDUCTION;
        Ok(Self {
            fc1: Linear::new(channels, hidden, LinearInit::Uniform, vb.pp("fc1"))?,
            fc2: Linear::new(hidden, channels, LinearInit::Uniform, vb.pp("fc2"))?,
        })
    }

    /// (N, h, w, C) to weights (N, C), 0 to 1.
    pub(crate) fn forward(&self, x: &Tracked) -> Result<Tracked> {
        let hidden = self.fc1.forward(&abn_ops::global_avg_pool(x)?)?;
        Ok(abn_ops::sigmoid(&self.fc2.forward(&abn_ops::relu(&hidden)?)?)?)
    }
}
