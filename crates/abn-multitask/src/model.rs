//! The models: a backbone with an attention map and an answer for every task, and without maps.

use std::ops::Range;

use abn_core::layers::{BatchNormConfig, Linear, LinearInit};
use abn_core::{ATTENDED, Backbone, EXTRACTOR, LAST, Mechanism, Mode, TRUNK, observe};
use abn_ops::Tracked;
use candle_core::Tensor;
use candle_core::backprop::GradStore;
use candle_nn::VarBuilder;

use crate::{Config, MapBranch, Result, Step, Task, step, task};

/// What a model for several tasks answers.
pub struct Output {
    /// The answer to each task: (N, 1), a logit of yes, or (N, C_t), equation (5).
    pub logits: Vec<Tracked>,
    /// What the attention branch gives, if there is one.
    pub attention: Option<Attention>,
}

/// What the attention branch gives.
pub struct Attention {
    /// The branch's own scores for each task: (N, 1), a logit of yes, or (N, C_t).
    pub logits: Vec<Tracked>,
    /// The attention maps M_t (N, T, h, w). Those of tasks with two answers are of either sign and
    /// any size.
    pub maps: Tracked,
}

impl Output {
    /// The answers (N, T), u32.
    ///
    /// # Errors
    /// None but candle's own.
    pub fn predictions(&self) -> Result<Tensor> {
        predictions(&self.logits)
    }

    /// The probability of each of a task's answers (N, C_t), for each task: a logit's is that of
    /// no and yes.
    ///
    /// # Errors
    /// None but candle's own.
    pub fn probabilities(&self) -> Result<Vec<Tensor>> {
        let one = |logits: &Tracked| match logits.dims()[1] {
            1 => {
                let yes = abn_ops::sigmoid(&logits.detach())?.into_value();
                Ok(Tensor::cat(&[yes.affine(-1.0, 1.0)?, yes], 1)?)
            }
            _ => Ok(abn_ops::softmax(logits.value())?),
        };
        self.logits.iter().map(one).collect()
    }
}

impl Attention {
    /// The attention branch's own answers (N, T), u32.
    ///
    /// # Errors
    /// None but candle's own.
    pub fn predictions(&self) -> Result<Tensor> {
        predictions(&self.logits)
    }
}

fn predictions(logits: &[Tracked]) -> Result<Tensor> {
    Ok(abn_ops::task_answers(&logits.iter().map(Tracked::value).collect::<Vec<_>>())?)
}

/// A model for several tasks.
pub trait MultiTask: Send + Sync {
    /// What it answers.
    fn tasks(&self) -> &[Task];

    /// Images (N, 3, H, W) to an answer to each task.
    ///
    /// # Errors
    /// If the images have the wrong shape.
    fn forward(&self, image: &Tracked, mode: Mode) -> Result<Output>;

    /// A training pass: adds the gradients of [`loss`](crate::loss()) times `scale` to `store`.
    ///
    /// The same as [`MultiTask::forward`], the loss and its backward pass, but that the perception
    /// branch goes forward and backward for [`Config::tasks_per_pass`] tasks before it turns to the
    /// next ones, so that no more than theirs is held in memory.
    ///
    /// # Shapes
    /// `image` (N, 3, H, W), `labels` (N, T), u32.
    ///
    /// # Errors
    /// [`crate::Error::NotTraining`] unless `mode` is [`Mode::Train`]; if the images have the wrong shape,
    /// or a label is not below its task's categories. `store` then holds part of the sum.
    fn backward_into(
        &self,
        image: &Tracked,
        labels: &Tensor,
        mode: Mode,
        scale: f64,
        store: &mut GradStore,
    ) -> Result<Step>;
}

/// The last layer of each task, `output_per.t`.
struct Heads(Vec<Linear>);

impl Heads {
    fn new(inputs: usize, tasks: &[Task], config: &Config, vb: VarBuilder) -> Result<Self> {
        let head = |(t, task)| {
            let vb = vb.pp("output_per").pp(t);
            Ok(Linear::new(inputs, config.outputs(task), LinearInit::Uniform, vb)?)
        };
        Ok(Self(tasks.iter().enumerate().map(head).collect::<Result<_>>()?))
    }
}

/// Attention Branch Network for T tasks (section 3.4 of the paper): T maps from one attention
/// branch, and for each of them the perception branch's answer, with the same weights.
pub struct MultiTaskAbn<B> {
    backbone: B,
    branch: MapBranch,
    heads: Heads,
    tasks: Vec<Task>,
    config: Config,
}

/// What the perception branch starts from.
pub(crate) struct Seen {
    /// g(x) (N, h, w, C).
    pub feature: Tracked,
    /// M (N, h, w, T).
    pub maps: Tracked,
}

