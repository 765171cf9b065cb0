//! Ten training steps on the CPU and on the GPU: the same recipe, through the trainer.

use std::collections::BTreeMap;
use std::path::Path;

use abn_backbones::BuildOptions;
use abn_core::{ParamStore, weights};
use abn_train::{Precision, Recipe, RunFolder, Summary};
use anyhow::{Context, Result};
use candle_core::{DType, Device, Tensor};
use serde_json::json;

use super::device::Target;
use super::outcome::{Line, Outcome};
use super::part::{self, Trained};
use super::{Check, small};

// A ReLU's input that rounding carries over zero changes a gradient by far more than rounding does: after these
// steps, the CPU's own AVX2 and portable kernels are up to 4e-6 (loss) and 5e-2 (weights) apart, ResNet-20 the
// farthest. A wrong gradient moves the weights elsewhere altogether.
/// What the GPU's losses may differ by, relative to the CPU's.
const LOSS: f64 = 1e-4;
/// What its weights may differ by, relative to how far they moved.
const WEIGHTS: f64 = 0.2;

const STEPS: usize = 10;
/// Of them as graphs, once they have been done often enough to be captured.
const REPLAYED: u64 = 5;

/// The run: an epoch of ten steps.
fn recipe(small: bool) -> Recipe {
    let (model, batch_size) = if small { ("resnet8", 4) } else { ("resnet20", 64) };
    Recipe {
        model: model.into(),
        dataset: "fashion-mnist".into(),
        batch_size,
        epochs: 1,
        milestones: Vec::new(),
        // So small that what rounding does to one step grows little by the next: at 0.05 the CPU's kernels
        // come apart by 4e-3 in the loss.
        lr: 0.001,
        precision: Precision::F32,
        ..Recipe::default()
    }
}

/// Trains on the CPU once, on the GPU twice: with CUDA graphs and without.
///
/// # Errors
/// If a run fails.
pub fn run(check: &Check) -> Result<Vec<Outcome>> {
    let mut recipe = recipe(check.quick() || check.small());
    let folder = tempfile::tempdir()?;
    let images = (STEPS * recipe.batch_size, 2 * recipe.batch_size);
    let embedded = abn_data::open("fashion-mnist-mini", None)?;
    recipe.data_dir = Some(small::first(&embedded, images, &folder.path().join("data"))?);
    let file = folder.path().join("recipe.toml");
    std::fs::write(&file, recipe.to_toml())?;
    let train = |name: &str, target: Option<Target>, graph: bool| -> Result<_> {
        let out = folder.path().join(name);
        let mut command = part::command(target.unwrap_or(Target::Emulated), "train")?;
        if target.is_none() {
            command.env("ABN_EMULATE_CUDA", "0");
        }
        let device = target.map_or("cpu", Target::within);
        command.arg(&file).arg("--out").arg(&out).args(["--device", device, "--guess"]);
        if graph {
            command.arg("--cuda-graph");
        }
        let trained: Trained = part::ask(command).with_context(|| format!("the run {name}"))?;
        Ok((trained, weights_of(&out)?))
    };
    let (cpu, on_cpu) = train("cpu", None, false)?;
    let (gpu, on_gpu) = train("gpu", Some(check.target()), true)?;
    let (_, again) = train("again", Some(check.target()), false)?;
    let (replayed, cpu, gpu) = (gpu.replayed, cpu.summary, gpu.summary);
    let losses = losses(&cpu, &gpu);
    let moved = distance(&on_cpu, &initial(&recipe)?)?;
    let apart = distance(&on_gpu, &on_cpu)? / moved;
    let same = distance(&on_gpu, &again)? == 0.0;
    let what = format!("10 steps of ABN {} on the CPU and on the GPU", recipe.model);
    let lines = vec![
        Line::asked(
            format!("{what}: training loss"),
            format!("{:.6} and {:.6}, {losses:.1e} apart", cpu.train_loss, gpu.train_loss),
            format!("within {LOSS:.0e}"),
            losses <= LOSS,
        ),
        Line::asked(
            format!("{what}: weights"),
            format!("{apart:.1e} apart, by how far they moved"),
            format!("within {WEIGHTS}"),
            apart <= WEIGHTS,
        ),
        Line::told(
            "test error after them",
            format!("{:.2} and {:.2} %", cpu.test_error, gpu.test_error),
        ),
        Line::asked(
            format!(
                "the same on the GPU with CUDA graphs ({replayed} of {STEPS} steps) and without"
            ),
            if same { "the same bits" } else { "other bits" }.into(),
            format!("the same bits, at least {REPLAYED} steps replayed"),
            same && replayed >= REPLAYED,
        ),
    ];
    let figures = json!({
        "loss_difference": losses,
        "weight_difference": apart,
        "same_bits": same,
        "replayed_steps": replayed,
        "cpu": cpu,
        "gpu": gpu,
    });
    Ok(vec![Outcome::new("training steps", lines, figures)])
}

fn losses(cpu: &Summary, gpu: &Summary) -> f64 {
    ((gpu.train_loss - cpu.train_loss) / cpu.train_loss).abs()
}

fn weights_of(run: &Path) -> Result<BTreeMap<String, Tensor>> {
    let path = RunFolder::new(run).last().join("model.safetensors");
    Ok(weights::read(&path, &Device::Cpu)?.tensors)
}

/// The weights that the run starts from.
fn initial(recipe: &Recipe) -> Result<BTreeMap<String, Tensor>> {
    let store = ParamStore::new(recipe.seed, DType::F32, Device::Cpu);
    let spec = abn_backbones::find(&recipe.model)?;
    spec.build(recipe.variant, &BuildOptions::new(10), store.var_builder())?;
    Ok(store.tensors())
}

/// Euclidean, over all parameters.
fn distance(a: &BTreeMap<String, Tensor>, b: &BTreeMap<String, Tensor>) -> Result<f64> {
    let mut sum = 0.0;
    // Statistics move by far more.
    for (name, a) in a.iter().filter(|(name, _)| !name.contains(".running_")) {
        let b = b.get(name).with_context(|| format!("one of two runs has no {name}"))?;
        let difference = (a.to_dtype(DType::F64)? - b.to_dtype(DType::F64)?)?;
        sum += difference.sqr()?.sum_all()?.to_scalar::<f64>()?;
    }
    Ok(sum.sqrt())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_recipes_can_be_trained() {
        for small in [true, false] {
            recipe(small).validate().unwrap();
        }
    }

    #[test]
    fn distances_count_every_weight() {
        let start = initial(&recipe(true)).unwrap();
        assert_eq!(distance(&start, &start).unwrap(), 0.0);
        let mut moved = start.clone();
        let bias = moved.get_mut("fc.bias").unwrap();
        *bias = (&*bias + 3.0).unwrap();
        assert!((distance(&moved, &start).unwrap() - 3.0 * 10f64.sqrt()).abs() < 1e-4);
    }
}
