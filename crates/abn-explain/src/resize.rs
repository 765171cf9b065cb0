//! Maps at another size.

use candle_core::{DType, Tensor};

use crate::Result;

/// Maps (N, h, w) to (N, height, width), bilinear between the centres of the cells.
///
/// PyTorch: `F.interpolate(x, size, mode="bilinear", align_corners=False)`; OpenCV's `INTER_LINEAR`.
///
/// # Errors
/// If the maps do not have three dimensions or a size is 0.
pub fn bilinear(maps: &Tensor, height: usize, width: usize) -> Result<Tensor> {
    let (n, h, w) = maps.dims3()?;
    let rows = weights(h, height, maps)?;
    let columns = weights(w, width, maps)?.t()?.contiguous()?;
    // Both axes are linear maps: rows · M · columns.
    let wide = maps.contiguous()?.reshape((n * h, w))?.matmul(&columns)?.reshape((n, h, width))?;
    Ok(rows.unsqueeze(0)?.broadcast_matmul(&wide)?.contiguous()?)
}

/// The matrix (to, from) that interpolates along an axis.
fn weights(from: usize, to: usize, like: &Tensor) -> Result<Tensor> {
    let mut values = vec![0f64; from * to];
    for (i, row) in values.chunks_exact_mut(from.max(1)).enumerate() {
        let last = from.saturating_sub(1);
        let at = ((i as f64 + 0.5) * from as f64 / to as f64 - 0.5).clamp(0.0, last as f64);
        let first = at.floor() as usize;
        row[first] += 1.0 - at.fract();
        row[(first + 1).min(last)] += at.fract();
    }
    Ok(Tensor::from_vec(values, (to, from), like.device())?.to_dtype(like.dtype())?)
}

/// Each map from its lowest value to its highest, as 0 to 1; a flat map is 0.
///
/// # Errors
/// If the maps do not have three dimensions.
pub fn normalised(maps: &Tensor) -> Result<Tensor> {
    let (n, h, w) = maps.dims3()?;
    let flat = maps.to_dtype(DType::F32)?.reshape((n, h * w))?;
    let (low, high) = (flat.min_keepdim(1)?, flat.max_keepdim(1)?);
    let range = (high - &low)?;
    let range = range.eq(0.0)?.to_dtype(DType::F32)?.add(&range)?;
    Ok(flat.broadcast_sub(&low)?.broadcast_div(&range)?.reshape((n, h, w))?)
}
