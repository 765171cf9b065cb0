//! The parameters of a model, by name.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};

use candle_core::{DType, Device, Shape, Tensor, Var};
use candle_nn::var_builder::SimpleBackend;
use candle_nn::{Init, VarBuilder};

use crate::{Error, Result, init, weights};

/// Every parameter and buffer of a model, under the names of the authors' `state_dict`.
///
/// Models take a [`VarBuilder`] from [`ParamStore::var_builder`]: a parameter that is asked for
/// the first time gets its initial value, which depends only on the seed and the parameter's full
/// name. Cloning is cheap and shares the parameters.
///
/// Running statistics of batch norm (`running_mean`, `running_var`) are buffers: part of the
/// state, but not trained.
#[derive(Clone)]
pub struct ParamStore(Arc<Inner>);

struct Inner {
    seed: u64,
    dtype: DType,
    device: Device,
    shapes_only: bool,
    tensors: Mutex<BTreeMap<String, Tensor>>,
}

/// What [`ParamStore::load`] found not to match.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LoadReport {
    /// Parameters of the model that the weights lack; they keep their values.
    pub missing: Vec<String>,
    /// Names in the weights that the model does not have; they are left out.
    pub unexpected: Vec<String>,
}

impl ParamStore {
    /// An empty store, whose parameters will start from values that `seed` determines.
    pub fn new(seed: u64, dtype: DType, device: Device) -> Self {
        Self::with(seed, dtype, device, false)
    }

    /// A store for counting: its parameters have shapes but take no memory, and cannot be trained.
    pub fn shapes_only() -> Self {
        Self::with(0, DType::F32, Device::Cpu, true)
    }

    fn with(seed: u64, dtype: DType, device: Device, shapes_only: bool) -> Self {
        Self(Arc::new(Inner { seed, dtype, device, shapes_only, tensors: Mutex::default() }))
    }

