//! Mixed precision for models of several tasks.

use abn_core::{Mixed, Mode};
use abn_ops::Tracked;
use candle_core::Tensor;
use candle_core::backprop::GradStore;

use crate::{Attention, MultiTask, Output, Result, Step, Task};

/// What the model has given, in f32.
fn outside<M>(mixed: &Mixed<M>, Output { logits, attention }: Output) -> Result<Output> {
    let all = |values: &[Tracked]| -> Result<Vec<Tracked>> {
        values.iter().map(|value| Ok(mixed.leave(value)?)).collect()
    };
    let attention = attention.map(|Attention { logits, maps }| -> Result<Attention> {
        Ok(Attention { logits: all(&logits)?, maps: mixed.leave(&maps)? })
    });
    Ok(Output { logits: all(&logits)?, attention: attention.transpose()? })
}

impl<M: MultiTask> MultiTask for Mixed<M> {
    fn tasks(&self) -> &[Task] {
        self.inner().tasks()
    }

    fn forward(&self, image: &Tracked, mode: Mode) -> Result<Output> {
        outside(self, self.inner().forward(&self.enter(image)?, mode)?)
    }

    fn backward_into(
        &self,
        image: &Tracked,
        labels: &Tensor,
        mode: Mode,
        scale: f64,
        store: &mut GradStore,
    ) -> Result<Step> {
        let image = self.enter(image)?;
        let step = self.inner().backward_into(&image, labels, mode, scale, store)?;
        Ok(Step { output: outside(self, step.output)?, ..step })
    }
}

impl<M: MultiTask + ?Sized> MultiTask for Box<M> {
    fn tasks(&self) -> &[Task] {
        (**self).tasks()
    }

    fn forward(&self, image: &Tracked, mode: Mode) -> Result<Output> {
        (**self).forward(image, mode)
    }

    fn backward_into(
        &self,
        image: &Tracked,
        labels: &Tensor,
        mode: Mode,
        scale: f64,
        store: &mut GradStore,
    ) -> Result<Step> {
        (**self).backward_into(image, labels, mode, scale, store)
    }
}
