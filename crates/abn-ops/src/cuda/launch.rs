//! Starting a kernel, wherever it runs.

use std::cell::Cell;

#[cfg(feature = "cuda")]
use candle_core::CudaStorage;
use candle_core::{CpuStorage, DType, Device, InplaceOp1, Layout, Storage, Tensor};

use crate::{Error, Result};

/// A kernel's argument. Tensors are contiguous and all on one device.
#[derive(Clone, Copy)]
pub(crate) enum Arg<'a> {
    /// A tensor that is read, of the type that `Of` says.
    In(Of, &'a Tensor),
    /// A tensor that is written, or read and written.
    Out(Of, &'a Tensor),
    /// A null pointer.
    Null,
    /// `i64`
    Size(usize),
    /// `i64`, 0 or 1.
    Flag(bool),
    /// `u64`
    Bits(u64),
    /// `double`
    Real(f64),
    /// A struct of as many words.
    Words(&'a [u64]),
    /// The beginning of a struct whose words are the next arguments.
    Begin,
    /// Its end; it has so many words, and zeros where no more was named.
    End(usize),
}

/// What a kernel's pointer points to, in `kernel.h`'s words.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Of {
    /// `T`: the type of feature maps.
    Element,
    /// `A`: that of parameters, statistics and losses.
    Wide,
    /// `double`
    Double,
    /// `u32`
    Index,
    /// `unsigned char`
    Byte,
}

impl<'a> Arg<'a> {
    pub fn read(tensor: &'a Tensor) -> Self {
        Self::In(Of::Element, tensor)
    }

    pub fn write(tensor: &'a Tensor) -> Self {
        Self::Out(Of::Element, tensor)
    }

    pub fn read_wide(tensor: &'a Tensor) -> Self {
        Self::In(Of::Wide, tensor)
    }

    pub fn write_wide(tensor: &'a Tensor) -> Self {
        Self::Out(Of::Wide, tensor)
    }

    /// The argument that is there, or a null pointer.
    pub fn or_null(tensor: Option<&'a Tensor>, arg: impl Fn(&'a Tensor) -> Self) -> Self {
        tensor.map_or(Self::Null, arg)
    }
}

/// How many threads run a kernel.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Grid {
    /// Blocks along x, y and z.
    pub blocks: [usize; 3],
    /// Threads of a block along x and y.
    pub threads: [usize; 2],
}

/// Threads of a block where nothing else asks for a number.
const THREADS: usize = 256;

impl Grid {
    /// A thread for each of `count` elements.
    pub fn each(count: usize) -> Self {
        Self { blocks: [count.div_ceil(THREADS), 1, 1], threads: [THREADS, 1] }
    }

    /// For a kernel that ends in `map`: a thread for each pack of elements.
    pub fn map(count: usize, dtype: DType) -> Self {
        Self::each(count.div_ceil(16 / dtype.size_in_bytes()))
    }
}

/// A kernel's arguments, as they are passed: each begins at one of `starts`.
#[derive(Clone)]
pub(super) struct Arguments {
    pub words: Vec<u64>,
    pub starts: Vec<usize>,
}

