//! Reverse-mode differentiation over candle tensors.
//!
//! candle's own backward pass zero-fills a buffer and adds to it for every gradient, keeps every
//! activation until the whole graph is dropped, and takes at most three inputs per custom node.
//! Here a gradient moves from node to node by value, is summed in place only where paths join,
//! and each node drops what it saved as soon as it has run. The result is candle's [`GradStore`],
//! so candle's optimizers work with it.
//!
//! A [`Tracked`] is a tensor and how it was computed. Values made by candle's own operations enter
//! as [`Tracked::constant`] or [`Tracked::leaf`]; a gradient computed elsewhere (a custom loss)
//! enters through [`Tracked::backward_from`].

mod leaves;

use std::cell::Cell;
use std::collections::{BTreeMap, BinaryHeap};
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use candle_core::Tensor;
use candle_core::backprop::GradStore;

use self::leaves::Leaves;
use crate::{Error, Result, across, elementwise, filled, layout, packed};

/// Gradient of a node's output in (contiguous), gradients of its inputs (in order, `None`: not needed) out.
///
/// The gradients returned must not share storage with each other or with any live tensor, except
/// that one of them may be the tensor passed in: the engine adds to them in place.
type Backward = Box<dyn FnOnce(Tensor) -> Result<Vec<Option<Tensor>>> + Send>;

/// Gets a leaf's tensor once its gradient, in the store, is final.
pub type Complete<'a> = dyn FnMut(&Tensor, &mut GradStore) -> Result<()> + 'a;

enum Origin {
    /// An input whose gradient is wanted.
    Leaf(Tensor),
    /// A network's parameter: a leaf, but not inside [`frozen`].
    Parameter(Tensor),
    Op {
        inputs: Vec<Option<Arc<Node>>>,
        backward: Mutex<Option<Backward>>,
    },
}

struct Node {
    /// Grows along every path, so descending order is a topological order for backward.
    id: u64,
    origin: Origin,
}

impl Node {
    fn new(origin: Origin) -> Arc<Self> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Arc::new(Self { id: NEXT.fetch_add(1, Ordering::Relaxed), origin })
    }

    /// The tensor whose gradient is wanted here, if this is a leaf.
    fn leaf(&self) -> Option<&Tensor> {
        match &self.origin {
            Origin::Leaf(tensor) | Origin::Parameter(tensor) => Some(tensor),
            Origin::Op { .. } => None,
        }
    }
}

impl Drop for Node {
    /// Frees a chain of nodes in a loop: the derived drop would recurse once for each, and a deep
    /// network overflow the stack.
    fn drop(&mut self) {
        fn take(origin: &mut Origin) -> Vec<Option<Arc<Node>>> {
            match origin {
                Origin::Op { inputs, .. } => std::mem::take(inputs),
                Origin::Leaf(_) | Origin::Parameter(_) => Vec::new(),
            }
        }
        let mut queue = take(&mut self.origin);
        while let Some(input) = queue.pop() {
            if let Some(mut node) = input.and_then(Arc::into_inner) {
                queue.append(&mut take(&mut node.origin));
            }
        }
    }
}

/// How operations are recorded at the moment.
#[derive(Clone, Copy)]
struct Recording {
    on: bool,
    frozen: bool,
    guided: bool,
}

thread_local! {
    static RECORDING: Cell<Recording> =
        const { Cell::new(Recording { on: true, frozen: false, guided: false }) };
}

/// Runs `f` with another way of recording, and then returns to the one before, come what may.
fn recording<R>(change: impl FnOnce(Recording) -> Recording, f: impl FnOnce() -> R) -> R {
    struct Restore(Recording);
    impl Drop for Restore {
        fn drop(&mut self) {
            RECORDING.set(self.0);
        }
    }
    let before = RECORDING.get();
    let _restore = Restore(before);
    RECORDING.set(change(before));
    f()
}

/// Runs `f` without recording: nothing computed inside can be differentiated, and nothing is kept
/// for a backward pass. The equivalent of `torch.no_grad()`; holds for this thread.
pub fn no_grad<R>(f: impl FnOnce() -> R) -> R {
    recording(|before| Recording { on: false, ..before }, f)
}

/// Runs `f` with every [`Tracked::parameter`] a constant: what is computed inside can be
/// differentiated with respect to other leaves only, and costs what those need. The equivalent of
/// `requires_grad_(False)` on a model's parameters; holds for this thread.
pub fn frozen<R>(f: impl FnOnce() -> R) -> R {
    recording(|before| Recording { frozen: true, ..before }, f)
}

/// Runs `f` so that the backward pass through every ReLU computed inside lets positive gradients
/// through only: guided backpropagation (Springenberg et al., "Striving for Simplicity", 2015).
/// Values do not change; holds for this thread.
pub fn guided<R>(f: impl FnOnce() -> R) -> R {
    recording(|before| Recording { guided: true, ..before }, f)
}

