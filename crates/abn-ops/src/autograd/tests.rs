use candle_core::{Device, Var};

use super::*;
use crate::testing::{flat, random};
use crate::{add, count_multiply_adds, relu, reshape, sigmoid};

/// `factor · x`.
fn scaled(x: &Tracked, factor: f64) -> Tracked {
    let y = (x.value() * factor).unwrap();
    Tracked::from_op(y, &[x], move |grad| Ok(vec![Some((grad * factor)?)]))
}

fn numbers(values: &[f64]) -> Tensor {
    Tensor::new(values, &Device::Cpu).unwrap()
}

fn gradient(store: &GradStore, of: &Tracked) -> Vec<f64> {
    flat(store.get(of.value()).expect("a gradient"))
}

#[test]
fn a_chain_multiplies() {
    let x = Tracked::leaf(numbers(&[3.0]));
    let y = scaled(&scaled(&scaled(&x, 2.0), 5.0), 7.0);
    assert_eq!(flat(y.value()), [210.0]);
    assert_eq!(gradient(&y.backward().unwrap(), &x), [70.0]);
}

#[test]
fn paths_that_join_add_up_and_each_node_runs_once() {
    // A ladder of diamonds: 2^20 paths, 41 nodes.
    let x = Tracked::leaf(numbers(&[1.0]));
    let mut y = x.clone();
    for _ in 0..20 {
        y = add(&scaled(&y, 1.0), &y).unwrap();
    }
    assert_eq!(gradient(&y.backward().unwrap(), &x), [f64::from(1 << 20)]);
}

#[test]
fn paths_of_different_lengths_wait_for_each_other() {
    let x = Tracked::leaf(numbers(&[1.0, 2.0]));
    let fork = scaled(&x, 3.0);
    let mut long = fork.clone();
    for _ in 0..5 {
        long = scaled(&long, 2.0);
    }
    let y = add(&add(&fork, &long).unwrap(), &x).unwrap();
    let store = y.backward_from(numbers(&[1.0, 10.0])).unwrap();
    assert_eq!(gradient(&store, &x), [3.0 + 96.0 + 1.0, 1000.0]);
}

#[test]
fn a_parameter_used_by_two_leaves_gets_the_sum() {
    // As a layer that wraps its variable anew in each forward pass.
    let var = Var::from_tensor(&numbers(&[2.0])).unwrap();
    let [a, b] = [(); 2].map(|()| Tracked::parameter(var.as_tensor().clone()));
    let y = add(&scaled(&a, 3.0), &scaled(&b, 4.0)).unwrap();
    assert_eq!(flat(y.backward().unwrap().get(&var).unwrap()), [7.0]);
}

#[test]
fn several_passes_add_up_and_leave_what_is_not_theirs() {
    let [x, y, z] = [1.0, 2.0, 3.0].map(|value| Tracked::leaf(numbers(&[value])));
    let mut store = add(&scaled(&x, 2.0), &scaled(&z, 7.0)).unwrap().backward().unwrap();
    add(&scaled(&x, 3.0), &y).unwrap().backward_into(numbers(&[10.0]), &mut store).unwrap();
    assert_eq!([&x, &y, &z].map(|leaf| gradient(&store, leaf)), [[32.0], [10.0], [7.0]]);
}

#[test]
fn only_variables_are_trainable_parameters() {
    assert!(!Tracked::parameter(numbers(&[1.0])).is_tracked());
    let var = Var::from_tensor(&numbers(&[1.0])).unwrap();
    assert!(Tracked::parameter(var.as_tensor().clone()).is_tracked());
}

#[test]
fn backward_twice_is_an_error() {
    let x = Tracked::leaf(numbers(&[1.0]));
    let shared = scaled(&x, 2.0);
    let (y, z) = (scaled(&shared, 3.0), scaled(&shared, 4.0));
    y.backward().unwrap();
    for again in [y, z] {
        let error = again.backward().unwrap_err();
        assert!(error.to_string().contains("already used"), "{error}");
    }
}

