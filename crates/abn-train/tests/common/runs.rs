//! What tests of several processes ask of the runs they leave.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use candle_core::{Device, Tensor};
use serde_json::Value;

use super::Lab;

/// No run of these tests takes this long; one that does has hung.
const LONG: Duration = Duration::from_secs(300);

pub fn weights(lab: &Lab, run: &str) -> BTreeMap<String, Tensor> {
    let file = lab.path(run).join("last/model.safetensors");
    candle_core::safetensors::load(file, &Device::Cpu).unwrap().into_iter().collect()
}

/// The largest difference between two runs' tensors, relative to the tensor's largest value.
pub fn deviation(lab: &Lab, a: &str, b: &str) -> (f32, String) {
    let (a, b) = (weights(lab, a), weights(lab, b));
    assert_eq!(a.keys().collect::<Vec<_>>(), b.keys().collect::<Vec<_>>());
    let largest = |tensor: Tensor| {
        let values = tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        values.into_iter().fold(0f32, |largest, value| largest.max(value.abs()))
    };
    let of = |(name, a): (&String, &Tensor)| {
        let difference = largest((a - &b[name]).unwrap());
        // A running mean may be 0 but for rounding, of values around 1.
        let least = if name.contains("running") { 0.1 } else { 1e-3 };
        (difference / largest(a.clone()).max(least), name.clone())
    };
    a.iter().map(of).reduce(|worst, next| if next.0 > worst.0 { next } else { worst }).unwrap()
}

pub fn metrics(lab: &Lab, run: &str) -> Vec<Value> {
    let text = fs::read_to_string(lab.path(run).join("metrics.jsonl")).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Counts are equal; losses are sums of other batches.
pub fn assert_same_counts(lab: &Lab, a: &str, b: &str) {
    for (a, b) in metrics(lab, a).iter().zip(&metrics(lab, b)) {
        for key in ["train_error", "test_error", "test_error_attention"] {
            assert_eq!(a[key], b[key], "{key}");
        }
        for key in ["train_loss", "train_loss_attention", "test_loss"] {
            let (Some(a), Some(b)) = (a[key].as_f64(), b[key].as_f64()) else { continue };
            assert!((a - b).abs() < 1e-4 * a, "{key}: {a} against {b}");
        }
    }
}

/// The arguments without the lab's own `--model resnet8`: given twice, a flag is refused.
pub fn drop_first_model(arguments: Vec<&str>) -> Vec<&str> {
    let at = arguments.iter().position(|argument| *argument == "--model").unwrap();
    [&arguments[..at], &arguments[at + 2..]].concat()
}

pub fn wait_for(what: &str, mut done: impl FnMut() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < LONG, "{what} never came");
        sleep(Duration::from_millis(2));
    }
}

pub fn lines(file: &Path) -> usize {
    fs::read_to_string(file).unwrap_or_default().lines().count()
}
