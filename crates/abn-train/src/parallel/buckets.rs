//! Gradients on their way to the other ranks, while the backward pass goes on.
//!
//! As in PyTorch's DistributedDataParallel, gradients travel in buckets of about 25 MB, filled in the
//! order in which they become final; a full bucket is summed over the ranks on a thread of its own. The
//! first step shows the order, which is the same everywhere since everybody computes the same graph.
//! Sums are element by element in the order of the ranks, so no result depends on the buckets.

use std::collections::HashMap;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};

use candle_core::backprop::GradStore;
use candle_core::{Tensor, TensorId, Var};

use super::reducer::Reducer;
use crate::{Error, Result};

pub(crate) type SharedReducer = Arc<Mutex<Box<dyn Reducer>>>;

/// The gradients of a network's parameters, summed over the ranks.
pub(crate) struct Buckets {
    parameters: Vec<Tensor>,
    /// Bytes after which a bucket is full.
    size: usize,
    /// In the order in which they become final, as far as the first step has shown it.
    shown: Vec<Tensor>,
    plan: Option<Plan>,
    /// Buckets of this step that are on their way.
    sent: usize,
    jobs: Sender<Vec<Tensor>>,
    sums: Receiver<Result<Vec<Tensor>>>,
}

struct Plan {
    buckets: Vec<Bucket>,
    /// Bucket and place in it, by parameter.
    places: HashMap<TensorId, (usize, usize)>,
}

#[derive(Default)]
struct Bucket {
    parameters: Vec<Tensor>,
    /// Of this step, as far as they have come and are not yet on their way.
    gradients: Vec<Option<Tensor>>,
    /// Which of them are on their way.
    there: Vec<bool>,
}

impl Bucket {
    fn send(&mut self, jobs: &Sender<Vec<Tensor>>) {
        self.there = self.gradients.iter().map(Option::is_some).collect();
        let gradients = self.gradients.iter_mut().filter_map(Option::take).collect();
        // If the thread has ended, the sums will not come, and `finish` says why.
        drop(jobs.send(gradients));
    }
}

impl Plan {
    fn new(order: &[Tensor], size: usize) -> Self {
        let (mut buckets, mut places) = (vec![Bucket::default()], HashMap::new());
        let mut bytes = 0;
        for parameter in order {
            if bytes >= size {
                buckets.push(Bucket::default());
                bytes = 0;
            }
            bytes += parameter.elem_count() * parameter.dtype().size_in_bytes();
            let number = buckets.len() - 1;
            let bucket = &mut buckets[number];
            places.insert(parameter.id(), (number, bucket.parameters.len()));
            bucket.parameters.push(parameter.clone());
            bucket.gradients.push(None);
        }
        Self { buckets, places }
    }

    /// Takes a parameter's gradient, if the store has it.
    fn take(&mut self, parameter: &Tensor, store: &mut GradStore) {
        let Some(&(bucket, place)) = self.places.get(&parameter.id()) else { return };
        if let Some(gradient) = store.remove(parameter) {
            self.buckets[bucket].gradients[place] = Some(gradient);
        }
    }
}

impl Buckets {
    /// Buckets of `size` bytes for these parameters, and the thread that sums them.
    ///
    /// # Errors
    /// If there is no thread to be had.
    pub fn new(parameters: &[(String, Var)], size: usize, reducer: SharedReducer) -> Result<Self> {
        let (jobs, to_do) = channel::<Vec<Tensor>>();
        let (done, sums) = channel();
        // It ends with the sender. Waiting for it would be waiting for ranks that may be stuck.
        std::thread::Builder::new()
            .name("gradients".to_owned())
            .spawn(move || {
                for gradients in to_do {
                    let mut reducer = reducer.lock().unwrap_or_else(|e| e.into_inner());
                    let sum = sum(&mut **reducer, &gradients);
                    let failed = sum.is_err();
                    if done.send(sum).is_err() || failed {
                        return;
                    }
                }
            })
            .map_err(|error| Error::Parallel(format!("cannot start a thread: {error}")))?;
        // Against the order of the names until the first step shows a better one.
        let parameters = parameters.iter().rev().map(|(_, var)| var.as_tensor().clone()).collect();
        Ok(Self { parameters, size, shown: Vec::new(), plan: None, sent: 0, jobs, sums })
    }

    /// A parameter's gradient is final: it begins its way if its bucket is full.
    pub fn complete(&mut self, parameter: &Tensor, store: &mut GradStore) {
        let Some(plan) = &mut self.plan else {
            self.shown.push(parameter.clone());
            return;
        };
        plan.take(parameter, store);
        // In their order: all ranks must sum the same bucket at a time.
        while let Some(bucket) = plan.buckets.get_mut(self.sent) {
            if bucket.gradients.iter().any(Option::is_none) {
                return;
            }
            bucket.send(&self.jobs);
            self.sent += 1;
        }
    }

