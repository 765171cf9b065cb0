//! The attention mechanism: a feature map weighted by an attention map.

mod cpu;
#[cfg(test)]
mod tests;

use crate::host::{by_dtype, host};
use crate::{Error, Result, Tracked, cost};

/// Weights every channel of a feature map by an attention map: `feature · map` (the paper's
/// equation 1), or `feature · (1 + map)` if `residual` (equation 2).
///
/// # Shapes
/// `feature` (N, H, W, C), `map` (N, H, W, 1), to (N, H, W, C). PyTorch, channels first:
/// `feature * map` and `feature * map + feature`.
///
/// # Errors
/// If `feature` is not four-dimensional or `map` is not of its shape with one channel.
pub fn attend(feature: &Tracked, map: &Tracked, residual: bool) -> Result<Tracked> {
    const OP: &str = "attend";
    let &[n, h, w, channels] = feature.dims() else {
        return Err(Error::shape(OP, "a feature map (N, H, W, C)", feature.dims()));
    };
    if map.dims() != [n, h, w, 1] {
        return Err(Error::shape(OP, format!("a map of {:?}", [n, h, w, 1]), map.dims()));
    }
    if let Some(value) = cost::shape_only((n, h, w, channels), feature.value().dtype(), 0)? {
        return Ok(Tracked::constant(value));
    }
    let (g, m) = (feature.value().contiguous()?, map.value().contiguous()?);
    let offset = if residual { 1.0 } else { 0.0 };
    let y = by_dtype!(OP, &g, T => cpu::forward::<T>(&host(OP, &g)?, &host(OP, &m)?, offset, g.shape()))?;
    let map_tracked = map.is_tracked();
    Ok(Tracked::from_op(y, &[feature, map], move |grad| {
        let d_map = by_dtype!(OP, &g, T => cpu::backward::<T>(
            &grad,
            &host(OP, &g)?,
            &host(OP, &m)?,
            offset,
            map_tracked.then(|| m.shape())
        ))?;
        Ok(vec![Some(grad), d_map])
    }))
}
