//! 3×3 convolutions of stride 1 with fewer multiplications: Winograd's minimal filtering
//! F(2×2, 3×3), as Lavin and Gray brought it to convolutional networks (2015, arXiv 1509.09308).
//!
//! A tile of 4×4 inputs d gives 2×2 outputs `Aᵀ[(G g Gᵀ) ⊙ (Bᵀ d B)]A`: 16 multiplications where the
//! sum over taps has 36. The sum over channels is taken between the transforms, so it is 16
//! matrix products, one for each place in the tile:
//!
//! - forward: `M[p] = V[p] · U[p]`, V the transformed input (tiles × channels), U the weights;
//! - the input's gradient: the same with the weights turned and the channels changed over;
//! - the weight's gradient: `dU[p] = V[p]ᵀ · W[p]` with `W = A dy Aᵀ`, and then `dw = Gᵀ dU G`.
//!
//! F(4×4, 3×3) would multiply less again, but its matrices amplify rounding tenfold; these have no
//! entry beyond ±1 and ½.

mod correlate;
mod product;
mod transform;
mod weight_gradient;

pub(super) use correlate::{Weights, forward, forward_weights, input_gradient};
pub(super) use weight_gradient::weight_gradient;

use super::Geometry;
use crate::tile::tile_shape;

/// Places in a tile.
const PLACES: usize = 16;
/// Tiles below which transforming the weights does not pay.
const TILES: usize = 16;

/// Channels of a group from which on, on both sides, the products outweigh the transforms: what fills a
/// register tile in single precision, 32 with AVX-512, 16 with AVX2; and 16 without.
pub(super) fn channels() -> usize {
    (2 * tile_shape::<f32>().lanes).max(16)
}

/// Whether a convolution is done this way.
pub(super) fn fits(geo: &Geometry) -> bool {
    let tiles = geo.n * geo.oh.div_ceil(2) * geo.ow.div_ceil(2);
    (geo.kh, geo.kw, geo.stride, geo.dilation) == (3, 3, 1, 1)
        && geo.padding <= 2
        && geo.ci / geo.groups >= channels()
        && geo.co / geo.groups >= channels()
        && tiles >= TILES
}

/// Feature maps (n, h, w, channels of all groups) cut into 4×4 tiles that overlap by two, and the
/// 2×2 tiles of the results.
#[derive(Clone, Copy)]
struct Tiling {
    images: usize,
    h: usize,
    w: usize,
    padding: usize,
    /// Size of the results.
    oh: usize,
    ow: usize,
}

/// Where a tile is.
#[derive(Clone, Copy)]
struct Place {
    image: usize,
    /// Its first result.
    row: usize,
    column: usize,
}

impl Tiling {
    fn new(images: usize, (h, w): (usize, usize), padding: usize) -> Self {
        Self { images, h, w, padding, oh: h + 2 * padding - 2, ow: w + 2 * padding - 2 }
    }

    fn per_row(&self) -> usize {
        self.ow.div_ceil(2)
    }

    fn per_image(&self) -> usize {
        self.oh.div_ceil(2) * self.per_row()
    }

    fn count(&self) -> usize {
        self.images * self.per_image()
    }

    #[inline(always)]
    fn place(&self, tile: usize) -> Place {
        let (image, tile) = (tile / self.per_image(), tile % self.per_image());
        let (row, column) = (tile / self.per_row() * 2, tile % self.per_row() * 2);
        Place { image, row, column }
    }

    /// Tiles of a block, whose transforms are `bytes` for each tile: they stay in the L2 cache. At
    /// least `wanted` blocks, if there are tiles enough.
    fn block(&self, bytes: usize, wanted: usize) -> usize {
        let fitting = (BLOCK_BYTES / bytes).clamp(8, 128);
        self.count().div_ceil(wanted).next_multiple_of(8).min(fitting)
    }
}

/// Bytes of a block's transformed tiles.
const BLOCK_BYTES: usize = 320 << 10;
/// Elements between the places' parts of a block: without them all would meet in the same sets of
/// the cache.
const GAP: usize = 16;
