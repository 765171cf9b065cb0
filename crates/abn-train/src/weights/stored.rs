//! A tensor as it lies in a file.

use std::ops::Range;

use super::Found;
use super::element::Element;

/// Where a tensor's numbers lie: a view of a storage, which it may share with others.
///
/// Every number lies inside its storage, and the tensor has no more numbers than its storage: what
/// it takes in memory is bounded by the file.
#[derive(Clone, Debug)]
pub(super) struct StoredTensor {
    dims: Vec<usize>,
    /// Numbers to skip from one index of each dimension to the next.
    strides: Vec<usize>,
    /// Numbers of the storage before the tensor's first.
    offset: usize,
    storage: Storage,
}

/// Numbers in a row.
#[derive(Clone, Debug)]
pub(super) struct Storage {
    /// Where they lie in the file, in bytes.
    pub bytes: Range<usize>,
    pub element: Element,
    pub big_endian: bool,
}

impl Storage {
    /// How many there are.
    fn len(&self) -> usize {
        self.bytes.len() / self.element.size()
    }
}

impl StoredTensor {
    /// A view of a storage.
    pub(super) fn view(
        storage: Storage,
        offset: usize,
        dims: Vec<usize>,
        strides: Vec<usize>,
    ) -> Found<Self> {
        if dims.len() != strides.len() {
            return Err(format!("it has {} dimensions, but {} strides", dims.len(), strides.len()));
        }
        // One past the last number; the first is at the offset.
        let last = dims.iter().zip(&strides).try_fold(offset, |last, (&size, &stride)| {
            last.checked_add(size.saturating_sub(1).checked_mul(stride)?)
        });
        let end = if dims.contains(&0) {
            Some(offset)
        } else {
            last.and_then(|last| last.checked_add(1))
        };
        if end.is_none_or(|end| end > storage.len()) {
            return Err(format!(
                "shape {dims:?} with strides {strides:?} from number {offset} on reaches beyond its \
                 storage of {} numbers",
                storage.len()
            ));
        }
        let count = dims.iter().try_fold(1usize, |count, &size| count.checked_mul(size));
        if count.is_none_or(|count| count > storage.len()) {
            return Err(format!(
                "shape {dims:?} has more numbers than its storage, which has {}",
                storage.len()
            ));
        }
        Ok(Self { dims, strides, offset, storage })
    }

    /// A tensor whose numbers fill a storage, the last index changing fastest.
    pub(super) fn contiguous(storage: Storage, dims: Vec<usize>) -> Found<Self> {
        let strides = contiguous_strides(&dims);
        Self::view(storage, 0, dims, strides)
    }

    /// Size of each dimension.
    pub fn dims(&self) -> &[usize] {
        &self.dims
    }

    /// The numbers, the last index changing fastest; `file` is all of the file.
    pub fn values(&self, file: &[u8]) -> Found<Vec<f32>> {
        let Storage { bytes, element, big_endian } = &self.storage;
        let read = element.reader(*big_endian)?;
        let size = element.size();
        let storage = file.get(bytes.clone()).ok_or("its storage is outside of the file")?;
        let count = self.dims.iter().product();
        let mut values: Vec<f32> = Vec::with_capacity(count);
        let mut index = vec![0; self.dims.len()];
        let mut position = self.offset;
        for count in 0..count {
            let value = read(&storage[position * size..][..size]);
            if !value.is_finite() {
                return Err(format!("number {count} is {value}; weights must be finite"));
            }
            values.push(value);
            // The next index, counted like the hands of a clock.
            for axis in (0..index.len()).rev() {
                index[axis] += 1;
                position += self.strides[axis];
                if index[axis] < self.dims[axis] {
                    break;
                }
                position -= index[axis] * self.strides[axis];
                index[axis] = 0;
            }
        }
        Ok(values)
    }
}

/// Strides of numbers in a row, the last index changing fastest.
pub(super) fn contiguous_strides(dims: &[usize]) -> Vec<usize> {
    let mut strides = vec![1usize; dims.len()];
    for i in (1..dims.len()).rev() {
        strides[i - 1] = strides[i].saturating_mul(dims[i]);
    }
    strides
}
