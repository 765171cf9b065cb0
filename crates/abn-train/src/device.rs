//! Where to compute.

use std::fmt;
use std::str::FromStr;

use candle_core::Device;

use crate::{Error, Result};

/// Where to compute, as `--device` says it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DeviceChoice {
    /// `cpu`
    #[default]
    Cpu,
    /// `cuda` or `cuda:N`: that of the GPUs that the driver shows, from 0. The driver shows those
    /// that `CUDA_VISIBLE_DEVICES` names, in its order.
    Cuda(Option<usize>),
}

impl DeviceChoice {
    /// The device of a process with this number on its host, which is that of its GPU unless one
    /// is named.
    ///
    /// # Errors
    /// [`Error::Device`] saying whether the program lacks CUDA, or what CUDA lacks: driver, library
    /// or device.
    pub fn open(self, local_rank: usize) -> Result<Device> {
        match self {
            Self::Cpu => Ok(Device::Cpu),
            Self::Cuda(number) => cuda(number.unwrap_or(local_rank)),
        }
    }
}

/// How many GPUs the driver shows; none if there is no driver, or this program does without.
pub fn gpus() -> usize {
    #[cfg(feature = "cuda")]
    {
        use candle_core::cuda_backend::cudarc::driver::CudaContext;
        // Where a library is missing, its loader panics.
        let count = std::panic::catch_unwind(CudaContext::device_count);
        count.ok().and_then(Result::ok).and_then(|count| count.try_into().ok()).unwrap_or(0)
    }
    #[cfg(not(feature = "cuda"))]
    0
}

#[cfg(not(feature = "cuda"))]
fn cuda(number: usize) -> Result<Device> {
    let problem = "this program was built without CUDA; build it with `--features cuda` (as in `cargo install \
                   --path crates/abn-train --features cuda`), which needs NVIDIA's CUDA toolkit with cuDNN";
    Err(Error::Device { device: format!("cuda:{number}"), problem: problem.into() })
}

#[cfg(feature = "cuda")]
fn cuda(number: usize) -> Result<Device> {
    let refuse = |problem| Err(Error::Device { device: format!("cuda:{number}"), problem });
    // Where a library is missing, its loader panics with the library's name.
    let opened = std::panic::catch_unwind(|| abn_ops::cuda_device(number));
    match opened {
        Ok(Ok(device)) => Ok(device),
        Ok(Err(error)) => {
            let said = error.to_string();
            let hint = if said.contains("NO_DEVICE") {
                "the driver shows no GPU (is one there, and named by CUDA_VISIBLE_DEVICES?)"
            } else if said.contains("INVALID_DEVICE") {
                "there is no GPU of that number (CUDA_VISIBLE_DEVICES says which are shown, from 0)"
            } else if said.contains("NO_DRIVER") || said.contains("STUB") {
                "NVIDIA's driver is not installed or not running (`nvidia-smi` tells)"
            } else if said.contains("SYSTEM_DRIVER_MISMATCH")
                || said.contains("INSUFFICIENT_DRIVER")
            {
                "NVIDIA's driver is older than the CUDA toolkit the program was built with"
            } else {
                "CUDA cannot be used"
            };
            refuse(format!("{hint}: {said}"))
        }
        Err(panic) => {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
            refuse(format!("a CUDA library is missing: {}", text.unwrap_or("it was not named")))
        }
    }
}

impl FromStr for DeviceChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let expected = || format!("{text:?} is no device; expected cpu, cuda or cuda:N");
        match text.split_once(':') {
            None if text == "cpu" => Ok(Self::Cpu),
            None if text == "cuda" => Ok(Self::Cuda(None)),
            Some(("cuda", number)) => {
                number.parse().map(|number| Self::Cuda(Some(number))).map_err(|_| expected())
            }
            _ => Err(expected()),
        }
    }
}

impl fmt::Display for DeviceChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cpu => f.write_str("cpu"),
            Self::Cuda(None) => f.write_str("cuda"),
            Self::Cuda(Some(number)) => write!(f, "cuda:{number}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_are_written_as_in_pytorch() {
        for (text, choice) in [
            ("cpu", DeviceChoice::Cpu),
            ("cuda", DeviceChoice::Cuda(None)),
            ("cuda:3", DeviceChoice::Cuda(Some(3))),
        ] {
            assert_eq!(text.parse(), Ok(choice));
            assert_eq!(choice.to_string(), text);
        }
        for text in ["gpu", "cuda:", "cuda:x", "cpu:0", "cuda:-1", ""] {
            let said = text.parse::<DeviceChoice>().unwrap_err();
            assert!(said.contains("cpu, cuda or cuda:N"), "{said}");
        }
        assert!(DeviceChoice::Cpu.open(3).unwrap().is_cpu());
    }

    #[cfg(not(feature = "cuda"))]
    #[test]
    fn a_program_without_cuda_says_so() {
        let said = DeviceChoice::Cuda(None).open(1).unwrap_err().to_string();
        assert!(said.starts_with("device cuda:1: this program was built without CUDA"), "{said}");
        assert!(said.contains("--features cuda"), "{said}");
    }
}
