//! When a leaf's gradient is complete: once every operation that reads the leaf has gone backward.
//!
//! The numbers of the nodes do not tell: a network's parameters are older than every operation of a
//! step, so in descending order they would all come last.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use candle_core::{Tensor, TensorId};

use super::{Node, Origin};

/// The leaves below a node. A tensor counts as one leaf, even if it entered the graph twice.
pub(super) struct Leaves(HashMap<TensorId, Leaf>);

#[derive(Default)]
struct Leaf {
    /// Inputs of operations that are this leaf, and that nothing has yet come back through.
    ways: usize,
    /// Numbers of its nodes, the latest first.
    nodes: Vec<u64>,
}

impl Leaves {
    /// Walks the graph once; costs no more than its nodes.
    pub fn below(root: &Arc<Node>) -> Self {
        let mut leaves: HashMap<TensorId, Leaf> = HashMap::new();
        let mut seen = HashSet::from([root.id]);
        let mut queue = vec![root];
        while let Some(node) = queue.pop() {
            match &node.origin {
                Origin::Leaf(tensor) | Origin::Parameter(tensor) => {
                    leaves.entry(tensor.id()).or_default().nodes.push(node.id);
                }
                Origin::Op { inputs, .. } => {
                    for input in inputs.iter().flatten() {
                        if let Some(tensor) = input.leaf() {
                            leaves.entry(tensor.id()).or_default().ways += 1;
                        }
                        if seen.insert(input.id) {
                            queue.push(input);
                        }
                    }
                }
            }
        }
        leaves.values_mut().for_each(|leaf| leaf.nodes.sort_unstable_by(|a, b| b.cmp(a)));
        Self(leaves)
    }

    /// An operation that reads the leaf has gone backward; whether it was the last.
    pub fn one_way_less(&mut self, tensor: &Tensor) -> bool {
        self.0.get_mut(&tensor.id()).is_some_and(|leaf| {
            leaf.ways = leaf.ways.saturating_sub(1);
            leaf.ways == 0
        })
    }

    /// Numbers of the leaf's nodes, the latest first.
    pub fn nodes(&self, tensor: &Tensor) -> &[u64] {
        self.0.get(&tensor.id()).map_or(&[], |leaf| &leaf.nodes)
    }
}
