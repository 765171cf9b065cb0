//! Number types of stored tensors, and their conversion to single precision.

use half::{bf16, f16};

use super::Found;

/// A number type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Element {
    F16,
    BF16,
    F32,
    F64,
    /// Something that is no weight, by its name and size in bytes.
    Other(&'static str, usize),
}

impl Element {
    /// The type of PyTorch's storage class of that name.
    pub fn of_storage(class: &str) -> Option<Self> {
        Some(match class {
            "HalfStorage" => Self::F16,
            "BFloat16Storage" => Self::BF16,
            "FloatStorage" => Self::F32,
            "DoubleStorage" => Self::F64,
            "LongStorage" => Self::Other("int64", 8),
            "IntStorage" => Self::Other("int32", 4),
            "ShortStorage" => Self::Other("int16", 2),
            "CharStorage" => Self::Other("int8", 1),
            "ByteStorage" => Self::Other("uint8", 1),
            "BoolStorage" => Self::Other("bool", 1),
            "ComplexFloatStorage" => Self::Other("complex64", 8),
            "ComplexDoubleStorage" => Self::Other("complex128", 16),
            _ => return None,
        })
    }

    /// Bytes of a number.
    pub fn size(self) -> usize {
        match self {
            Self::F16 | Self::BF16 => 2,
            Self::F32 => 4,
            Self::F64 => 8,
            Self::Other(_, size) => size,
        }
    }

    /// How to read a number from exactly [`Element::size`] bytes.
    pub fn reader(self, big_endian: bool) -> Found<fn(&[u8]) -> f32> {
        macro_rules! read {
            ($bytes:ident, $number:ident, $value:expr) => {
                if big_endian {
                    |raw: &[u8]| {
                        let $number = number(raw, $bytes::from_be_bytes);
                        $value
                    }
                } else {
                    |raw: &[u8]| {
                        let $number = number(raw, $bytes::from_le_bytes);
                        $value
                    }
                }
            };
        }
        Ok(match self {
            Self::F16 => read!(f16, x, x.to_f32()),
            Self::BF16 => read!(bf16, x, x.to_f32()),
            Self::F32 => read!(f32, x, x),
            Self::F64 => read!(f64, x, x as f32),
            Self::Other(name, _) => {
                return Err(format!("its numbers are {name}; weights are floating-point"));
            }
        })
    }
}

fn number<const N: usize, T>(raw: &[u8], convert: fn([u8; N]) -> T) -> T {
    let mut bytes = [0; N];
    bytes.copy_from_slice(raw);
    convert(bytes)
}