#[test]
fn a_leaf_alone_has_gradient_one() {
    let x = Tracked::leaf(numbers(&[4.0]));
    assert_eq!(gradient(&x.backward().unwrap(), &x), [1.0]);
}

#[test]
fn nothing_is_recorded_without_need() {
    let x = Tracked::leaf(numbers(&[1.0]));
    let y = no_grad(|| {
        assert!(!records(&[&x]));
        scaled(&x, 2.0)
    });
    assert!(!y.is_tracked() && records(&[&x]));
    let constant = scaled(&Tracked::constant(numbers(&[1.0])), 2.0);
    for y in [y, constant, scaled(&x.detach(), 2.0)] {
        assert!(matches!(y.backward(), Err(Error::Backward(_))), "{y:?}");
    }
}

#[test]
fn recording_resumes_after_a_panic_inside_no_grad() {
    let result = std::panic::catch_unwind(|| no_grad(|| panic!("as a test")));
    assert!(result.is_err());
    assert!(records(&[&Tracked::leaf(numbers(&[1.0]))]));
}

#[test]
fn only_scalars_start_a_backward_without_a_gradient() {
    let y = scaled(&Tracked::leaf(numbers(&[1.0, 2.0])), 2.0);
    assert!(matches!(y.backward(), Err(Error::Shape { .. })));
    assert!(matches!(y.backward_from(numbers(&[1.0])), Err(Error::Shape { .. })));
    assert!(y.backward_from(numbers(&[1.0, 1.0])).is_ok(), "an error uses nothing up");
}

#[test]
fn the_gradient_given_is_left_as_it_is() {
    let x = Tracked::leaf(numbers(&[-1.0, 2.0]));
    let y = relu(&x).unwrap();
    // The value itself as the gradient, whose memory ReLU would otherwise work in while reading it.
    let store = y.backward_from(y.value().clone()).unwrap();
    assert_eq!(gradient(&store, &x), [0.0, 2.0]);
    assert_eq!(flat(y.value()), [0.0, 2.0]);

    let (a, b) = (Tracked::leaf(numbers(&[1.0])), Tracked::leaf(numbers(&[1.0])));
    let given = numbers(&[5.0]);
    let sum = add(&add(&a, &b).unwrap(), &a).unwrap();
    let store = sum.backward_from(given.clone()).unwrap();
    assert_eq!((gradient(&store, &a), gradient(&store, &b)), (vec![10.0], vec![5.0]));
    assert_eq!(flat(&given), [5.0]);
}

#[test]
fn gradients_in_any_layout_are_taken() {
    let x = Tracked::leaf(random(1, &[3, 4]));
    let y = sigmoid(&x).unwrap();
    let (rows, columns) = (random(2, &[3, 4]), random(2, &[3, 4]).t().unwrap());
    let transposed = columns.force_contiguous().unwrap().t().unwrap();
    assert!(!transposed.is_contiguous());
    let expected = gradient(&y.backward_from(rows).unwrap(), &x);
    let y = sigmoid(&x).unwrap();
    assert_eq!(gradient(&y.backward_from(transposed.clone()).unwrap(), &x), expected);

    // And from a custom operation in the middle of the graph.
    let z = sigmoid(&x).unwrap();
    let z = Tracked::from_op(z.value().clone(), &[&z], move |_| Ok(vec![Some(transposed)]));
    let ones = z.value().ones_like().unwrap();
    assert_eq!(gradient(&z.backward_from(ones).unwrap(), &x), expected);
}