/// Runs `f` on a thread of the pool, with this thread's way of recording, its
/// [packed weights](crate::PackedWeights) and whom it [shares its batch with](crate::across).
///
/// Each operation splits its work over rayon's pool. Called from another thread, it hands all of it
/// over and sleeps meanwhile; called from within, it takes part at once. That is worth a tenth of a
/// training step of a small network. `f` may not wait for anything else that needs the pool.
pub fn in_pool<R: Send>(f: impl FnOnce() -> R + Send) -> R {
    let (here, weights, others) = (RECORDING.get(), packed::current(), across::current());
    // This closure may run while that thread waits for its part in something else, which must not
    // see what is set here, nor the other way round.
    let f = || across::with(others, || packed::with(weights, f));
    rayon::scope(|_| recording(|_| here, f))
}

/// Whether a ReLU computed now is to be a guided one.
pub(crate) fn is_guided() -> bool {
    RECORDING.get().guided
}

/// A tensor and how it was computed. Cloning is cheap and shares both.
#[derive(Clone)]
pub struct Tracked {
    value: Tensor,
    node: Option<Arc<Node>>,
}

impl fmt::Debug for Tracked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shape = self.value.shape();
        write!(f, "Tracked({shape:?}, {:?}, tracked: {})", self.value.dtype(), self.is_tracked())
    }
}

impl Tracked {
    /// A value without gradient.
    pub fn constant(value: Tensor) -> Self {
        Self { value, node: None }
    }

    /// A value whose gradient is wanted: [`Tracked::backward`] gives it under this tensor's id.
    pub fn leaf(value: Tensor) -> Self {
        let node = Node::new(Origin::Leaf(value.clone()));
        Self { value, node: Some(node) }
    }

    /// A network's parameter: a leaf if the tensor is a candle variable, except inside [`frozen`];
    /// a constant otherwise.
    pub fn parameter(value: Tensor) -> Self {
        if !value.is_variable() {
            return Self::constant(value);
        }
        let node = Node::new(Origin::Parameter(value.clone()));
        Self { value, node: Some(node) }
    }

    /// The result of an operation on `inputs`.
    ///
    /// `backward` takes the gradient of `value`, contiguous, and returns one gradient for each
    /// input, in order; `None` where none is needed. Returned gradients share no storage with each
    /// other or with any tensor still in use; one may be the tensor passed in. It is dropped
    /// unused if no input is tracked or inside [`no_grad`].
    pub fn from_op(
        value: Tensor,
        inputs: &[&Tracked],
        backward: impl FnOnce(Tensor) -> Result<Vec<Option<Tensor>>> + Send + 'static,
    ) -> Self {
        if !records(inputs) {
            return Self::constant(value);
        }
        let inputs = inputs.iter().map(|input| input.tracked_node().cloned()).collect();
        let backward = Mutex::new(Some(Box::new(backward) as Backward));
        Self { value, node: Some(Node::new(Origin::Op { inputs, backward })) }
    }

    /// The tensor.
    pub fn value(&self) -> &Tensor {
        &self.value
    }

    /// The tensor, without its history.
    pub fn into_value(self) -> Tensor {
        self.value
    }

    /// The same tensor without its history (PyTorch's `detach`).
    pub fn detach(&self) -> Self {
        Self::constant(self.value.clone())
    }

    /// Whether a gradient can flow to this value.
    pub fn is_tracked(&self) -> bool {
        self.tracked_node().is_some()
    }

    fn tracked_node(&self) -> Option<&Arc<Node>> {
        let frozen = RECORDING.get().frozen;
        self.node.as_ref().filter(|node| !(frozen && matches!(node.origin, Origin::Parameter(_))))
    }

    /// Dimensions of the tensor.
    pub fn dims(&self) -> &[usize] {
        self.value.dims()
    }

    /// Gradients of this scalar with respect to every leaf it depends on.
    ///
    /// What the operations saved is used up: a second backward through the same operations is an
    /// error, as in PyTorch without `retain_graph`.
    ///
    /// # Errors
    /// If this is not a scalar, not tracked, or its graph was used before.
    pub fn backward(&self) -> Result<GradStore> {
        if self.value.elem_count() != 1 {
            let got = self.dims();
            return Err(Error::shape("backward", "a scalar (use backward_from otherwise)", got));
        }
        let one = filled(1.0, self.value.shape(), self.value.dtype(), self.value.device())?;
        self.backward_from(one)
    }

    /// Like [`Tracked::backward`], starting from a gradient of this value's shape.
    ///
    /// # Errors
    /// As [`Tracked::backward`], and if the shapes differ.
    pub fn backward_from(&self, gradient: Tensor) -> Result<GradStore> {
        let mut store = GradStore::default();
        self.backward_into(gradient, &mut store)?;
        Ok(store)
    }

    /// Like [`Tracked::backward_from`], adding to the gradients in `store`: over several backward
    /// passes their sum, as PyTorch's `backward` without `zero_grad` gives it.
    ///
    /// # Errors
    /// As [`Tracked::backward_from`]; `store` then holds part of the sum.
    pub fn backward_into(&self, gradient: Tensor, store: &mut GradStore) -> Result<()> {
        self.walk(gradient, store, None)
    }