    /// Where models get their parameters from.
    pub fn var_builder(&self) -> VarBuilder<'static> {
        let (dtype, device) = (self.dtype(), self.device().clone());
        VarBuilder::from_backend(Box::new(self.clone()), dtype, device)
    }

    /// Number type of the parameters.
    pub fn dtype(&self) -> DType {
        self.0.dtype
    }

    /// Where the parameters are.
    pub fn device(&self) -> &Device {
        &self.0.device
    }

    /// What is trained, sorted by name. Empty for a store of shapes.
    pub fn parameters(&self) -> Vec<(String, Var)> {
        self.variables(|name| !is_buffer(name))
    }

    /// Running statistics, sorted by name. Empty for a store of shapes.
    pub fn buffers(&self) -> Vec<(String, Var)> {
        self.variables(is_buffer)
    }

    /// Parameters and buffers, sorted by name. The tensors share memory with the store.
    pub fn tensors(&self) -> BTreeMap<String, Tensor> {
        self.lock().clone()
    }

    /// Number of trained numbers.
    pub fn parameter_count(&self) -> usize {
        let tensors = self.lock();
        tensors.iter().filter(|(name, _)| !is_buffer(name)).map(|(_, t)| t.elem_count()).sum()
    }

    /// Takes over the values of `weights`, by name.
    ///
    /// A leading `module.` (PyTorch's `DataParallel`) is dropped and `num_batches_tracked` is
    /// ignored; number types are converted. Nothing is changed unless all of it can be.
    ///
    /// # Errors
    /// [`Error::ParameterShape`] if a shape differs; with `strict`, [`Error::Keys`] if a name is
    /// missing or unexpected. Without `strict` the report names them.
    pub fn load(&self, weights: BTreeMap<String, Tensor>, strict: bool) -> Result<LoadReport> {
        let tensors = self.lock();
        let mut report = LoadReport::default();
        let mut found = BTreeMap::new();
        for (name, value) in weights {
            let name = name.strip_prefix("module.").unwrap_or(&name);
            if name.rsplit('.').next() == Some("num_batches_tracked") {
                continue;
            }
            let Some(tensor) = tensors.get(name) else {
                report.unexpected.push(name.to_owned());
                continue;
            };
            if tensor.shape() != value.shape() {
                let (expected, got) = (tensor.dims().to_vec(), value.dims().to_vec());
                return Err(Error::ParameterShape { name: name.to_owned(), expected, got });
            }
            let value = value.to_dtype(tensor.dtype())?.to_device(self.device())?;
            found.insert(name.to_owned(), (Var::from_tensor(tensor)?, value));
        }
        report.missing =
            tensors.keys().filter(|name| !found.contains_key(*name)).cloned().collect();
        report.unexpected.sort();
        if strict && report != LoadReport::default() {
            let LoadReport { missing, unexpected } = report;
            return Err(Error::Keys { missing, unexpected });
        }
        for (var, value) in found.values() {
            var.set(value)?;
        }
        Ok(report)
    }

    /// The parameters and buffers as a safetensors file, with metadata in its header. The same
    /// values give the same bytes.
    ///
    /// # Errors
    /// Those of [`weights::to_bytes`].
    pub fn to_bytes(&self, metadata: &BTreeMap<String, String>) -> Result<Vec<u8>> {
        weights::to_bytes(&self.tensors(), metadata)
    }

    /// Writes [`ParamStore::to_bytes`] to a file.
    ///
    /// # Errors
    /// Those of [`ParamStore::to_bytes`], and if the file cannot be written.
    pub fn save(&self, path: &Path, metadata: &BTreeMap<String, String>) -> Result<()> {
        let bytes = self.to_bytes(metadata)?;
        std::fs::write(path, bytes).map_err(|source| Error::Io { path: path.to_owned(), source })
    }

    fn variables(&self, wanted: impl Fn(&str) -> bool) -> Vec<(String, Var)> {
        let tensors = self.lock();
        let variables =
            tensors.iter().filter(|(name, tensor)| wanted(name) && tensor.is_variable());
        // A variable's tensor becomes a `Var` again without a copy, and without a way to fail.
        variables.filter_map(|(name, t)| Some((name.clone(), Var::from_tensor(t).ok()?))).collect()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Tensor>> {
        self.0.tensors.lock().unwrap_or_else(|e| e.into_inner())
    }
}

impl SimpleBackend for ParamStore {
    fn get(
        &self,
        shape: Shape,
        name: &str,
        init: Init,
        dtype: DType,
        device: &Device,
    ) -> candle_core::Result<Tensor> {
        if let Some(tensor) = self.lock().get(name) {
            if tensor.shape() != &shape {
                let (expected, got) = (shape.into_dims(), tensor.dims().to_vec());
                let error = Error::ParameterShape { name: name.to_owned(), expected, got };
                return Err(candle_core::Error::wrap(error));
            }
            return Ok(tensor.clone());
        }
        let tensor = if self.0.shapes_only {
            abn_ops::zeros_without_memory(shape, dtype).map_err(candle_core::Error::wrap)?
        } else {
            let value = init::initial(init, &shape, self.0.seed, name, dtype, device)?;
            Var::from_tensor(&value)?.into_inner()
        };
        // Another thread may have made it meanwhile, with the same value: one of the two stays.
        Ok(self.lock().entry(name.to_owned()).or_insert(tensor).clone())
    }

    fn get_unchecked(&self, name: &str, _: DType, _: &Device) -> candle_core::Result<Tensor> {
        let tensor = self.lock().get(name).cloned();
        tensor.ok_or_else(|| candle_core::Error::CannotFindTensor { path: name.to_owned() }.bt())
    }

    fn contains_tensor(&self, name: &str) -> bool {
        self.lock().contains_key(name)
    }
}

fn is_buffer(name: &str) -> bool {
    matches!(name.rsplit('.').next(), Some("running_mean" | "running_var"))
}
