//! Attention Branch Networks (Fukui, Hirakawa, Yamashita and Fujiyoshi, CVPR 2019,
//! arXiv 1812.10025): the attention branch, the attention mechanism, the models and their loss,
//! for any backbone.
//!
//! The paper in types: a [`Backbone`] is a feature extractor, a perception branch and the trunk
//! of an attention branch; [`AttentionBranch`] is the branch's head; [`Mechanism`] is equation (1)
//! or (2); [`Abn`] joins them, and [`loss()`] is equation (3). What it is compared with:
//! [`Baseline`] is the same network without the branch, [`Cam`] has the layers that give class
//! activation maps in its place, and [`Control`] has the branch but no attention.
//!
//! Parameters live in a [`ParamStore`] under the names they have in the authors' `state_dict`, so
//! weights go to and from PyTorch without renaming.

mod attention;
mod backbone;
mod cam;
mod error;
mod init;
pub mod layers;
mod loss;
mod mixed;
mod model;

pub mod observe;
mod params;
pub mod weights;

#[cfg(test)]
mod tests;

pub use attention::{AttentionBranch, AttentionConfig, MapHead, Mechanism, Preset, TrunkNorm};
pub use backbone::{Backbone, Mode};
pub use cam::{Cam, class_activation_maps};
pub use error::{Error, Result};
pub use loss::{Loss, loss, smoothed_loss};
pub use mixed::Mixed;
pub use model::{
    ATTENDED, Abn, Attention, Baseline, Classifier, Control, EXTRACTOR, Features, LAST, Output,
    TRUNK,
};
pub use params::{LoadReport, ParamStore};