#[test]
fn saved_tensors_are_freed_as_backward_runs() {
    use std::sync::atomic::AtomicUsize;
    struct Saved(Arc<AtomicUsize>);
    impl Drop for Saved {
        fn drop(&mut self) {
            self.0.fetch_sub(1, Ordering::SeqCst);
        }
    }
    let alive = Arc::new(AtomicUsize::new(0));
    let x = Tracked::leaf(numbers(&[1.0]));
    let mut y = x.clone();
    for below in 0..10 {
        alive.fetch_add(1, Ordering::SeqCst);
        let (saved, alive) = (Saved(alive.clone()), alive.clone());
        y = Tracked::from_op(y.value().clone(), &[&y], move |grad| {
            assert_eq!(alive.load(Ordering::SeqCst), below + 1, "those above are gone");
            drop(saved);
            Ok(vec![Some(grad)])
        });
    }
    y.backward().unwrap();
    assert_eq!(alive.load(Ordering::SeqCst), 0);
}

#[test]
fn a_very_deep_graph_does_not_overflow_the_stack() {
    // On a small stack, backward and then drop; and drop of a graph that backward did not use.
    let deep = || {
        let x = Tracked::leaf(numbers(&[1.0]));
        let y = (0..100_000).fold(x.clone(), |y, _| scaled(&y, 1.0));
        (x, y)
    };
    let run = move || {
        let (x, y) = deep();
        assert_eq!(gradient(&y.backward().unwrap(), &x), [1.0]);
        drop(y);
        drop(deep());
    };
    std::thread::Builder::new().stack_size(256 << 10).spawn(run).unwrap().join().unwrap();
}

#[test]
fn graphs_may_be_dropped_from_several_threads() {
    let x = Tracked::leaf(numbers(&[1.0]));
    let trunk = (0..1000).fold(x.clone(), |y, _| scaled(&y, 1.0));
    let branches: Vec<_> = (0..4).map(|_| scaled(&trunk, 2.0)).collect();
    drop(trunk);
    let threads: Vec<_> =
        branches.into_iter().map(|branch| std::thread::spawn(move || drop(branch))).collect();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    assert_eq!(gradient(&x.backward().unwrap(), &x), [1.0]);
}

#[test]
fn counting_does_not_record() {
    let x = Tracked::leaf(numbers(&[1.0, 2.0]));
    let (y, _) = count_multiply_adds(|| reshape(&relu(&x).unwrap(), (2, 1)).unwrap());
    assert!(!y.is_tracked());
}

#[test]
fn frozen_parameters_are_constants_and_leaves_are_not() {
    let var = Var::from_tensor(&numbers(&[2.0])).unwrap();
    let (parameter, x) =
        (Tracked::parameter(var.as_tensor().clone()), Tracked::leaf(numbers(&[3.0])));
    let (untracked, sum) =
        frozen(|| (add(&parameter, &parameter).unwrap(), add(&parameter, &x).unwrap()));
    assert!(!untracked.is_tracked() && sum.is_tracked());
    let store = sum.backward().unwrap();
    assert_eq!(gradient(&store, &x), [1.0]);
    assert!(store.get(var.as_tensor()).is_none());
    assert!(add(&parameter, &x).unwrap().backward().unwrap().get(var.as_tensor()).is_some());
}

#[test]
fn the_pool_records_as_the_caller_does() {
    let leaf = || Tracked::leaf(numbers(&[1.0]));
    let tracked = || sigmoid(&leaf()).unwrap().is_tracked();
    assert!(in_pool(tracked));
    assert!(!no_grad(|| in_pool(tracked)));
    assert!(!in_pool(|| no_grad(tracked)));
}

/// What a pass tells of: each leaf's number among `leaves` with its gradient then, and how many
/// operations had gone backward.
fn told(
    y: &Tracked,
    leaves: &[&Tracked],
    ran: &std::sync::atomic::AtomicUsize,
) -> Vec<(usize, f64, usize)> {
    let (mut store, mut told) = (GradStore::default(), Vec::new());
    y.backward_telling(y.value().ones_like().unwrap(), &mut store, &mut |tensor, store| {
        let which = leaves.iter().position(|leaf| leaf.value().id() == tensor.id()).unwrap();
        let gradient = flat(&store.remove(tensor).expect("its gradient is there"));
        told.push((which, gradient[0], ran.load(Ordering::Relaxed)));
        Ok(())
    })
    .unwrap();
    for leaf in leaves {
        assert!(store.get(leaf.value()).is_none(), "a gradient came after it was told");
    }
    told
}

