//! A feature map weighted by one map or several, on a GPU.

use std::ops::Range;

use candle_core::Tensor;

use crate::Result;
use crate::cuda::{Arg, Grid, launch, packed, unwritten, unwritten_like};

/// The sizes, and which of the maps.
#[derive(Clone)]
pub struct Maps {
    /// N·H·W
    pub pixels: usize,
    pub channels: usize,
    /// T
    pub count: usize,
    pub chosen: Range<usize>,
    /// What is added to the maps.
    pub offset: f64,
}

impl Maps {
    fn sizes(&self) -> [Arg<'static>; 5] {
        [self.pixels, self.channels, self.count, self.chosen.start, self.chosen.len()]
            .map(Arg::Size)
    }

    /// Whether channels are handled in packs, and a thread for each pack of so many pixels.
    fn grid(&self, tensors: [&Tensor; 2], pixels: usize) -> (bool, Grid) {
        let lanes = 16 / tensors[0].dtype().size_in_bytes();
        let packs = self.channels.is_multiple_of(lanes) && packed(&tensors);
        (packs, Grid::each(pixels * if packs { self.channels / lanes } else { self.channels }))
    }

    /// (k, pixels, C), in that shape.
    pub fn forward(
        &self,
        op: &'static str,
        g: &Tensor,
        maps: &Tensor,
        shape: (usize, usize, usize, usize),
    ) -> Result<Tensor> {
        let y = unwritten(g, g.dtype(), shape)?;
        let (packs, grid) = self.grid([g, &y], self.pixels * self.chosen.len());
        let mut args = vec![Arg::read(g), Arg::read(maps), Arg::write(&y)];
        args.extend(self.sizes());
        args.extend([Arg::Real(self.offset), Arg::Flag(packs)]);
        launch(op, "attend", g, grid, &args)?;
        Ok(y)
    }

    /// The gradients of the feature map and of all maps, 0 for those that were not chosen, where
    /// they are wanted. That of the feature map takes `dy`'s memory if one map was chosen.
    pub fn backward(
        &self,
        op: &'static str,
        dy: Tensor,
        g: &Tensor,
        maps: &Tensor,
        wanted: [bool; 2],
    ) -> Result<Vec<Option<Tensor>>> {
        let d_maps = if wanted[1] {
            let d_maps = unwritten_like(maps)?;
            let mut args = vec![Arg::read(&dy), Arg::read(g), Arg::write(&d_maps)];
            args.extend(self.sizes());
            let blocks = [(self.pixels * self.count).div_ceil(8), 1, 1];
            launch(op, "attend_map_gradient", g, Grid { blocks, threads: [32, 8] }, &args)?;
            Some(d_maps)
        } else {
            None
        };
        if !wanted[0] {
            return Ok(vec![None, d_maps]);
        }
        let d_g = if self.chosen.len() == 1 { dy.reshape(g.shape())? } else { unwritten_like(g)? };
        let (packs, grid) = self.grid([&dy, &d_g], self.pixels);
        let mut args = vec![Arg::read(&dy), Arg::read(maps), Arg::write(&d_g)];
        args.extend(self.sizes());
        args.extend([Arg::Real(self.offset), Arg::Flag(packs)]);
        launch(op, "attend_gradient", g, grid, &args)?;
        Ok(vec![Some(d_g), d_maps])
    }
}