    /// Like [`Tracked::backward_into`], and tells of each leaf as soon as the rest of the pass cannot
    /// change its gradient any more: `complete` gets the leaf's tensor, and the store that holds its
    /// gradient, to leave it there or take it away. So its use (summing it over processes) can go
    /// on beside the rest of the pass.
    ///
    /// Each leaf that gets a gradient is told once, in an order that depends on the graph alone.
    /// Most come soon after the last operation that reads them; one that also feeds operations to
    /// which no gradient flows, at the end.
    ///
    /// # Errors
    /// As [`Tracked::backward_into`], and those of `complete`, which end the pass.
    pub fn backward_telling(
        &self,
        gradient: Tensor,
        store: &mut GradStore,
        complete: &mut Complete<'_>,
    ) -> Result<()> {
        self.walk(gradient, store, Some(complete))
    }

    fn walk(
        &self,
        gradient: Tensor,
        store: &mut GradStore,
        mut complete: Option<&mut Complete<'_>>,
    ) -> Result<()> {
        if gradient.dims() != self.dims() {
            let expected = format!("a gradient of shape {:?}", self.dims());
            return Err(Error::shape("backward", expected, gradient.dims()));
        }
        let root = self.node.clone().ok_or(Error::Backward("the value depends on no leaf"))?;
        let mut leaves = complete.is_some().then(|| Leaves::below(&root));
        // Operations work in the gradient's memory, and the caller may still use this tensor.
        let gradient = layout::duplicate(&gradient)?;
        let mut order = BinaryHeap::from([root.id]);
        let mut pending = BTreeMap::from([(root.id, (root, gradient))]);
        let mut late = Vec::new();
        while let Some(id) = order.pop() {
            // A node that several paths reach is queued once for each.
            let Some((node, gradient)) = pending.remove(&id) else { continue };
            match &node.origin {
                Origin::Leaf(_) | Origin::Parameter(_) if complete.is_some() => {
                    // It did not complete before: it waits for the end.
                    late.push(node.clone());
                    pending.insert(id, (node, gradient));
                }
                Origin::Leaf(tensor) | Origin::Parameter(tensor) => {
                    add_to(store, tensor, gradient)?;
                }
                Origin::Op { inputs, backward } => {
                    let backward = backward.lock().unwrap_or_else(|e| e.into_inner()).take();
                    let backward = backward.ok_or(Error::Backward(
                        "part of the graph was already used by an earlier backward",
                    ))?;
                    for (input, gradient) in inputs.iter().zip(backward(gradient.contiguous()?)?) {
                        let (Some(input), Some(gradient)) = (input, gradient) else { continue };
                        let gradient = match pending.remove(&input.id) {
                            Some((_, sum)) => elementwise::add_in_place(sum, &gradient)?,
                            None => gradient,
                        };
                        pending.insert(input.id, (input.clone(), gradient));
                        order.push(input.id);
                    }
                    if let (Some(complete), Some(leaves)) = (&mut complete, &mut leaves) {
                        for tensor in inputs.iter().flatten().filter_map(|input| input.leaf()) {
                            if leaves.one_way_less(tensor)
                                && settle(leaves.nodes(tensor), &mut pending, store)?
                            {
                                complete(tensor, store)?;
                            }
                        }
                    }
                }
            }
        }
        if let (Some(complete), Some(leaves)) = (complete, leaves) {
            for tensor in late.iter().filter_map(|node| node.leaf()) {
                if settle(leaves.nodes(tensor), &mut pending, store)? {
                    complete(tensor, store)?;
                }
            }
        }
        Ok(())
    }
}

/// Gradients on their way, by the number of the node they have reached.
type Pending = BTreeMap<u64, (Arc<Node>, Tensor)>;

/// Moves what has arrived at the nodes of one leaf, the latest first, to the store. Whether
/// anything had.
fn settle(nodes: &[u64], pending: &mut Pending, store: &mut GradStore) -> Result<bool> {
    let mut any = false;
    for id in nodes {
        let Some((node, gradient)) = pending.remove(id) else { continue };
        if let Some(tensor) = node.leaf() {
            add_to(store, tensor, gradient)?;
            any = true;
        }
    }
    Ok(any)
}

fn add_to(store: &mut GradStore, leaf: &Tensor, gradient: Tensor) -> Result<()> {
    let gradient = match store.remove(leaf) {
        Some(sum) => elementwise::add_in_place(sum, &gradient)?,
        None => gradient,
    };
    store.insert(leaf, gradient);
    Ok(())
}

/// Whether an operation on these inputs must be recorded (and so must save what backward needs).
pub fn records(inputs: &[&Tracked]) -> bool {
    RECORDING.get().on && inputs.iter().any(|input| input.is_tracked())
}

#[cfg(test)]
mod tests;
