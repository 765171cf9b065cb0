// What the stand-ins for NVIDIA's libraries share: streams, memory and captures of a device that there is not.
//
// "Device memory" is the host's, and kernels run on the CPU. What matters is kept as the driver keeps it: a stream's
// work runs when somebody waits for it and not before, events order streams, what is captured does not
// run, and memory that a graph allocates is valid while the graph runs.
//
// What the driver refuses is refused with its own number, and a line on stderr says why. What it would do silently
// wrong ends the program: use of memory that was freed or is not the device's, writing past its end, work on two
// streams that no event orders, a capture that reads the host's memory.
//
// There is one device, or as many as ABN_REHEARSE_DEVICES says, of which CUDA_VISIBLE_DEVICES names some.
#pragma once

// The driver's own prototypes, so that the compiler holds ours against them.
#pragma GCC visibility push(default)
#include <cuda.h>
#pragma GCC visibility pop

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <functional>
#include <map>
#include <mutex>
#include <string>
#include <vector>

#define API extern "C" __attribute__((visibility("default")))
// Everything is done by one thread at a time.
#define LOCK standin::Turn turn

struct CUctx_st {
    CUdevice device = 0;
};

// How far each stream has come, as far as somebody knows.
using Clock = std::map<CUstream, uint64_t>;

struct CUstream_st {
    CUcontext context = nullptr;
    // Each says whether it is done, and is asked again until it is.
    std::deque<std::function<bool()>> waiting;
    // `wanted`: how far somebody wants it to have come.
    uint64_t told = 0, done = 0, wanted = 0;
    Clock seen;                // of the other streams: what is ordered before its next work
    CUgraph captured = nullptr; // null: not in a capture
    bool broken = false;
};

namespace standin {

struct Turn {
    Turn();
    ~Turn();
};
// Gives the other threads a turn.
void pause();

[[noreturn]] void give_up(const char* format, ...);

// What a piece of work does with memory of the device. Of no more than an address it is not known how far it goes.
struct Touch {
    uintptr_t at;
    bool written;
    size_t bytes = 0;
};
inline Touch reads(const void* at, size_t bytes = 0) { return {uintptr_t(at), false, bytes}; }
inline Touch writes(const void* at, size_t bytes = 0) { return {uintptr_t(at), true, bytes}; }

// Gives a stream work, which is done after all before it, or by each launch of the graph that is being captured.
// Fails the program if the work touches what it may not (`who`: in whose words).
CUresult tell(CUstream, const char* who, std::vector<Touch>, std::function<void()>);
// As `tell`, work that may have to wait for others. Not for a graph.
CUresult tell_until(CUstream, const char* who, std::vector<Touch>, std::function<bool()>);
// Does what a stream was told up to there. False: something in it waits for another process, and is tried again from
// time to time.
bool run_until(CUstream, uint64_t position);
// Tries again what waits.
void go_on();
// Waits on the host, for as long as that may take; `what`: it has waited for.
void wait_until(const char* what, const std::function<bool()>& done);
// Whether this place of the second stream comes before what the first is told next.
bool comes_after(CUstream, CUstream, uint64_t position);
// The host knows that a stream has come this far.
void host_has_seen(CUstream, uint64_t position);
// Whether it is a stream that somebody made.
bool is_stream(CUstream);
// Makes the capture fail, and says why.
CUresult break_capture(CUstream, const char* why);
bool is_capturing(CUstream);
// The driver's answer to what is wrong.
CUresult refuse(CUresult, const char* why);
// This thread's context, as nearly everything wants one; null: none.
CUcontext context();
inline bool has_context() { return context() != nullptr; }
// The number of a device among all that there are, whichever this process sees.
int physical(CUdevice);

// Memory of the device, `graph`'s or nobody's; 0: there is no more.
uintptr_t allocate(size_t bytes, CUstream, CUgraph);
// Whether memory of the device begins at or contains this address.
bool is_device_memory(uintptr_t at);
// An address's block is used from now on by work at this place of a stream. Fails the program if it must not be.
void touch(const char* who, const Touch&, CUstream, uint64_t position);
void release_graph_memory(CUgraph);
void poison(uintptr_t at, size_t bytes);
// The number of the block at this address, which no other ever has; 0: none.
uint64_t block_at(uintptr_t);
// Bytes from there to the block's end.
size_t bytes_from(uintptr_t);
// Looks for writes past the end of any memory.
void look_around();

struct Counts {
    long kernels, libraries, captures, launches, to_device, to_host, allocations, sums;
};
extern Counts counts;

} // namespace standin

struct CUgraph_st {
    std::vector<std::function<void()>> nodes;
    // What it uses of memory that is not its own, and the blocks that lay there.
    std::vector<standin::Touch> outside;
    std::vector<uint64_t> outside_blocks;
    bool has_exec = false;
    // What was captured, by name: how often, and the memory it was given.
    struct Part {
        long count = 0;
        size_t bytes = 0;
    };
    std::map<std::string, Part> parts;
};
