//! What the trainer does together with the other ranks; alone, nothing.

use std::collections::BTreeMap;
use std::sync::Arc;

use abn_core::{ParamStore, weights};
use abn_data::Shard;
use abn_ops::Across;
use candle_core::backprop::GradStore;
use candle_core::{Tensor, Var};
use serde::Serialize;
use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};

use super::buckets::Buckets;
use super::group::Group;
use crate::checkpoint::{State, Training};
use crate::tally::Tally;
use crate::weights::hex;
use crate::{Error, Result};

/// The processes that train one network; often just this one.
pub(crate) struct Team {
    group: Option<Arc<Group>>,
}

/// Entry of the start's metadata that holds the [`State`].
const STATE: &str = "state";

impl Team {
    pub fn new(group: Option<Arc<Group>>) -> Self {
        Self { group }
    }

    /// The others, if there are any.
    pub fn group(&self) -> Option<&Arc<Group>> {
        self.group.as_ref()
    }

    /// Whether this process is the one that writes.
    pub fn is_root(&self) -> bool {
        self.rank() == 0
    }

    pub fn rank(&self) -> usize {
        self.group.as_ref().map_or(0, |group| group.rank())
    }

    /// This process's part of every batch.
    pub fn shard(&self) -> Shard {
        let of = self.group.as_ref().map_or(1, |group| group.world());
        Shard { rank: self.rank(), of }
    }

    /// Fails at rank 0, and so everywhere, unless all have said the same.
    pub fn agree(&self, what: &str, text: String) -> Result<()> {
        let Some(group) = &self.group else { return Ok(()) };
        let all = group.gather(text.into_bytes())?;
        let Some((ours, others)) = all.split_first() else { return Ok(()) };
        let Some(other) = others.iter().position(|theirs| theirs != ours) else { return Ok(()) };
        let (ours, theirs) =
            (String::from_utf8_lossy(ours), String::from_utf8_lossy(&others[other]));
        let mut lines = ours.lines().zip(theirs.lines());
        let (ours, theirs) = lines.find(|(ours, theirs)| ours != theirs).unwrap_or_default();
        Err(Error::Parallel(format!(
            "rank {} has another {what} than rank 0: {theirs} there, {ours} here",
            other + 1
        )))
    }

    /// Fails, as [`agree`](Self::agree) does, unless all have the same parameters, to the bit.
    pub fn compare(&self, params: &ParamStore, epoch: usize) -> Result<()> {
        if self.group.is_none() {
            return Ok(());
        }
        let mut hash = Sha256::new();
        for (_, parameter) in params.parameters() {
            let values = parameter.flatten_all()?.to_vec1::<f32>()?;
            hash.update(values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<_>>());
        }
        self.agree(&format!("network after epoch {epoch}"), hex(&hash.finalize()))
    }

    /// What rank 0 says, for everybody.
    pub fn told<T: Serialize + DeserializeOwned>(
        &self,
        ours: impl FnOnce() -> Result<T>,
    ) -> Result<T> {
        let Some(group) = &self.group else { return ours() };
        let json = |error: serde_json::Error| Error::Parallel(format!("rank 0's message: {error}"));
        if !self.is_root() {
            return serde_json::from_slice(&group.broadcast(Vec::new())?).map_err(json);
        }
        let value = ours()?;
        group.broadcast(serde_json::to_vec(&value).map_err(json)?)?;
        Ok(value)
    }

    /// Everybody's values, in the order of the ranks, at rank 0; nothing at the others.
    pub fn collect<T: Serialize + DeserializeOwned>(
        &self,
        group: &Group,
        value: &T,
    ) -> Result<Vec<T>> {
        let json = |error: serde_json::Error| Error::Parallel(format!("a rank's message: {error}"));
        let all = group.gather(serde_json::to_vec(value).map_err(json)?)?;
        all.iter().map(|bytes| serde_json::from_slice(bytes).map_err(json)).collect()
    }

    /// Everybody starts from rank 0's weights, statistics, velocities and averages.
    pub fn share_start(&self, training: &mut Training, state: State) -> Result<State> {
        let Some(group) = &self.group else { return Ok(state) };
        let parts = |training: &Training| {
            let mut parts = vec![("trained", training.params.clone())];
            parts.extend(training.ema.as_ref().map(|ema| ("average", ema.params.clone())));
            parts
        };
        let bytes = if self.is_root() {
            let mut tensors = BTreeMap::new();
            for (part, params) in parts(training) {
                let named = params.tensors().into_iter();
                tensors.extend(named.map(|(name, tensor)| (format!("{part}/{name}"), tensor)));
            }
            let velocity = training.optimizer.velocity().iter();
            tensors.extend(velocity.map(|(name, v)| (format!("velocity/{name}"), v.clone())));
            let state = serde_json::to_string(&state).expect("numbers are always JSON");
            weights::to_bytes(&tensors, &BTreeMap::from([(STATE.to_owned(), state)]))?
        } else {
            Vec::new()
        };
        let bytes = group.broadcast(bytes)?;
        if self.is_root() {
            return Ok(state);
        }
        let device = training.params.device().clone();
        let mut found = weights::from_bytes(&bytes, &device)?;
        for (part, params) in parts(training) {
            params.load(take(&mut found.tensors, part), true)?;
        }
        let velocity = take(&mut found.tensors, "velocity");
        training.optimizer.set_velocity(velocity).map_err(Error::Parallel)?;
        let state = found.metadata.get(STATE).map(String::as_str).unwrap_or_default();
        serde_json::from_str(state)
            .map_err(|error| Error::Parallel(format!("rank 0's state is not understood: {error}")))
    }

