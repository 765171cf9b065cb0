//! The attention branch's head: a map for every task.

use abn_core::Mode;
use abn_core::layers::{BatchNorm2d, BatchNormConfig, Conv2d, ConvNorm, conv1x1};
use abn_ops::Tracked;
use candle_nn::VarBuilder;

use crate::{Pooling, Result, Task};

/// From the trunk's features, T attention maps and the attention branch's scores.
///
/// As published, for a task of two answers: one map from a 1×1 convolution (`conv_att`), without
/// batch norm or sigmoid; the map is M_t, and its mean or maximum is the logit of yes.
///
/// Nobody published tasks of more answers. Such a task has a class map for each of them from
/// `conv_att`, pooled to its class scores, and M_t from these as in the branch for one task: a 1×1
/// convolution to one channel (`conv_map.t`), batch norm (`bn_map.t`) and sigmoid.
pub struct MapBranch {
    conv_att: Conv2d,
    tasks: Vec<TaskMap>,
    pooling: Pooling,
}

struct TaskMap {
    /// First channel of `conv_att` and number of channels.
    start: usize,
    classes: usize,
    /// Where there is more than one.
    to_map: Option<ConvNorm>,
}

/// Class maps of a task.
fn classes(task: &Task) -> usize {
    if task.is_binary() { 1 } else { task.categories }
}

impl MapBranch {
    /// A head for `channels` trunk channels.
    ///
    /// # Errors
    /// If the store holds a parameter of that name with another shape.
    pub fn new(
        channels: usize,
        tasks: &[Task],
        pooling: Pooling,
        norm: BatchNormConfig,
        vb: VarBuilder,
    ) -> Result<Self> {
        let total = tasks.iter().map(classes).sum();
        let mut start = 0;
        let mut map = |(t, task): (usize, &Task)| -> Result<TaskMap> {
            let classes = classes(task);
            let to_map = if classes > 1 {
                let conv = conv1x1(classes, 1, 1, vb.pp("conv_map").pp(t))?;
                Some(ConvNorm::new(conv, BatchNorm2d::new(1, norm, vb.pp("bn_map").pp(t))?))
            } else {
                None
            };
            start += classes;
            Ok(TaskMap { start: start - classes, classes, to_map })
        };
        let tasks = tasks.iter().enumerate().map(&mut map).collect::<Result<_>>()?;
        Ok(Self { conv_att: conv1x1(channels, total, 1, vb.pp("conv_att"))?, tasks, pooling })
    }

    /// The attention branch's scores, each task's (N, 1) or (N, C_t), and the maps M.
    ///
    /// # Shapes
    /// `trunk` (N, h, w, trunk channels); the maps (N, h, w, T).
    ///
    /// # Errors
    /// If the features have other channels.
    pub fn forward(&self, trunk: &Tracked, mode: Mode) -> Result<(Vec<Tracked>, Tracked)> {
        let class_maps = self.conv_att.forward(trunk)?;
        let pooled = match self.pooling {
            Pooling::Mean => abn_ops::global_avg_pool(&class_maps)?,
            Pooling::Max => abn_ops::global_max_pool(&class_maps)?,
        };
        let (mut scores, mut maps) = (Vec::new(), Vec::new());
        for TaskMap { start, classes, to_map } in &self.tasks {
            let channels = *start..start + classes;
            scores.push(abn_ops::narrow(&pooled, 1, channels.clone())?);
            if let Some(to_map) = to_map {
                let own = abn_ops::narrow(&class_maps, 3, channels)?;
                maps.push(abn_ops::sigmoid(&to_map.forward(&own, None, false, mode)?)?);
            } else if self.tasks.iter().any(|task| task.to_map.is_some()) {
                maps.push(abn_ops::narrow(&class_maps, 3, channels)?);
            }
        }
        if maps.is_empty() {
            return Ok((scores, class_maps));
        }
        Ok((scores, abn_ops::concat(&maps.iter().collect::<Vec<_>>())?))
    }
}
