//! Every shape of a convolution in the four networks of `cargo xtask bench train` (ABN, 100 classes,
//! 32×32), at its batch sizes.

/// A convolution over square images, padded so that stride 1 keeps their size.
pub struct Layer {
    pub network: &'static str,
    pub batch: usize,
    pub size: usize,
    pub input: usize,
    pub output: usize,
    pub kernel: usize,
    pub stride: usize,
    pub groups: usize,
}

impl Layer {
    /// Multiplications and additions of the definition, in a pass.
    pub fn flop(&self) -> u64 {
        let pixels = self.batch * self.size.div_ceil(self.stride).pow(2);
        2 * (pixels * self.output * self.input / self.groups * self.kernel.pow(2)) as u64
    }

    /// Whether it is one of those that must come near the processor's peak.
    pub fn is_wide(&self) -> bool {
        self.kernel == 3 && self.input.min(self.output) / self.groups >= 32
    }
}

impl std::fmt::Display for Layer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { network, batch, size, input, output, kernel, stride, groups } = self;
        write!(f, "{network} {batch}x{size}x{size} {input}-{output} {kernel}x{kernel}")?;
        if *stride > 1 {
            write!(f, " stride {stride}")?;
        }
        if *groups > 1 {
            write!(f, " groups {groups}")?;
        }
        Ok(())
    }
}

macro_rules! layers {
    ($($network:literal $batch:literal: $([$($size:literal),*])*;)*) => {
        &[$($(layer($network, $batch, [$($size),*])),*),*]
    };
}

const fn layer(network: &'static str, batch: usize, sizes: [usize; 6]) -> Layer {
    let [size, input, output, kernel, stride, groups] = sizes;
    Layer { network, batch, size, input, output, kernel, stride, groups }
}

/// Image size, input channels, output channels, kernel, stride, groups.
pub const LAYERS: &[Layer] = layers! {
    "resnet20" 64:
        [32, 3, 16, 3, 1, 1]
        [32, 16, 16, 3, 1, 1]
        [32, 16, 32, 3, 2, 1]
        [32, 16, 32, 1, 2, 1]
        [16, 32, 32, 3, 1, 1]
        [16, 32, 64, 3, 1, 1]
        [16, 32, 64, 3, 2, 1]
        [16, 32, 64, 1, 2, 1]
        [16, 64, 64, 3, 1, 1]
        [16, 100, 1, 3, 1, 1]
        [16, 32, 64, 1, 1, 1]
        [16, 64, 100, 1, 1, 1]
        [16, 100, 100, 1, 1, 1]
        [8, 64, 64, 3, 1, 1];
    "resnet110" 32:
        [32, 3, 16, 3, 1, 1]
        [32, 16, 16, 3, 1, 1]
        [32, 32, 32, 3, 2, 1]
        [32, 64, 128, 1, 2, 1]
        [32, 16, 16, 1, 1, 1]
        [32, 16, 64, 1, 1, 1]
        [32, 64, 16, 1, 1, 1]
        [32, 64, 32, 1, 1, 1]
        [16, 32, 32, 3, 1, 1]
        [16, 64, 64, 3, 1, 1]
        [16, 64, 64, 3, 2, 1]
        [16, 100, 1, 3, 1, 1]
        [16, 128, 256, 1, 2, 1]
        [16, 32, 128, 1, 1, 1]
        [16, 64, 256, 1, 1, 1]
        [16, 100, 100, 1, 1, 1]
        [16, 128, 32, 1, 1, 1]
        [16, 128, 64, 1, 1, 1]
        [16, 128, 256, 1, 1, 1]
        [16, 256, 64, 1, 1, 1]
        [16, 256, 100, 1, 1, 1]
        [8, 64, 64, 3, 1, 1]
        [8, 64, 256, 1, 1, 1]
        [8, 256, 64, 1, 1, 1];
    "wrn-16-4" 32:
        [32, 3, 16, 3, 1, 1]
        [32, 16, 64, 3, 1, 1]
        [32, 64, 64, 3, 1, 1]
        [32, 64, 128, 3, 2, 1]
        [32, 64, 128, 1, 2, 1]
        [32, 16, 64, 1, 1, 1]
        [16, 100, 1, 3, 1, 1]
        [16, 128, 128, 3, 1, 1]
        [16, 128, 256, 3, 1, 1]
        [16, 128, 256, 3, 2, 1]
        [16, 128, 256, 1, 2, 1]
        [16, 256, 256, 3, 1, 1]
        [16, 100, 100, 1, 1, 1]
        [16, 128, 256, 1, 1, 1]
        [16, 256, 100, 1, 1, 1]
        [8, 256, 256, 3, 1, 1];
    "resnext29-8x64d" 8:
        [32, 3, 64, 3, 1, 1]
        [32, 256, 512, 1, 2, 1]
        [32, 512, 512, 3, 1, 8]
        [32, 1024, 1024, 3, 2, 8]
        [32, 64, 256, 1, 1, 1]
        [32, 64, 512, 1, 1, 1]
        [32, 256, 512, 1, 1, 1]
        [32, 256, 1024, 1, 1, 1]
        [32, 512, 256, 1, 1, 1]
        [16, 100, 1, 3, 1, 1]
        [16, 512, 1024, 1, 2, 1]
        [16, 1024, 1024, 3, 1, 8]
        [16, 2048, 2048, 3, 1, 8]
        [16, 2048, 2048, 3, 2, 8]
        [16, 100, 100, 1, 1, 1]
        [16, 512, 1024, 1, 1, 1]
        [16, 512, 2048, 1, 1, 1]
        [16, 1024, 100, 1, 1, 1]
        [16, 1024, 512, 1, 1, 1]
        [16, 1024, 2048, 1, 1, 1]
        [16, 2048, 1024, 1, 1, 1]
        [8, 2048, 2048, 3, 1, 8]
        [8, 1024, 2048, 1, 1, 1]
        [8, 2048, 1024, 1, 1, 1];
};