    /// After the backward pass: the sums over all ranks in place of this rank's gradients. A
    /// parameter without gradient stays without.
    ///
    /// # Errors
    /// [`Error::Peer`] if a rank cannot be reached or computes something else.
    pub fn finish(&mut self, reducer: &SharedReducer, store: &mut GradStore) -> Result<()> {
        let plan = self.plan.get_or_insert_with(|| {
            let shown: Vec<TensorId> = self.shown.iter().map(Tensor::id).collect();
            let rest = self.parameters.iter().filter(|tensor| !shown.contains(&tensor.id()));
            let (with, without): (Vec<_>, Vec<_>) =
                rest.cloned().partition(|tensor| store.get(tensor).is_some());
            let shown = std::mem::take(&mut self.shown);
            Plan::new(&[shown, with, without].concat(), self.size)
        });
        for parameter in &self.parameters {
            plan.take(parameter, store);
        }
        for bucket in &mut plan.buckets[self.sent..] {
            bucket.send(&self.jobs);
        }
        self.sent = 0;
        for bucket in &plan.buckets {
            let sums = self.sums.recv().map_err(|_| {
                Error::Parallel("the thread that sums gradients has ended".into())
            })??;
            let mut sums = sums.into_iter();
            for (parameter, there) in bucket.parameters.iter().zip(&bucket.there) {
                if *there && let Some(sum) = sums.next() {
                    store.insert(parameter, sum);
                }
            }
        }
        reducer.lock().unwrap_or_else(|e| e.into_inner()).wait()
    }
}

/// The sum over the ranks of tensors of any shapes, in one message.
fn sum(reducer: &mut dyn Reducer, gradients: &[Tensor]) -> Result<Vec<Tensor>> {
    if gradients.is_empty() {
        return Ok(Vec::new());
    }
    let flat =
        gradients.iter().map(Tensor::flatten_all).collect::<candle_core::Result<Vec<_>>>()?;
    let sum = reducer.all_reduce(&Tensor::cat(&flat, 0)?)?;
    let mut start = 0;
    let part = |gradient: &Tensor| {
        let len = gradient.elem_count();
        start += len;
        Ok(sum.narrow(0, start - len, len)?.reshape(gradient.shape())?)
    };
    gradients.iter().map(part).collect()
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    /// Doubles what it gets, as two equal ranks would, and tells of it.
    struct Twice(Sender<Vec<f32>>);

    impl Reducer for Twice {
        fn all_reduce(&mut self, values: &Tensor) -> Result<Tensor> {
            drop(self.0.send(values.to_vec1()?));
            Ok((values * 2.0)?)
        }
    }

    struct Fails;

    impl Reducer for Fails {
        fn all_reduce(&mut self, _: &Tensor) -> Result<Tensor> {
            Err(Error::Peer { rank: 3, problem: "is gone".into() })
        }
    }

    fn parameters(sizes: &[usize]) -> Vec<(String, Var)> {
        let var = |&size| Var::zeros(size, candle_core::DType::F32, &Device::Cpu).unwrap();
        sizes.iter().enumerate().map(|(i, size)| (i.to_string(), var(size))).collect()
    }

    fn fill(store: &mut GradStore, parameter: &Var, value: f32) {
        let gradient = Tensor::full(value, parameter.shape(), &Device::Cpu).unwrap();
        store.insert(parameter, gradient);
    }

    #[test]
    fn full_buckets_leave_during_the_backward_pass_in_the_order_of_the_first() {
        let parameters = parameters(&[2, 3, 1, 4, 2]);
        let (told, hears) = channel();
        let reducer: SharedReducer = Arc::new(Mutex::new(Box::new(Twice(told))));
        // Buckets of 16 bytes: four numbers or more.
        let mut buckets = Buckets::new(&parameters, 16, reducer.clone()).unwrap();
        let step =
            |buckets: &mut Buckets, order: &[usize], early: &[Vec<f32>], late: &[Vec<f32>]| {
                let mut store = GradStore::default();
                // 4 never has a gradient, as the held map's layers of a control.
                for &which in order {
                    fill(&mut store, &parameters[which].1, which as f32 + 1.0);
                    buckets.complete(&parameters[which].1, &mut store);
                }
                for expected in early {
                    // Before `finish`: this waits for ever if nothing is on its way.
                    assert_eq!(hears.recv().unwrap(), *expected);
                }
                buckets.finish(&reducer, &mut store).unwrap();
                for expected in late {
                    assert_eq!(hears.recv().unwrap(), *expected);
                }
                assert!(hears.try_recv().is_err(), "more sums than buckets");
                for which in 0..4 {
                    let sum = store.get(&parameters[which].1).unwrap();
                    let expected = vec![2.0 * (which as f32 + 1.0); sum.elem_count()];
                    assert_eq!(sum.to_vec1::<f32>().unwrap(), expected);
                }
                assert!(store.get(&parameters[4].1).is_none());
            };
        let (first, second) = (vec![3.0, 2.0, 2.0, 2.0], vec![4.0; 4]);
        let third = vec![1.0; 2];
        let all = [first.clone(), second.clone(), third.clone()];
        step(&mut buckets, &[2, 1, 3, 0], &[], &all);
        // Later the first two are full before the end; the last waits for what never comes.
        step(&mut buckets, &[2, 1, 3, 0], &all[..2], &all[2..]);
        // In another order nothing is summed in another one.
        step(&mut buckets, &[3, 0, 1, 2], &all[..2], &all[2..]);
    }

    #[test]
    fn who_is_gone_is_told_at_the_end_of_the_step() {
        let parameters = parameters(&[2]);
        let reducer: SharedReducer = Arc::new(Mutex::new(Box::new(Fails)));
        let mut buckets = Buckets::new(&parameters, 16, reducer.clone()).unwrap();
        let mut store = GradStore::default();
        fill(&mut store, &parameters[0].1, 1.0);
        let said = buckets.finish(&reducer, &mut store).unwrap_err().to_string();
        assert!(said.starts_with("rank 3 is gone"), "{said}");
    }
}