/// Runs a kernel of the number type of `like` on its device, after all that was started there before.
/// A grid without blocks does nothing.
///
/// # Errors
/// If there are no kernels for the number type, a tensor is not contiguous, of another type than its
/// argument says or on another device, or the driver refuses.
pub(crate) fn launch(
    op: &'static str,
    kernel: &'static str,
    like: &Tensor,
    grid: Grid,
    args: &[Arg<'_>],
) -> Result<()> {
    let (device, dtype) = (like.device(), like.dtype());
    let wide = super::wide(op, dtype)?;
    #[cfg(feature = "cuda")]
    if device.is_cpu() && super::staged::is_on() {
        return super::staged::launch(op, kernel, like, grid, args);
    }
    let capacity = args.len();
    let mut arguments =
        Arguments { words: Vec::with_capacity(capacity), starts: Vec::with_capacity(capacity) };
    let mut within = false;
    for arg in args {
        if !within {
            arguments.starts.push(arguments.words.len());
        }
        arguments.words.push(match *arg {
            Arg::In(of, tensor) | Arg::Out(of, tensor) => {
                let expected = match of {
                    Of::Element => dtype,
                    Of::Wide => wide,
                    Of::Double => DType::F64,
                    Of::Index => DType::U32,
                    Of::Byte => DType::U8,
                };
                check(op, tensor, expected, device)?;
                if matches!(arg, Arg::Out(..)) {
                    address_mut(op, tensor)
                } else {
                    address(op, tensor)
                }?
            }
            Arg::Null => 0,
            Arg::Size(size) => size as u64,
            Arg::Flag(flag) => u64::from(flag),
            Arg::Bits(bits) => bits,
            Arg::Real(value) => value.to_bits(),
            Arg::Words(words) => {
                arguments.words.extend(words);
                continue;
            }
            Arg::Begin => {
                within = true;
                continue;
            }
            Arg::End(count) => {
                within = false;
                let start = arguments.starts.last().copied().unwrap_or_default();
                arguments.words.resize(start + count, 0);
                continue;
            }
        });
    }
    if grid.blocks.contains(&0) {
        return Ok(());
    }
    match device {
        #[cfg(feature = "cuda")]
        Device::Cuda(device) => super::driver::launch(op, kernel, device, dtype, grid, &arguments),
        #[cfg(feature = "cuda-emulation")]
        Device::Cpu => super::emulation::launch(op, kernel, dtype, grid, arguments),
        _ => Err(Error::Unsupported { op, what: format!("the kernel {kernel} on {device:?}") }),
    }
}

/// Fails unless the tensor is of that type and on that device.
fn check(op: &'static str, tensor: &Tensor, expected: DType, device: &Device) -> Result<()> {
    if tensor.dtype() != expected {
        let what = format!("{:?} where {expected:?} is expected", tensor.dtype());
        return Err(Error::Unsupported { op, what });
    }
    if !device.same_device(tensor.device()) {
        let what = format!("tensors on {device:?} and {:?} at once", tensor.device());
        return Err(Error::Unsupported { op, what });
    }
    Ok(())
}

/// Whether packs of 16 bytes can be read from and written to all of these.
pub(crate) fn packed(tensors: &[&Tensor]) -> bool {
    tensors.iter().all(|tensor| address("", tensor).is_ok_and(|address| address.is_multiple_of(16)))
}

/// Where a contiguous tensor's elements are, to be read.
pub(crate) fn address(op: &'static str, tensor: &Tensor) -> Result<u64> {
    let (storage, layout) = tensor.storage_and_layout();
    let start = offset(op, layout, tensor.dtype())?;
    Ok(start
        + match &*storage {
            Storage::Cpu(storage) => cpu_address(op, storage)?,
            #[cfg(feature = "cuda")]
            Storage::Cuda(storage) => super::driver::address(op, storage)?,
            _ => return Err(unsupported(op, tensor)),
        })
}

/// Bytes from the storage's first element to the tensor's.
fn offset(op: &'static str, layout: &Layout, dtype: DType) -> Result<u64> {
    let Some((start, _)) = layout.contiguous_offsets() else {
        return Err(Error::Unsupported { op, what: "a tensor that is not contiguous".into() });
    };
    Ok((start * dtype.size_in_bytes()) as u64)
}

fn unsupported(op: &'static str, tensor: &Tensor) -> Error {
    Error::Unsupported { op, what: format!("{:?} on {:?}", tensor.dtype(), tensor.device()) }
}

/// As [`address`], to be written: by way of candle's lock, which knows who else uses the storage.
pub(crate) fn address_mut(op: &'static str, tensor: &Tensor) -> Result<u64> {
    struct Take(Cell<u64>, &'static str);
    impl InplaceOp1 for Take {
        fn name(&self) -> &'static str {
            self.1
        }

        fn cpu_fwd(&self, storage: &mut CpuStorage, _: &Layout) -> candle_core::Result<()> {
            self.0.set(match storage {
                CpuStorage::F32(data) => data.as_mut_ptr() as u64,
                CpuStorage::F64(data) => data.as_mut_ptr() as u64,
                CpuStorage::BF16(data) => data.as_mut_ptr() as u64,
                CpuStorage::U32(data) => data.as_mut_ptr() as u64,
                _ => candle_core::bail!("{}: no kernel writes this number type", self.1),
            });
            Ok(())
        }

        #[cfg(feature = "cuda")]
        fn cuda_fwd(&self, storage: &mut CudaStorage, _: &Layout) -> candle_core::Result<()> {
            self.0.set(super::driver::address_mut(storage)?);
            Ok(())
        }
    }
    let start = offset(op, tensor.layout(), tensor.dtype())?;
    let take = Take(Cell::new(0), op);
    tensor.inplace_op1(&take)?;
    Ok(start + take.0.get())
}

fn cpu_address(op: &'static str, storage: &CpuStorage) -> Result<u64> {
    Ok(match storage {
        CpuStorage::F32(data) => data.as_ptr() as u64,
        CpuStorage::F64(data) => data.as_ptr() as u64,
        CpuStorage::BF16(data) => data.as_ptr() as u64,
        CpuStorage::U32(data) => data.as_ptr() as u64,
        CpuStorage::U8(data) => data.as_ptr() as u64,
        _ => return Err(Error::Unsupported { op, what: "this number type".into() }),
    })
}
