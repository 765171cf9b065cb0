//! A run's weights as files that other programs read.

use std::collections::BTreeMap;
use std::path::Path;

use crate::checkpoint::{CARD, card_text};
use crate::{AnyRun, Error, Result, files, weights};

/// Writes a run's weights: safetensors to `….safetensors`, what PyTorch's
/// `torch.load(…, weights_only=True)` reads to `….pth` or `….pt`. Names and shapes are PyTorch's, so
/// `load_state_dict` takes them. The same weights give the same bytes.
///
/// # Errors
/// If the name ends otherwise, or the file cannot be written.
pub fn export(run: &AnyRun, path: &Path) -> Result<()> {
    let extension = path.extension().and_then(|extension| extension.to_str());
    let bytes = match extension {
        Some("safetensors") => {
            let metadata = [(CARD, card_text(run.card())), ("format", "pt".to_owned())];
            let metadata: BTreeMap<_, _> =
                metadata.into_iter().map(|(key, text)| (key.to_owned(), text)).collect();
            run.params().to_bytes(&metadata)?
        }
        Some("pth" | "pt") => weights::pytorch_bytes(&run.params().tensors())?,
        _ => {
            return Err(Error::Invalid(format!(
                "{}: the name must end with .safetensors, .pth or .pt, which says the format",
                path.display()
            )));
        }
    };
    files::replace_file(path, &bytes)
}
