//! Work that a GPU is told once and does many times.

#[cfg(feature = "cuda")]
mod cuda;

use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering};

use candle_core::Device;

use crate::{Error, Result};

static LAUNCHED: AtomicU64 = AtomicU64::new(0);

/// How many graphs this process has launched so far.
pub fn graphs_launched() -> u64 {
    LAUNCHED.load(Ordering::Relaxed)
}

thread_local! {
    static CAPTURING: Cell<bool> = const { Cell::new(false) };
}

/// Fails in a capture, for what would be the same each time and should not be.
pub(crate) fn refuse(op: &'static str, what: &str) -> Result<()> {
    match CAPTURING.get() {
        true => Err(Error::Unsupported { op, what: format!("a captured step: {what}") }),
        false => Ok(()),
    }
}

/// Runs `work` as what is captured.
#[cfg_attr(not(any(test, feature = "cuda")), allow(dead_code))]
fn capturing<R>(work: impl FnOnce() -> R) -> R {
    struct Restore(bool);
    impl Drop for Restore {
        fn drop(&mut self) {
            CAPTURING.set(self.0);
        }
    }
    let _restore = Restore(CAPTURING.replace(true));
    work()
}

/// A CUDA graph: what a closure told a GPU to do, which [`launch`](Self::launch) has it do again at the price of
/// one kernel's start.
///
/// What the closure read from tensors is read again; what it read from the host is as it was. So every
/// number that changes from time to time lies in a tensor made before, and so does what is to be
/// seen of the work.
pub struct Graph(Captured);

enum Captured {
    #[cfg(feature = "cuda")]
    Cuda(cuda::Captured),
    /// In the emulation: the kernels alone, so that whatever else a closure did is missing.
    #[cfg(feature = "cuda-emulation")]
    Emulated(crate::cuda::Recording),
}

impl Graph {
    /// Captures what `work` tells the GPU, which does not do it yet.
    ///
    /// All that takes the host the first time (kernels to load, algorithms to measure, memory that
    /// stays) must have happened: run the same work beforehand. No tensor that `work` makes may outlive it, and
    /// none that was made before may be freed by it. Other threads may go on using the device's other streams.
    ///
    /// # Errors
    /// What `work` fails with; or if it did what cannot be captured, such as reading a tensor's elements: says
    /// so. The device is then as before, and nothing of the work was done.
    pub fn capture<E: From<Error>>(
        device: &Device,
        work: impl FnOnce() -> std::result::Result<(), E>,
    ) -> std::result::Result<Self, E> {
        #[cfg(feature = "cuda")]
        if let Device::Cuda(device) = device {
            let graph = cuda::Captured::new(device, || capturing(work))?;
            return Ok(Self(Captured::Cuda(graph)));
        }
        #[cfg(feature = "cuda-emulation")]
        if crate::cuda::is_gpu(device) {
            crate::cuda::Recording::begin();
            let done = capturing(work);
            let recording = crate::cuda::Recording::end();
            done?;
            return Ok(Self(Captured::Emulated(recording)));
        }
        let (_, what) = (work, format!("{:?}", device.location()));
        Err(Error::Unsupported { op: "graph", what }.into())
    }

