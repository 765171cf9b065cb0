//! Feature maps side by side, channel after channel.

mod cpu;
#[cfg(gpu)]
pub(crate) mod cuda;
#[cfg(test)]
mod tests;

use candle_core::{Shape, Tensor};

use crate::host::{by_device, host, tensor};
use crate::{Error, Result, Tracked, cost};

/// The channels of all parts, one part after the other.
///
/// # Shapes
/// Parts (…, C₁), (…, C₂), …, alike but for the channels, to (…, C₁ + C₂ + …). PyTorch, channels
/// first: `torch.cat(parts, 1)`.
///
/// # Errors
/// If there is no part, or one has another number type or differs in more than its channels.
pub fn concat(parts: &[&Tracked]) -> Result<Tracked> {
    const OP: &str = "concat";
    let Some(first) = parts.first() else {
        return Err(Error::config(OP, "there is nothing to concatenate"));
    };
    let &[ref rest @ .., _] = first.dims() else {
        return Err(Error::shape(OP, "parts (…, C)", first.dims()));
    };
    let mut widths = Vec::with_capacity(parts.len());
    for part in parts {
        match part.dims() {
            [same @ .., channels] if same == rest => widths.push(*channels),
            other => {
                return Err(Error::shape(OP, format!("parts of {rest:?} and channels"), other));
            }
        }
    }
    let shape = Shape::from([rest, &[widths.iter().sum()]].concat());
    if let Some(value) = cost::shape_only(shape.clone(), first.value().dtype(), 0)? {
        return Ok(Tracked::constant(value));
    }
    let values =
        parts.iter().map(|part| Ok(part.value().contiguous()?)).collect::<Result<Vec<_>>>()?;
    let y = by_device!(OP, &values[0], gpu => cuda::join(OP, &values, &widths, shape)?, T => {
        let hosts = values.iter().map(|v| host::<T>(OP, v)).collect::<Result<Vec<_>>>()?;
        let slices: Vec<&[T]> = hosts.iter().map(|h| &**h).collect();
        tensor(cpu::join(&slices, &widths, shape.elem_count()), shape)?
    });
    let tracked: Vec<bool> = parts.iter().map(|part| part.is_tracked()).collect();
    let rest = rest.to_vec();
    Ok(Tracked::from_op(y, parts, move |grad| {
        by_device!(OP, &grad, gpu => cuda::split(OP, &grad, &rest, &widths, &tracked), T => {
            let dy = host::<T>(OP, &grad)?;
            let total = widths.iter().sum();
            let mut start = 0;
            let mut gradients: Vec<Option<Tensor>> = Vec::with_capacity(widths.len());
            for (&width, &tracked) in widths.iter().zip(&tracked) {
                gradients.push(if tracked {
                    let part = cpu::part(&dy, start, width, total);
                    Some(tensor(part, [rest.as_slice(), &[width]].concat())?)
                } else {
                    None
                });
                start += width;
            }
            Ok(gradients)
        })
    }))
}
