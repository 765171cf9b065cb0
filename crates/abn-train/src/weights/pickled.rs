//! PyTorch's objects in a pickle: the state_dict, its tensors, and the storages they name.

use abn_pickle::{Pickle, Reference, Value};

use super::element::Element;
use super::stored::Storage;
use super::{Contents, Found, StoredTensor, short};

/// Where a checkpoint keeps its weights, likeliest first.
const STATE_DICTS: [&str; 5] = ["state_dict", "model_state_dict", "model", "net", "network"];

/// What a tensor says of its storage.
#[derive(Clone, Copy, Debug)]
pub(super) struct StorageName<'p> {
    pub key: &'p str,
    pub element: Element,
    /// Number of elements.
    pub count: usize,
    /// Elements before those that the tensor counts from: old PyTorch's views of storages.
    view_offset: usize,
}

impl<'p> StorageName<'p> {
    /// `("storage", class, key, device, number of elements)`, and in old files
    /// `(view's key, offset, size)` or `None` after these.
    pub fn of(reference: Reference<'p>) -> Found<Self> {
        let parts = reference.id();
        let unknown = || format!("the name of a storage is {}", parts.describe());
        let parts =
            parts.sequence().filter(|parts| matches!(parts.len(), 5 | 6)).ok_or_else(unknown)?;
        let part = |index: usize| parts.get(index).unwrap_or(Value::None);
        if part(0).text() != Some("storage") {
            return Err(unknown());
        }
        let Value::Global { module: "torch" | "torch.cuda" | "torch.storage", name: class } =
            part(1)
        else {
            return Err(format!("the class of a storage is {}", part(1).describe()));
        };
        let element = Element::of_storage(class)
            .ok_or_else(|| format!("the class of a storage is torch.{}", short(class)))?;
        let key = part(2).text().ok_or_else(unknown)?;
        let count = size(part(4)).ok_or_else(unknown)?;
        let view_offset = match part(5) {
            Value::None => 0,
            view => view.sequence().and_then(|view| size(view.get(1)?)).ok_or_else(unknown)?,
        };
        Ok(Self { key, element, count, view_offset })
    }

    /// Size in bytes; `None` if no file can have it.
    pub fn bytes(&self) -> Option<usize> {
        self.count.checked_mul(self.element.size())
    }

    /// Refuses a storage of another size.
    pub fn check_size(&self, found: usize) -> Found<()> {
        if self.bytes() == Some(found) {
            return Ok(());
        }
        Err(format!(
            "its storage {} has {found} bytes, expected {} numbers of {} bytes each",
            short(self.key),
            self.count,
            self.element.size()
        ))
    }
}

/// How to find a storage.
pub(super) type Find<'f> = &'f dyn Fn(&StorageName<'_>) -> Found<Storage>;

/// The tensors of a state_dict, which is the object itself or in it.
pub(super) fn state_dict(pickle: &Pickle<'_>, find: Find<'_>) -> Found<Contents> {
    let root = pickle.root();
    let inner = STATE_DICTS.into_iter().find_map(|key| root.get(key).map(|value| (key, value)));
    let (place, dict) = match inner {
        Some((key, value)) => (format!("its entry {key:?}"), value),
        None => ("it".to_owned(), root),
    };
    let entries = dict.entries().ok_or_else(|| {
        let hint = match dict {
            Value::Object(_) => "; if that is a whole network, save its state_dict() instead",
            _ => "",
        };
        format!("{place} holds {}, expected a dict of tensors{hint}", dict.describe())
    })?;
    let mut contents = Contents::default();
    for (name, value) in entries {
        let name =
            name.text().ok_or_else(|| format!("the name of a tensor is {}", name.describe()))?;
        contents.add(name, || tensor(value, find, MOST_WRAPPERS))?;
    }
    if contents.tensors.is_empty() {
        return Err(format!("{place} holds no tensors"));
    }
    Ok(contents)
}

/// A parameter is a tensor in a call; nothing is a call in a call in a call.
const MOST_WRAPPERS: u32 = 2;

fn tensor(value: Value<'_>, find: Find<'_>, wrappers: u32) -> Found<StoredTensor> {
    let no_tensor = || format!("expected a tensor, found {}", value.describe());
    let object = value.object().ok_or_else(no_tensor)?;
    let argument = |index: usize| object.arguments().get(index).unwrap_or(Value::None);
    let Value::Global { module, name } = object.callable() else { return Err(no_tensor()) };
    match (module, name) {
        ("torch._utils", "_rebuild_tensor" | "_rebuild_tensor_v2") => {}
        // Tensors with something around them; the last two are how PyTorch before 0.4 wrote them.
        ("torch._utils", "_rebuild_parameter" | "_rebuild_parameter_with_state")
        | ("torch.nn.parameter", "Parameter")
        | ("torch.autograd.variable", "Variable")
            if wrappers > 0 =>
        {
            return tensor(argument(0), find, wrappers - 1);
        }
        _ => return Err(no_tensor()),
    }
    let Value::Persistent(reference) = argument(0) else {
        return Err(format!("its storage is {}", argument(0).describe()));
    };
    let name = StorageName::of(reference)?;
    let offset = size(argument(1))
        .and_then(|offset| offset.checked_add(name.view_offset))
        .ok_or_else(|| format!("its offset is {}", argument(1).describe()))?;
    let dims = sizes(argument(2)).ok_or("its shape is not of sizes from 0 on")?;
    let strides = sizes(argument(3)).ok_or("its strides are not of numbers from 0 on")?;
    StoredTensor::view(find(&name)?, offset, dims, strides)
}

fn size(value: Value<'_>) -> Option<usize> {
    usize::try_from(value.int()?).ok()
}

/// Numbers in a tuple, or in the `torch.Size` of one.
fn sizes(value: Value<'_>) -> Option<Vec<usize>> {
    let numbers = match value.object() {
        Some(object) if object.callable().is_global("torch", "Size") => {
            object.arguments().get(0)?
        }
        _ => value,
    };
    numbers.sequence()?.iter().map(size).collect()
}