    /// Everybody's running statistics become rank 0's, which are those that are saved.
    pub fn share_buffers(&self, params: &ParamStore) -> Result<()> {
        let Some(group) = &self.group else { return Ok(()) };
        let bytes = if self.is_root() {
            let buffers = params.buffers().into_iter();
            let buffers = buffers.map(|(name, var)| (name, var.as_tensor().clone())).collect();
            weights::to_bytes(&buffers, &BTreeMap::new())?
        } else {
            Vec::new()
        };
        let bytes = group.broadcast(bytes)?;
        if !self.is_root() {
            params.load(weights::from_bytes(&bytes, params.device())?.tensors, false)?;
        }
        Ok(())
    }

    /// Sums over all ranks what a part of a step counted. Whether one of them is to stop.
    pub fn count(&self, counted: &mut Tally, stop: bool) -> Result<bool> {
        let Some(group) = &self.group else { return Ok(stop) };
        let mut numbers = counted.to_numbers().to_vec();
        numbers.push(f64::from(u8::from(stop)));
        group.sum(&mut numbers)?;
        counted.set_numbers(&numbers);
        Ok(numbers.last().is_some_and(|&stop| stop > 0.0))
    }

    /// The way of this network's gradients to the others, beside which batch norm's statistics
    /// may be `shared`.
    pub fn gradients(
        &self,
        parameters: &[(String, Var)],
        shared: bool,
    ) -> Result<Option<Gradients>> {
        let Some(group) = &self.group else { return Ok(None) };
        let early = !shared || group.sums_beside_statistics();
        let (reducer, bytes) = group.gradients();
        let buckets = Buckets::new(parameters, bytes, reducer.clone())?;
        Ok(Some(Gradients { group: group.clone(), buckets, early }))
    }

    /// Whom batch norm shares this process's part of a batch with.
    pub fn statistics(&self, wanted: bool, counts: bool) -> Option<Arc<dyn Across>> {
        self.group.as_ref().filter(|_| wanted).map(|group| group.statistics(counts))
    }

    /// Before what a run held is let go: the others have what they need of this process, or, if it fails,
    /// nothing here waits for sums to which they may never come.
    pub fn part<T>(&self, done: Result<T>) -> Result<T> {
        let Some(group) = &self.group else { return done };
        match &done {
            // All have stopped together.
            Ok(_) | Err(Error::Stopped { .. }) => group.settle()?,
            Err(_) => group.give_up(),
        }
        done
    }

    /// What `error` comes from; the others are told, unless all stop together.
    pub fn fail(&self, error: Error) -> Error {
        let Some(group) = &self.group else { return error };
        if matches!(error, Error::Stopped { .. }) {
            return error;
        }
        let error = group.cause(error);
        group.fail(&error);
        error
    }
}

/// The tensors whose names begin with `part/`, without it.
fn take(tensors: &mut BTreeMap<String, Tensor>, part: &str) -> BTreeMap<String, Tensor> {
    let prefix = format!("{part}/");
    let names: Vec<_> = tensors.keys().filter(|name| name.starts_with(&prefix)).cloned().collect();
    let taken = names.into_iter().filter_map(|name| {
        let tensor = tensors.remove(&name)?;
        Some((name[prefix.len()..].to_owned(), tensor))
    });
    taken.collect()
}

/// The way of gradients to the other ranks.
pub(crate) struct Gradients {
    group: Arc<Group>,
    buckets: Buckets,
    /// Whether they leave before the backward pass has ended.
    early: bool,
}

impl Gradients {
    /// A parameter's gradient is final.
    pub fn complete(&mut self, parameter: &Tensor, store: &mut GradStore) {
        if self.early {
            self.buckets.complete(parameter, store);
        }
    }

    /// The sums over all ranks in place of this rank's gradients.
    pub fn finish(&mut self, store: &mut GradStore) -> Result<()> {
        self.buckets.finish(self.group.gradients().0, store)
    }
}
