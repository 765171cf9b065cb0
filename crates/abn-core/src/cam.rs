//! Class activation maps: Zhou, Khosla, Lapedriza, Oliva and Torralba, "Learning Deep Features for
//! Discriminative Localization" (CVPR 2016).

use abn_ops::Tracked;
use candle_core::{DType, Tensor};
use candle_nn::VarBuilder;

use crate::layers::{Conv2d, Linear, LinearInit, conv3x3};
use crate::model::LAST;
use crate::{Backbone, Classifier, Features, Mode, Result, observe};

/// A backbone whose fully connected layers have given way to a 3×3 convolution with ReLU
/// (`cam_conv`, as wide as the feature map before it), the mean of each channel and one linear
/// layer (`cam_fc`), so that every class has a map: [`class_activation_maps`].
pub struct Cam<B> {
    backbone: B,
    cam_conv: Conv2d,
    cam_fc: Linear,
}

impl<B: Backbone> Cam<B> {
    /// Puts the layers for K classes on a backbone, which may be built without a classifier.
    ///
    /// # Errors
    /// If the store holds a parameter of that name with another shape.
    pub fn new(backbone: B, classes: usize, vb: VarBuilder) -> Result<Self> {
        let channels = backbone.last_channels();
        let conv = vb.pp("cam_conv");
        Ok(Self {
            cam_conv: conv3x3(channels, channels, 1, conv.clone())?.with_bias(conv)?,
            cam_fc: Linear::new(channels, classes, LinearInit::Uniform, vb.pp("cam_fc"))?,
            backbone,
        })
    }
}

impl<B: Backbone> Classifier for Cam<B> {
    fn features(&self, image: &Tracked, mode: Mode) -> Result<Features> {
        let feature = self.backbone.extract(image, mode)?;
        let last = self.cam_conv.forward(&self.backbone.deepen(&feature, mode)?)?;
        Ok(Features { last: observe::offer(LAST, abn_ops::relu(&last)?), attention: None })
    }

    fn classify(&self, last: &Tracked, _: Mode) -> Result<Tracked> {
        self.cam_fc.forward(&abn_ops::global_avg_pool(last)?)
    }

    fn class_weights(&self) -> Option<&Tensor> {
        Some(self.cam_fc.weight())
    }
}

/// Each chosen class's activation map: its row of the linear layer's weight times the feature map.
/// The mean over a map's pixels is the class's score but for the bias.
///
/// For every [`Classifier`] that gives [`class_weights`](Classifier::class_weights).
///
/// # Shapes
/// `last` (N, h, w, C), `weights` (K, C), `classes` (N, k), u32: k classes of each image. Gives
/// (N, k, h, w).
///
/// # Errors
/// If the shapes do not fit each other, or a class is not below K.
pub fn class_activation_maps(last: &Tensor, weights: &Tensor, classes: &Tensor) -> Result<Tensor> {
    const OP: &str = "class_activation_maps";
    let refuse = |expected: String, got: &Tensor| {
        Err(abn_ops::Error::Shape { op: OP, expected, got: got.dims().to_vec() }.into())
    };
    let &[n, h, w, channels] = last.dims() else {
        return refuse("a feature map (N, h, w, C)".into(), last);
    };
    let &[count, depth] = weights.dims() else { return refuse("weights (K, C)".into(), weights) };
    if depth != channels {
        return refuse(format!("weights (K, {channels})"), weights);
    }
    let &[images, chosen] = classes.dims() else { return refuse("classes (N, k)".into(), classes) };
    if images != n || chosen == 0 {
        return refuse(format!("one class or more for each of {n} images"), classes);
    }
    let indices = classes.to_dtype(DType::U32)?.flatten_all()?;
    for (i, label) in indices.to_vec1::<u32>()?.into_iter().enumerate() {
        if label as usize >= count {
            let sample = i / chosen;
            return Err(abn_ops::Error::Label { op: OP, sample, label, classes: count }.into());
        }
    }
    let rows = weights.index_select(&indices, 0)?.reshape((n, chosen, channels))?;
    let pixels = last.reshape((n, h * w, channels))?.transpose(1, 2)?;
    Ok(rows.matmul(&pixels.contiguous()?)?.reshape((n, chosen, h, w))?)
}