impl<B: Backbone> MultiTaskAbn<B> {
    /// Adds an attention branch and a last layer for each task to a backbone that has its trunk.
    ///
    /// # Errors
    /// [`abn_core::Error::NoTrunk`] if it was built without one; [`crate::Error::Tasks`] of tasks that
    /// cannot be; or if the store holds a parameter of the same name with another shape.
    pub fn new(
        backbone: B,
        tasks: Vec<Task>,
        config: Config,
        norm: BatchNormConfig,
        vb: VarBuilder,
    ) -> Result<Self> {
        task::check(&tasks)?;
        let channels = backbone.trunk_channels().ok_or(abn_core::Error::NoTrunk)?;
        let heads = Heads::new(backbone.embedded(), &tasks, &config, vb.clone())?;
        let branch = MapBranch::new(channels, &tasks, config.pooling, norm, vb)?;
        Ok(Self { backbone, branch, heads, tasks, config })
    }

    /// The tasks of each pass of the perception branch, in their order.
    pub(crate) fn passes(&self) -> impl Iterator<Item = Range<usize>> {
        let count = self.tasks.len();
        let step = self.config.tasks_per_pass.map_or(count, |tasks| tasks.get());
        (0..count).step_by(step).map(move |first| first..(first + step).min(count))
    }

    /// Extractor and attention branch: the latter's scores, and what the perception branch sees.
    pub(crate) fn look(&self, image: &Tracked, mode: Mode) -> Result<(Vec<Tracked>, Seen)> {
        let feature = observe::offer(EXTRACTOR, self.backbone.extract(image, mode)?);
        let trunk = observe::offer(TRUNK, self.backbone.attention_trunk(&feature, mode)?);
        let (scores, maps) = self.branch.forward(&trunk, mode)?;
        Ok((scores, Seen { feature, maps }))
    }

    /// The perception branch's answers to some of the tasks, in one pass (equations 4 and 5).
    pub(crate) fn perceive(
        &self,
        Seen { feature, maps }: &Seen,
        tasks: Range<usize>,
        mode: Mode,
    ) -> Result<Vec<Tracked>> {
        let residual = self.config.mechanism == Mechanism::Residual;
        let mode = mode.parts(tasks.start, tasks.len())?;
        let attended = abn_ops::attend_each(feature, maps, tasks.clone(), residual)?;
        let attended = observe::offer(ATTENDED, attended);
        let last = observe::offer(LAST, self.backbone.deepen(&attended, mode)?);
        let embedded = self.backbone.embed(&last, mode)?;
        let images = feature.dims()[0];
        let answer = |(i, head): (usize, &Linear)| {
            let own = abn_ops::narrow(&embedded, 0, i * images..(i + 1) * images)?;
            Ok(head.forward(&own)?)
        };
        self.heads.0[tasks].iter().enumerate().map(answer).collect()
    }
}

impl<B: Backbone> MultiTask for MultiTaskAbn<B> {
    fn tasks(&self) -> &[Task] {
        &self.tasks
    }

    fn forward(&self, image: &Tracked, mode: Mode) -> Result<Output> {
        let (scores, seen) = self.look(image, mode)?;
        let mut logits = Vec::new();
        for tasks in self.passes() {
            logits.extend(self.perceive(&seen, tasks, mode)?);
        }
        let maps = abn_ops::to_channels_first(&seen.maps)?;
        Ok(Output { logits, attention: Some(Attention { logits: scores, maps }) })
    }

    fn backward_into(
        &self,
        image: &Tracked,
        labels: &Tensor,
        mode: Mode,
        scale: f64,
        store: &mut GradStore,
    ) -> Result<Step> {
        step::in_passes(self, image, labels, mode, scale, store)
    }
}

/// What [`MultiTaskAbn`] is compared with: the backbone alone, with a last layer for each task.
pub struct MultiTaskBaseline<B> {
    backbone: B,
    heads: Heads,
    tasks: Vec<Task>,
}

impl<B: Backbone> MultiTaskBaseline<B> {
    /// Adds a last layer for each task.
    ///
    /// # Errors
    /// [`crate::Error::Tasks`] of tasks that cannot be; or if the store holds a parameter of the same
    /// name with another shape.
    pub fn new(backbone: B, tasks: Vec<Task>, config: Config, vb: VarBuilder) -> Result<Self> {
        task::check(&tasks)?;
        let heads = Heads::new(backbone.embedded(), &tasks, &config, vb)?;
        Ok(Self { backbone, heads, tasks })
    }
}

impl<B: Backbone> MultiTask for MultiTaskBaseline<B> {
    fn tasks(&self) -> &[Task] {
        &self.tasks
    }

    fn forward(&self, image: &Tracked, mode: Mode) -> Result<Output> {
        let feature = observe::offer(EXTRACTOR, self.backbone.extract(image, mode)?);
        let last = observe::offer(LAST, self.backbone.deepen(&feature, mode)?);
        let embedded = self.backbone.embed(&last, mode)?;
        let answer = |head: &Linear| Ok(head.forward(&embedded)?);
        Ok(Output {
            logits: self.heads.0.iter().map(answer).collect::<Result<_>>()?,
            attention: None,
        })
    }

    fn backward_into(
        &self,
        image: &Tracked,
        labels: &Tensor,
        mode: Mode,
        scale: f64,
        store: &mut GradStore,
    ) -> Result<Step> {
        step::check(mode)?;
        let output = self.forward(image, mode)?;
        step::at_once(&self.tasks, output, labels, scale, store)
    }
}
