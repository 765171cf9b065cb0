//! A second copy of a network, whose weights are the exponential moving average of the trained
//! ones.

use abn_core::ParamStore;
use candle_core::{DType, Tensor, Var};

use crate::Result;
use crate::card::Card;
use crate::network::Network;

/// The averaged network: PyTorch's `torch.optim.swa_utils.AveragedModel` with
/// `get_ema_multi_avg_fn(decay)` and `use_buffers=True`.
///
/// The first step copies; every later one moves each weight w̄, and each running statistic of
/// batch norm, by w̄ ← w̄ + (1 − decay)·(w − w̄).
pub(crate) struct Ema {
    /// The averaged network.
    pub model: Network,
    /// Its weights.
    pub params: ParamStore,
    /// Each average with what it is the average of, in the order of their names.
    pairs: Vec<(Var, Tensor)>,
    decay: f64,
}

impl Ema {
    /// An average of `trained`, a network of this card, that has seen no step.
    pub fn new(card: &Card, trained: &ParamStore, decay: f64) -> Result<Self> {
        let params = ParamStore::new(0, DType::F32, trained.device().clone());
        let model = card.build(&params)?.in_precision(card.recipe.precision, params.device())?;
        let averages = params.tensors();
        let mut pairs = Vec::with_capacity(averages.len());
        for (name, value) in trained.tensors() {
            if let Some(average) = averages.get(&name) {
                pairs.push((Var::from_tensor(average)?, value));
            }
        }
        Ok(Self { model, params, pairs, decay })
    }

    /// Takes in the weights after an optimizer step, of which `step` came before.
    pub fn update(&self, step: usize) -> Result<()> {
        if step == 0 {
            for (average, value) in &self.pairs {
                average.set(value)?;
            }
            return Ok(());
        }
        let pairs: Vec<_> = self.pairs.iter().map(|(a, value)| (a.as_tensor(), value)).collect();
        Ok(abn_ops::ema_step_all(&pairs, self.decay)?)
    }
}
