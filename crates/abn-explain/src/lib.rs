//! Where a classifier looked: attention maps, class activation maps, Grad-CAM, Grad-CAM++,
//! LayerCAM, guided backprop and Guided Grad-CAM, for any model and any of its layers.
//!
//! Every method is an [`Explain`]: it takes a batch of images and a class for each, and gives a map
//! (N, h, w). A method is a property of one pass: the model is borrowed, never changed. How far a map can be
//! believed is measured in [`faithfulness`]; feature `pictures` draws maps over images.
//!
//! ```
//! use abn_backbones::{BuildOptions, Variant, find};
//! use abn_core::ParamStore;
//! use abn_explain::{Attention, Explain, GradCam};
//! use candle_core::{DType, Device, Tensor};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let params = ParamStore::new(0, DType::F32, Device::Cpu);
//! let model = find("resnet8")?.build(Variant::Abn, &BuildOptions::new(10), params.var_builder())?;
//! let images = Tensor::zeros((2, 3, 32, 32), DType::F32, &Device::Cpu)?;
//!
//! let maps = GradCam::default().maps(&*model, &images, &[3, 8])?; // one class for each image
//! assert_eq!(maps.dims(), [2, 8, 8]);
//! let maps = GradCam::default().at("layer1").maps(&*model, &images, &[3, 8])?;
//! assert_eq!(maps.dims(), [2, 32, 32]);
//! let maps = Attention.maps(&*model, &images, &[3, 8])?;
//! assert_eq!(maps.dims(), [2, 16, 16]);
//! # Ok(())
//! # }
//! ```

mod attention;
mod class_activation;
mod error;
pub mod faithfulness;
mod grad_cam;
mod guided;
mod method;
#[cfg(feature = "pictures")]
pub mod pictures;
mod random;
pub mod resize;
mod target;
#[cfg(test)]
mod tests;
pub mod tsne;

pub use attention::Attention;
pub use class_activation::ClassActivation;
pub use error::{Error, Result};
pub use grad_cam::{GradCam, Weighting};
pub use guided::{GuidedBackprop, GuidedGradCam};
pub use method::{Explain, Explained, Method, layers};
pub use random::RandomMap;
pub use target::Branch;
