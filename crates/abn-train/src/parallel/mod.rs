//! Data-parallel training: several processes train one network, each on its part of every batch.
//!
//! The processes are numbered by *rank*; rank 0 alone writes. Everybody computes the gradient of its
//! part, [`Buckets`] sums them over the ranks while the backward pass goes on, and everybody takes the
//! same step. What is counted on the way is summed after each step, and evaluation is shared image by
//! image, so that a run's records are those of one process.

mod buckets;
mod exchange;
mod group;
mod launch;
mod link;
#[cfg(feature = "nccl")]
mod nccl;
mod place;
mod reducer;
mod rendezvous;
mod stdin;
mod team;

pub use group::{Group, JoinOptions, Transport};
pub use launch::{Ended, Launch, is_launched, launch, left_to_parent};
pub use place::Place;
pub use reducer::Reducer;
pub use stdin::stop_with_parent;

pub(crate) use team::{Gradients, Team};
