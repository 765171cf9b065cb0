//! Mixed precision: feature maps of fewer bits than the parameters have.

use abn_ops::{Tracked, cast, has_kernels};
use candle_core::{DType, Device, Tensor};

use crate::{Attention, Classifier, Error, Features, Mode, Output, Result};

/// A model whose feature maps and their gradients are bf16, while everything outside of it is as ever:
/// what PyTorch calls `torch.autocast(dtype=torch.bfloat16)`.
///
/// Images are rounded on their way in, and class scores and attention maps given back in f32. Between
/// the two, convolutions and linear layers round their weights, once in each pass, and add up in f32;
/// batch norm takes its statistics, and normalises, in f32. Parameters, running statistics and the
/// parameters' gradients are f32 throughout, and so is what an optimizer makes of them.
pub struct Mixed<M> {
    model: M,
    /// Of feature maps.
    dtype: DType,
}

impl<M> Mixed<M> {
    /// Wraps a model whose parameters are f32 and lie on `device`.
    ///
    /// # Errors
    /// [`Error::Precision`] if there are no kernels for bf16 feature maps there: only GPUs have them.
    pub fn bf16(model: M, device: &Device) -> Result<Self> {
        if !has_kernels(device, DType::BF16) {
            return Err(Error::Precision);
        }
        Ok(Self { model, dtype: DType::BF16 })
    }

    /// The model, which works on bf16 images too.
    pub fn inner(&self) -> &M {
        &self.model
    }

    /// What is given to the model.
    ///
    /// # Errors
    /// If there is no memory for it.
    pub fn enter(&self, value: &Tracked) -> Result<Tracked> {
        Ok(cast(value, self.dtype)?)
    }

    /// What the model has given.
    ///
    /// # Errors
    /// If there is no memory for it.
    pub fn leave(&self, value: &Tracked) -> Result<Tracked> {
        Ok(cast(value, DType::F32)?)
    }
}

impl<C: Classifier> Mixed<C> {
    fn attention(&self, attention: Option<Attention>) -> Result<Option<Attention>> {
        let out = |Attention { logits, map }: Attention| {
            Ok(Attention { logits: self.leave(&logits)?, map: self.leave(&map)? })
        };
        attention.map(out).transpose()
    }

    fn seen(&self, Features { last, attention }: Features) -> Result<Features> {
        Ok(Features { last: self.leave(&last)?, attention: self.attention(attention)? })
    }
}

impl<C: Classifier> Classifier for Mixed<C> {
    fn features(&self, image: &Tracked, mode: Mode) -> Result<Features> {
        self.seen(self.model.features(&self.enter(image)?, mode)?)
    }

    fn classify(&self, last: &Tracked, mode: Mode) -> Result<Tracked> {
        self.leave(&self.model.classify(&self.enter(last)?, mode)?)
    }

    fn class_weights(&self) -> Option<&Tensor> {
        self.model.class_weights()
    }

    fn features_with(&self, image: &Tracked, map: &Tracked, mode: Mode) -> Result<Features> {
        self.seen(self.model.features_with(&self.enter(image)?, &self.enter(map)?, mode)?)
    }

    /// Both steps, between which the last feature map stays as it is.
    fn forward(&self, image: &Tracked, mode: Mode) -> Result<Output> {
        let Output { logits, attention } = self.model.forward(&self.enter(image)?, mode)?;
        Ok(Output { logits: self.leave(&logits)?, attention: self.attention(attention)? })
    }
}
