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

mod branch;
mod build;
mod config;
mod error;
mod loss;
mod model;
mod step;
mod task;
#[cfg(test)]
mod tests;

pub use branch::MapBranch;
pub use build::{BuildOptions, Variant, build, cost};
pub use config::{AnswerForm, Config, Form, Pooling};
pub use error::{Error, Result};
pub use loss::{Loss, loss};
pub use model::{Attention, MultiTask, MultiTaskAbn, MultiTaskBaseline, Output};
pub use step::Step;
pub use task::Task;
