//! Capture of a stream.

use std::sync::Arc;

use candle_core::CudaDevice;
use candle_core::cuda_backend::WrapErr;
use candle_core::cuda_backend::cudarc::driver::{CudaGraph, CudaStream, sys};

use crate::{Error, Result};

pub struct Captured {
    graph: CudaGraph,
    /// Of the device, which goes on as long.
    _stream: Arc<CudaStream>,
}

// SAFETY: a graph may be used by one thread after another; `&Captured` is only used to launch it, and
// whoever owns it does so from one thread at a time, as all that is told to a device's one stream.
unsafe impl Send for Captured {}
// SAFETY: as above.
unsafe impl Sync for Captured {}

impl Captured {
    pub fn new<E: From<Error>>(
        device: &CudaDevice,
        work: impl FnOnce() -> std::result::Result<(), E>,
    ) -> std::result::Result<Self, E> {
        use sys::CUgraphInstantiate_flags as Flags;
        use sys::CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_RELAXED;

        let stream = device.cuda_stream();
        let failed = |what: &str, error: &dyn std::fmt::Display| {
            E::from(Error::Library {
                op: "graph",
                library: "CUDA",
                what: format!("{what}: {error}"),
            })
        };
        // Errors of things freed before are not this capture's.
        stream.context().check_err().map_err(|e| failed("what came before the capture", &e))?;
        // Relaxed: the loader's thread allocates and waits meanwhile, on a stream of its own.
        stream
            .begin_capture(CU_STREAM_CAPTURE_MODE_RELAXED)
            .map_err(|e| failed("beginning a capture", &e))?;
        // A copy from or to pageable memory of candle's is an error from here on, not a node that would
        // read memory long gone.
        let no_copies = device.enable_cuda_graph_htod_cache();
        let done = work();
        drop(no_copies);
        // The stream leaves the capture in any case.
        let graph = stream.end_capture(Flags::CUDA_GRAPH_INSTANTIATE_FLAG_AUTO_FREE_ON_LAUNCH);
        // What was freed in a capture that failed could not be.
        let freed = stream.context().check_err();
        done?;
        let graph = graph.map_err(|e| failed("capturing (the work asks for the host)", &e))?;
        let graph = graph.ok_or_else(|| failed("capturing", &"there was no work"))?;
        freed.map_err(|e| failed("freeing memory in a capture", &e))?;
        graph.upload().map_err(|e| failed("uploading a graph", &e))?;
        Ok(Self { graph, _stream: stream })
    }

    pub fn launch(&self) -> Result<()> {
        Ok(self.graph.launch().w()?)
    }
}