    /// Has the device do the work, after all that it was told before.
    ///
    /// # Errors
    /// If the driver refuses.
    pub fn launch(&self) -> Result<()> {
        LAUNCHED.fetch_add(1, Ordering::Relaxed);
        match self.0 {
            #[cfg(feature = "cuda")]
            Captured::Cuda(ref graph) => graph.launch(),
            #[cfg(feature = "cuda-emulation")]
            Captured::Emulated(ref recording) => recording.run(),
        }
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Tensor;

    use super::*;
    #[cfg(gpu)]
    use crate::{SgdConfig, sgd_step_all};
    use crate::{Tracked, dropout};
    #[cfg(gpu)]
    use candle_core::{DType, Var};

    #[test]
    fn masks_of_a_seed_on_the_host_are_not_captured() {
        let x = Tracked::constant(Tensor::new(&[1f32, 2.0, 3.0], &Device::Cpu).unwrap());
        let refused = capturing(|| dropout(&x, 0.5, 1)).unwrap_err().to_string();
        assert!(refused.contains("mask"), "{refused}");
        assert!(capturing(|| dropout(&x, 0.0, 1)).is_ok());
        assert!(dropout(&x, 0.5, 1).is_ok(), "outside of a capture");
    }

    #[cfg(feature = "cuda-emulation")]
    #[test]
    fn what_is_captured_reads_its_inputs_again_and_tells_what_is_no_kernel() {
        use crate::{cuda::emulated, relu};

        // What is carried to a GPU kernel by kernel is not recorded here: see below.
        #[cfg(feature = "cuda")]
        if crate::cuda::is_staged() {
            return;
        }
        emulated(true, || {
            let [input, output] = [0, 1].map(|_| Var::zeros(3, DType::F32, &Device::Cpu).unwrap());
            let config = SgdConfig { lr: -1.0, momentum: 0.0, weight_decay: 0.0, nesterov: false };
            // The output grows by what comes of the input.
            let capture = |of: &dyn Fn(&Tensor) -> Result<Tensor>| {
                Graph::capture(&Device::Cpu, || {
                    let x = of(input.as_tensor())?;
                    sgd_step_all(&[(&output, &x, &x)], &config, true)
                })
            };
            let kernels = |x: &Tensor| Ok(relu(&Tracked::constant(x.clone()))?.into_value());
            let graph = capture(&kernels).unwrap();
            let now = || output.to_vec1::<f32>().unwrap();
            assert_eq!(now(), [0.0; 3], "nothing is done in a capture");
            let launched = graphs_launched();
            for (values, expected) in
                [([1f32, -2.0, 3.0], [1.0, 0.0, 3.0]), ([-1.0, 5.0, 0.5], [1.0, 5.0, 3.5])]
            {
                input.set(&Tensor::new(&values, &Device::Cpu).unwrap()).unwrap();
                graph.launch().unwrap();
                assert_eq!(now(), expected);
            }
            assert_eq!(graphs_launched() - launched, 2);
            // Its result is kept, since the graph knows it by its memory.
            let kept = std::cell::RefCell::new(Vec::new());
            let on_the_host = |x: &Tensor| {
                let y = (kernels(x)? + 1.0)?;
                kept.borrow_mut().push(y.clone());
                Ok(y)
            };
            let graph = capture(&on_the_host).unwrap();
            graph.launch().unwrap();
            assert!(now().iter().all(|value| value.is_nan()), "{:?}", now());
        });
    }

    /// Where there is a GPU that tests are carried to.
    #[cfg(feature = "cuda")]
    #[test]
    fn a_gpu_does_again_what_was_captured_and_refuses_what_asks_for_the_host() {
        use crate::relu;

        if !crate::cuda::is_staged() {
            return;
        }
        let device = crate::cuda_device(0).unwrap();
        let [input, output] = [0, 1].map(|_| Var::zeros(3, DType::F32, &device).unwrap());
        let config = SgdConfig { lr: -1.0, momentum: 0.0, weight_decay: 0.0, nesterov: false };
        // The output grows by what comes of the input.
        let work = || {
            let x = relu(&Tracked::constant(input.as_tensor().clone()))?.into_value();
            sgd_step_all(&[(&output, &x, &x)], &config, true)
        };
        work().unwrap();
        let graph = Graph::capture(&device, work).unwrap();
        let now = || output.to_vec1::<f32>().unwrap();
        assert_eq!(now(), [0.0; 3], "nothing is done in a capture");
        for (values, expected) in
            [([1f32, -2.0, 3.0], [1.0, 0.0, 3.0]), ([-1.0, 5.0, 0.5], [1.0, 5.0, 3.5])]
        {
            input.set(&Tensor::new(&values, &device).unwrap()).unwrap();
            graph.launch().unwrap();
            assert_eq!(now(), expected);
        }
        let asks = || {
            work()?;
            input.to_vec1::<f32>()?;
            Ok::<_, Error>(())
        };
        assert!(Graph::capture(&device, asks).is_err());
        graph.launch().unwrap();
        assert_eq!(now(), [1.0, 10.0, 4.0]);
    }

    #[test]
    fn there_are_no_graphs_on_the_cpu() {
        let capture = || Graph::capture(&Device::Cpu, || Ok::<_, Error>(()));
        #[cfg(feature = "cuda-emulation")]
        let capture = || crate::cuda::emulated(false, capture);
        let refused = capture().err().unwrap();
        assert_eq!(refused.to_string(), "graph: no kernel for Cpu");
    }
}
