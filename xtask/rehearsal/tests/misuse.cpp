// What a GPU would do silently wrong ends a program of the rehearsal, and what the driver refuses is refused.
#include "harness.h"

// What the device holds, for a program that makes no mistake.
static int read() {
    int number = 0;
    cuMemcpyDtoHAsync(&number, memory, sizeof number, computation);
    return number;
}

static CUgraphExec capture(std::function<void()> work) {
    CUgraph graph = nullptr;
    CUgraphExec exec = nullptr;
    cuStreamBeginCapture(computation, CU_STREAM_CAPTURE_MODE_RELAXED);
    work();
    if (cuStreamEndCapture(computation, &graph) == CUDA_SUCCESS)
        cuGraphInstantiateWithFlags(&exec, graph, CUDA_GRAPH_INSTANTIATE_FLAG_AUTO_FREE_ON_LAUNCH);
    return exec;
}

static CUdeviceptr temporary() {
    CUdeviceptr made;
    cuMemAllocAsync(&made, BYTES, computation);
    return made;
}

static const Case CASES[] = {
    {"a copy that events order", false, [] {
         order(computation, copies);
         cuMemcpyHtoDAsync(memory, pinned, BYTES, copies);
         order(copies, computation);
         return read() == 0x01010101;
     }},
    {"a copy to memory that was allocated on another stream", true,
     [] { return cuMemcpyHtoDAsync(memory, pinned, BYTES, copies) == CUDA_SUCCESS; }},
    {"reading what another stream writes", true, [] {
         order(computation, copies);
         cuMemcpyHtoDAsync(memory, pinned, BYTES, copies);
         return read() != 0;
     }},
    {"freeing what another stream reads", true, [] {
         order(computation, copies);
         cuMemcpyDtoDAsync(other, memory, BYTES, copies);
         return cuMemFreeAsync(memory, computation) == CUDA_SUCCESS;
     }},
    {"freeing pinned memory under a copy", true, [] {
         order(computation, copies);
         cuMemcpyHtoDAsync(memory, pinned, BYTES, copies);
         return cuMemFreeHost(pinned) == CUDA_SUCCESS;
     }},
    {"writing past the end", true, [] { return cuMemsetD8Async(memory, 0, BYTES + 1, computation) == CUDA_SUCCESS; }},
    {"what a kernel writes beside its memory", true, [] {
         reinterpret_cast<char*>(memory)[BYTES] = 0;
         return cuStreamSynchronize(computation) == CUDA_SUCCESS;
     }},
    {"using memory that was freed", true, [] {
         cuMemFreeAsync(memory, computation);
         return cuMemsetD8Async(memory, 0, BYTES, computation) == CUDA_SUCCESS;
     }},
    {"a graph with memory of its own", false, [] {
         CUgraphExec exec = capture([] {
             CUdeviceptr made = temporary();
             cuMemsetD8Async(made, 5, BYTES, computation);
             cuMemcpyDtoDAsync(memory, made, BYTES, computation);
             cuMemFreeAsync(made, computation);
         });
         bool before = read() != 0x05050505;
         cuGraphLaunch(exec, computation);
         return before && read() == 0x05050505;
     }},
    {"launching a graph whose memory was freed", true, [] {
         CUgraphExec exec = capture([] { cuMemsetD8Async(memory, 5, BYTES, computation); });
         cuMemFreeAsync(memory, computation);
         return cuGraphLaunch(exec, computation) == CUDA_SUCCESS;
     }},
    {"using what a graph has freed", true, [] {
         return capture([] {
                    CUdeviceptr made = temporary();
                    cuMemFreeAsync(made, computation);
                    cuMemsetD8Async(made, 5, BYTES, computation);
                }) != nullptr;
     }},
    {"using a graph's memory after the capture", true, [] {
         CUdeviceptr made = 0;
         capture([&] { made = temporary(); });
         return cuMemsetD8Async(made, 5, BYTES, computation) == CUDA_SUCCESS;
     }},
    {"what a capture may not do", false, [] {
         int number = 0;
         return !capture([] { cuMemcpyHtoDAsync(memory, pinned, BYTES, computation); }) &&
                !capture([&] { cuMemcpyDtoHAsync(&number, memory, sizeof number, computation); }) &&
                !capture([] { cuStreamSynchronize(computation); }) && !capture([] { order(copies, computation); }) &&
                !capture([] { cuMemFreeAsync(other, computation); });
     }},
    {"a thread without a context", false, [] {
         cuCtxSetCurrent(nullptr);
         return cuMemsetD8Async(memory, 0, BYTES, computation) == CUDA_ERROR_INVALID_CONTEXT;
     }},
};

int main() { return run(CASES); }
