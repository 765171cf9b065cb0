//! The logits of a run's network for two images that every language computes alike, as JSON: what
//! `tests/reference/check_export.py` compares with PyTorch's.
//!
//! ```text
//! cargo run -p abn-train --example logits -- runs/mine
//! ```

use std::path::Path;

use abn_core::Mode;
use abn_ops::{Tracked, no_grad};
use abn_train::Run;
use candle_core::{Device, Tensor};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let run = std::env::args().nth(1).ok_or("expected the folder of a run")?;
    let run = Run::open(Path::new(&run))?;
    let size = run.card.input.image_size();
    let shape = (2, 3, size.height, size.width);
    let pixels = (0..2 * 3 * size.height * size.width)
        .map(|i| (i * 7919 % 1000) as f32 / 500.0 - 1.0)
        .collect();
    let images = Tensor::from_vec(pixels, shape, &Device::Cpu)?;
    let output = no_grad(|| run.model.forward(&Tracked::constant(images), Mode::Eval))?;
    let attention = match &output.attention {
        Some(attention) => Some(attention.logits.value().to_vec2::<f32>()?),
        None => None,
    };
    let logits = output.logits.value().to_vec2::<f32>()?;
    println!(
        "{}",
        serde_json::json!({
            "model": run.card.recipe.model,
            "variant": run.card.recipe.variant.to_string(),
            "classes": run.card.classes.len(),
            "image_size": size.shorter(),
            "logits": logits,
            "attention_logits": attention,
        })
    );
    Ok(())
}
