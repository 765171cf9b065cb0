//! Attention Branch Networks for several tasks at once (section 3.4 of the paper): for every task
//! an attention map of its own, and an answer from the features weighted by that map.
//!
//! ```text
//! image ─ extract ─ g(x) ┬ attention_trunk ─ conv_att ┬ pool ──────────────────────── attention scores
//!                        │                            └ M₁ … M_T
//!                        └ g·M₁ ─ deepen ─ embed ─ output_per.0 ───────────────────── answer to task 1
//!                          g·M₂ ─ deepen ─ embed ─ output_per.1 ───────────────────── answer to task 2
//!                           ⋮      (the same weights for every task)
//! ```
//!
//! Equation (4) is the feature map weighted by a task's map, equation (5) the answer of the
//! perception branch to it: [`MultiTaskAbn`]. [`MultiTaskBaseline`] is the same network without
//! attention branch: one perception pass, an output per task. Both are made of any
//! [`Backbone`](abn_core::Backbone), by [`build`] of any named one. [`Form`] is which of the
//! published models: the paper's (Chainer) or the authors' later one in PyTorch.
//!
//! The T perception passes run as one of T·N images, of which each task's N have batch statistics
//! of their own ([`Mode::TrainParts`](abn_core::Mode::TrainParts)): the numbers are those of T passes one
//! after the other. [`MultiTask::backward_into`] trains in as little memory as
//! [`Config::tasks_per_pass`] asks for.
//!
//! ```
//! use abn_core::{Mode, ParamStore};
//! use abn_multitask::{BuildOptions, Form, Task, Variant, build};
//! use abn_ops::Tracked;
//! use candle_core::backprop::GradStore;
//! use candle_core::{DType, Device, Tensor};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let params = ParamStore::new(0, DType::F32, Device::Cpu);
//! let tasks = [Task::binary("smiling"), Task::binary("hat"), Task::new("hair", 4)];
//! let options = BuildOptions::new(Variant::Abn, Form::Chainer.config());
//! let spec = abn_backbones::find("resnet8")?;
//! let model = build(&spec, &tasks, &options, params.var_builder())?;
//!
//! let images = Tracked::constant(Tensor::zeros((2, 3, 32, 32), DType::F32, &Device::Cpu)?);
//! let labels = Tensor::new(&[[1u32, 0, 3], [0, 0, 1]], &Device::Cpu)?;
//! let mut gradients = GradStore::default();
//! let step = model.backward_into(&images, &labels, Mode::Train { seed: 0 }, 1.0, &mut gradients)?;
//! let maps = step.output.attention.expect("an ABN has them").maps;
//! assert_eq!(maps.dims(), [2, 3, 16, 16]); // one for each image and task
//! # Ok(())
//! # }
//! ```

mod branch;
mod build;
mod config;
mod error;
mod loss;
mod mixed;
mod model;
mod step;
mod task;
#[cfg(test)]
mod tests;

pub use branch::MapBranch;
pub use build::{BuildOptions, Variant, build, cost, cost_at};
pub use config::{AnswerForm, Config, Form, Pooling};
pub use error::{Error, Result};
pub use loss::{Loss, loss};
pub use model::{Attention, MultiTask, MultiTaskAbn, MultiTaskBaseline, Output};
pub use step::Step;
pub use task::Task;
