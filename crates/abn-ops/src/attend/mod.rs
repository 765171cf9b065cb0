//! The attention mechanism: a feature map weighted by an attention map.

mod cpu;
#[cfg(gpu)]
mod cuda;
mod each;
#[cfg(test)]
mod tests;

use std::ops::Range;

use crate::host::{by_device, host, tensor};
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
    #[cfg(gpu)]
    let maps = cuda::Maps { pixels: n * h * w, channels, count: 1, chosen: 0..1, offset };
    let y = by_device!(
        OP,
        &g,
        gpu => maps.forward(OP, &g, &m, (n, h, w, channels)),
        T => cpu::forward::<T>(&host(OP, &g)?, &host(OP, &m)?, offset, g.shape())
    )?;
    let map_tracked = map.is_tracked();
    Ok(Tracked::from_op(y, &[feature, map], move |grad| {
        by_device!(OP, &g, gpu => maps.backward(OP, grad, &g, &m, [true, map_tracked]), T => {
            let shape = map_tracked.then(|| m.shape());
            let d_map =
                cpu::backward::<T>(&grad, &host(OP, &g)?, &host(OP, &m)?, offset, shape)?;
            Ok(vec![Some(grad), d_map])
        })
    }))
}

/// [`attend`] by each of several maps: the feature map weighted by one map after the other.
///
/// # Shapes
/// `feature` (N, H, W, C), `maps` (N, H, W, T), to (k·N, H, W, C) with the k maps of `chosen`: all
/// images by its first map, then all by its second, and so on.
/// PyTorch, channels first: `torch.cat([feature * maps[:, t:t+1] for t in chosen])`.
///
/// # Errors
/// If `feature` is not four-dimensional, `maps` not of its shape but for the channels, or `chosen`
/// empty or not below T.
pub fn attend_each(
    feature: &Tracked,
    maps: &Tracked,
    chosen: Range<usize>,
    residual: bool,
) -> Result<Tracked> {
    const OP: &str = "attend_each";
    let &[n, h, w, channels] = feature.dims() else {
        return Err(Error::shape(OP, "a feature map (N, H, W, C)", feature.dims()));
    };
    let count = match maps.dims() {
        &[a, b, c, count] if [a, b, c] == [n, h, w] => count,
        other => return Err(Error::shape(OP, format!("maps of {:?}", [n, h, w]), other)),
    };
    if chosen.is_empty() || chosen.end > count {
        let what = format!("maps {} to {} were chosen of {count}", chosen.start, chosen.end);
        return Err(Error::config(OP, what));
    }
    let shape = (chosen.len() * n, h, w, channels);
    if let Some(value) = cost::shape_only(shape, feature.value().dtype(), 0)? {
        return Ok(Tracked::constant(value));
    }
    let (g, m) = (feature.value().contiguous()?, maps.value().contiguous()?);
    #[cfg(gpu)]
    let on_gpu = cuda::Maps {
        pixels: n * h * w,
        channels,
        count,
        chosen: chosen.clone(),
        offset: if residual { 1.0 } else { 0.0 },
    };
    let each = each::Each { pixels: n * h * w, channels, count, chosen, residual };
    let kernel = each.clone();
    let y = by_device!(
        OP,
        &g,
        gpu => on_gpu.forward(OP, &g, &m, shape)?,
        T => tensor(kernel.forward::<T>(&host(OP, &g)?, &host(OP, &m)?), shape)?
    );
    let wanted = [feature.is_tracked(), maps.is_tracked()];
    Ok(Tracked::from_op(y, &[feature, maps], move |grad| {
        by_device!(OP, &g, gpu => on_gpu.backward(OP, grad, &g, &m, wanted), T => {
            let (d_feature, d_maps) =
                each.backward::<T>(&host(OP, &grad)?, &host(OP, &g)?, &host(OP, &m)?);
            let [d_feature, d_maps] = [(d_feature, g.shape()), (d_maps, m.shape())]
                .map(|(gradient, shape)| tensor(gradient, shape.clone()));
            Ok(vec![
                wanted[0].then_some(d_feature).transpose()?,
                wanted[1].then_some(d_maps).transpose()?,
            ])
        })
    }))
}
