//! Looking at a named layer while a network runs.
//!
//! Layers offer their output by [`offer`]; nothing happens to it unless someone asked, on this
//! thread, for that layer ([`cut_at`]) or for the names ([`layer_names`]). Explanations are a
//! property of one pass: the model does not change and has nothing to restore.

use std::cell::RefCell;

use abn_ops::Tracked;

enum Observer {
    /// Collects the names of all layers, in the order they run.
    Names(Vec<String>),
    /// Makes the output of one layer a leaf.
    Cut { name: String, leaf: Option<Tracked> },
}

thread_local! {
    static OBSERVER: RefCell<Option<Observer>> = const { RefCell::new(None) };
}

/// Runs `f` with an observer, and gives back what it saw.
fn observe<R>(observer: Observer, f: impl FnOnce() -> R) -> (R, Option<Observer>) {
    /// Puts the outer observer back, even if `f` panics.
    struct Restore(Option<Observer>);
    impl Drop for Restore {
        fn drop(&mut self) {
            OBSERVER.replace(self.0.take());
        }
    }
    let _restore = Restore(OBSERVER.replace(Some(observer)));
    let result = f();
    (result, OBSERVER.take())
}

/// Whether someone on this thread looks at layers.
pub(crate) fn is_on() -> bool {
    OBSERVER.with_borrow(Option::is_some)
}

/// Runs `f` with the output of the layer `name` cut off from what made it: what is computed from
/// it can be differentiated with respect to the leaf that is given back, and nothing before it
/// needs to be recorded ([`abn_ops::frozen`]). `None` if no layer of that name ran.
///
/// A layer that runs more than once is cut the first time only.
pub fn cut_at<R>(name: &str, f: impl FnOnce() -> R) -> (R, Option<Tracked>) {
    let (result, observer) = observe(Observer::Cut { name: name.to_owned(), leaf: None }, f);
    let leaf = match observer {
        Some(Observer::Cut { leaf, .. }) => leaf,
        _ => None,
    };
    (result, leaf)
}

/// Runs `f` and lists the layers that ran, in order: the names that [`cut_at`] takes.
pub fn layer_names<R>(f: impl FnOnce() -> R) -> (R, Vec<String>) {
    let (result, observer) = observe(Observer::Names(Vec::new()), f);
    let mut names = match observer {
        Some(Observer::Names(names)) => names,
        _ => Vec::new(),
    };
    let mut seen = std::collections::BTreeSet::new();
    names.retain(|name| seen.insert(name.clone()));
    (result, names)
}

/// A layer's output on its way to the next layer. To be called by every layer that can be looked
/// at, with its full name.
pub fn offer(name: &str, output: Tracked) -> Tracked {
    OBSERVER.with_borrow_mut(|observer| match observer {
        Some(Observer::Cut { name: wanted, leaf: leaf @ None }) if wanted == name => {
            let cut = Tracked::leaf(output.into_value());
            *leaf = Some(cut.clone());
            cut
        }
        Some(Observer::Names(names)) => {
            names.push(name.to_owned());
            output
        }
        _ => output,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use abn_ops::{add, frozen};
    use candle_core::{Device, Tensor};

    fn numbers(values: &[f64]) -> Tracked {
        Tracked::constant(Tensor::new(values, &Device::Cpu).unwrap())
    }

    /// `b = a + a`, `c = b + b`.
    fn network(x: &Tracked) -> Tracked {
        let b = offer("b", add(x, x).unwrap());
        offer("c", add(&b, &b).unwrap())
    }

    #[test]
    fn nothing_happens_unasked() {
        assert!(!network(&numbers(&[1.0])).is_tracked());
    }

    #[test]
    fn a_cut_layer_is_a_leaf_with_a_gradient() {
        let (output, leaf) = frozen(|| cut_at("b", || network(&numbers(&[3.0]))));
        let leaf = leaf.unwrap();
        assert_eq!(leaf.value().to_vec1::<f64>().unwrap(), [6.0]);
        let store = output.backward().unwrap();
        assert_eq!(store.get(leaf.value()).unwrap().to_vec1::<f64>().unwrap(), [2.0]);
        assert!(cut_at("nowhere", || network(&numbers(&[3.0]))).1.is_none());
        assert!(!network(&numbers(&[1.0])).is_tracked(), "the observer is gone");
    }

    #[test]
    fn names_come_in_order() {
        assert_eq!(layer_names(|| network(&numbers(&[1.0]))).1, ["b", "c"]);
    }
}
