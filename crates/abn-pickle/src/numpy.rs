//! numpy's arrays, in the forms that numpy has pickled them in.

use std::borrow::Cow;

use crate::{Error, Object, Result, Value};

/// A numpy array of numbers; bounds are checked, nothing is converted.
#[derive(Clone, Debug, PartialEq)]
pub struct Array<'p> {
    /// Size of each dimension.
    pub shape: Vec<usize>,
    /// What the numbers are.
    pub element: ElementType,
    /// Whether the *first* index changes fastest.
    pub fortran_order: bool,
    /// The numbers, exactly as many as the shape says.
    pub bytes: Cow<'p, [u8]>,
}

/// A number type: numpy's `dtype.kind`, `itemsize` and byte order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ElementType {
    /// `u`: unsigned, `i`: signed, `f`: float, `b`: bool, `c`: complex.
    pub kind: char,
    /// Bytes of a number.
    pub size: usize,
    /// Whether the highest byte comes first.
    pub big_endian: bool,
}

impl<'p> Array<'p> {
    /// Numbers of type `uint8`, the last index changing fastest.
    ///
    /// # Errors
    /// [`Error::Unexpected`] if they are of another type or order.
    pub fn as_u8(&self) -> Result<&[u8]> {
        let ElementType { kind, size, .. } = self.element;
        let one_dimension = self.shape.iter().filter(|&&size| size > 1).count() <= 1;
        if (kind, size) != ('u', 1) || (self.fortran_order && !one_dimension) {
            let order = if self.fortran_order { ", first index fastest" } else { "" };
            return Err(Error::Unexpected {
                expected: "an array of uint8, last index fastest".into(),
                found: format!("one of {kind}{size}{order}"),
            });
        }
        Ok(&self.bytes)
    }

    pub(crate) fn of(value: Value<'p>) -> Result<Self> {
        let not_one =
            || Error::Unexpected { expected: "a numpy array".into(), found: value.describe() };
        let object = value.object().ok_or_else(not_one)?;
        let Value::Global { module, name } = object.callable() else { return Err(not_one()) };
        match (module, name) {
            ("numpy.core.multiarray" | "numpy._core.multiarray", "_reconstruct") => {
                let state = object.state().and_then(Value::sequence).ok_or_else(not_one)?;
                // Version, shape, type, order, data; the first numpys had no version.
                let skip = usize::from(state.len() == 5);
                let part = |index: usize| state.get(index + skip).ok_or_else(not_one);
                let fortran_order = truth(part(2)?).ok_or_else(not_one)?;
                Self::from_parts(part(0)?, part(1)?, fortran_order, part(3)?)
            }
            ("numpy.core.numeric" | "numpy._core.numeric", "_frombuffer") => {
                let arguments = object.arguments();
                let part = |index: usize| arguments.get(index).ok_or_else(not_one);
                let fortran_order = part(3)?.text() == Some("F");
                Self::from_parts(part(2)?, part(1)?, fortran_order, part(0)?)
            }
            _ => Err(not_one()),
        }
    }

    fn from_parts(
        shape: Value<'p>,
        element: Value<'p>,
        fortran_order: bool,
        data: Value<'p>,
    ) -> Result<Self> {
        let shape = dimensions(shape)?;
        let element = ElementType::of(element)?;
        let bytes = data.bytes().ok_or_else(|| Error::Unexpected {
            expected: "an array's numbers as bytes".into(),
            found: data.describe(),
        })?;
        let expected =
            shape.iter().try_fold(element.size, |length, &size| length.checked_mul(size));
        if expected != Some(bytes.len()) {
            return Err(Error::Unexpected {
                expected: format!("an array of shape {shape:?} and {} bytes each", element.size),
                found: format!("{} bytes", bytes.len()),
            });
        }
        Ok(Self { shape, element, fortran_order, bytes })
    }
}

/// `bool`, or 0 and 1 as Python 2 wrote them.
fn truth(value: Value<'_>) -> Option<bool> {
    match value {
        Value::Bool(value) => Some(value),
        Value::Int(value @ (0 | 1)) => Some(value == 1),
        _ => None,
    }
}

fn dimensions(value: Value<'_>) -> Result<Vec<usize>> {
    let unexpected =
        || Error::Unexpected { expected: "an array's shape".into(), found: value.describe() };
    let sizes = value.sequence().ok_or_else(unexpected)?;
    let size = |size: Value<'_>| usize::try_from(size.int()?).ok();
    sizes.iter().map(size).collect::<Option<_>>().ok_or_else(unexpected)
}

impl ElementType {
    /// `numpy.dtype("u1", …)`, whose state holds the byte order.
    fn of(value: Value<'_>) -> Result<Self> {
        Self::read(value).ok_or_else(|| Error::Unexpected {
            expected: "a numpy number type".into(),
            found: match value.object().and_then(|object| object.arguments().get(0)) {
                Some(name) => name.describe(),
                None => value.describe(),
            },
        })
    }

    fn read(value: Value<'_>) -> Option<Self> {
        let object: Object<'_> = value.object()?;
        if !object.callable().is_global("numpy", "dtype") {
            return None;
        }
        let name = object.arguments().get(0)?.text()?;
        let mut characters = name.chars();
        let kind = characters.next().filter(|kind| "uifbc".contains(*kind))?;
        let size =
            characters.as_str().parse().ok().filter(|size| matches!(size, 1 | 2 | 4 | 8 | 16))?;
        let order = object.state()?.sequence()?.get(1)?.text()?;
        let big_endian = match order {
            "<" | "|" | "=" => false,
            ">" => true,
            _ => return None,
        };
        Some(Self { kind, size, big_endian })
    }
}