#[test]
fn a_leaf_is_told_of_once_nothing_can_reach_it() {
    // As in a network: the parameters are older than every operation.
    let weights = [1.0, 2.0, 3.0].map(|value| Tracked::leaf(numbers(&[value])));
    let ran = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let layer = |x: &Tracked, weight: &Tracked, flows: bool| {
        let ran = ran.clone();
        let y = (x.value() + weight.value()).unwrap();
        Tracked::from_op(y, &[x, weight], move |grad| {
            ran.fetch_add(1, Ordering::Relaxed);
            let copy = grad.force_contiguous()?;
            Ok(vec![Some(grad), flows.then_some(copy)])
        })
    };
    let [a, b, c] = &weights;
    let x = Tracked::constant(numbers(&[1.0]));
    // a, b, c and b again: b waits for its first use.
    let y = layer(&layer(&layer(&layer(&x, a, true), b, true), c, true), b, true);
    assert_eq!(told(&y, &[a, b, c], &ran), [(2, 1.0, 2), (1, 2.0, 3), (0, 1.0, 4)]);
    // A layer that gives c no gradient: nothing to tell.
    ran.store(0, Ordering::Relaxed);
    let y = layer(&layer(&x, a, true), c, false);
    assert_eq!(told(&y, &[a, c], &ran), [(0, 1.0, 2)]);
}

#[test]
fn a_leaf_that_also_feeds_what_no_gradient_reaches_is_told_of_at_the_end() {
    let ran = std::sync::atomic::AtomicUsize::new(0);
    let var = Var::from_tensor(&numbers(&[2.0])).unwrap();
    let a = Tracked::parameter(var.as_tensor().clone());
    let cut = |x: &Tracked| Tracked::from_op(x.value().clone(), &[x], |_| Ok(vec![None]));
    let b = Tracked::parameter(var.as_tensor().clone());
    // The same variable behind `a`, `b` and a later node, which is numbered above operations to come.
    let early = scaled(&a, 3.0);
    let late = Tracked::parameter(var.as_tensor().clone());
    let y = add(&add(&early, &scaled(&late, 4.0)).unwrap(), &cut(&scaled(&b, 5.0))).unwrap();
    assert_eq!(told(&y, &[&a], &ran), [(0, 7.0, 0)]);
}

#[test]
fn telling_changes_no_sum() {
    let build = || {
        let x = Tracked::leaf(random(1, &[4]));
        let w = Tracked::leaf(random(2, &[4]));
        let y = add(&scaled(&add(&x, &w).unwrap(), 0.3), &sigmoid(&w).unwrap()).unwrap();
        (add(&y, &relu(&x).unwrap()).unwrap(), x, w)
    };
    let (y, x, w) = build();
    let mut store = GradStore::default();
    y.backward_into(random(3, &[4]), &mut store).unwrap();
    let (y, x2, w2) = build();
    let mut told = GradStore::default();
    y.backward_telling(random(3, &[4]), &mut told, &mut |_, _| Ok(())).unwrap();
    assert_eq!(gradient(&store, &x), gradient(&told, &x2));
    assert_eq!(gradient(&store, &w), gradient(&told, &w2));
}

#[test]
fn an_error_of_who_is_told_ends_the_pass() {
    let x = Tracked::leaf(numbers(&[1.0]));
    let y = scaled(&x, 2.0);
    let mut store = GradStore::default();
    let refuse = &mut |_: &Tensor, _: &mut GradStore| Err(Error::Backward("as a test"));
    assert!(y.backward_telling(numbers(&[1.0]), &mut store, refuse).is_err());
}
