// What the stand-ins for NVIDIA's libraries share: streams, memory and captures of a device that there is not.
//
// "Device memory" is the host's, and kernels run on the CPU. What matters is kept as the driver keeps it: a stream's
// work runs when somebody waits for it and not before, events order streams, what is captured does not
// run, and memory that a graph allocates is valid while the graph runs.
//
// What the driver refuses is refused with its own number, and a line on stderr says why. What it would do silently
// wrong ends the program: use of memory that was freed or is not the device's, writing past its end, work on two
// streams that no event orders, a capture that reads the host's memory.
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
#define LOCK std::lock_guard<std::recursive_mutex> guard(standin::lock)

struct CUctx_st {
    char unused;
};

// How far each stream has come, as far as somebody knows.
using Clock = std::map<CUstream, uint64_t>;

struct CUstream_st {
    std::deque<std::function<void()>> waiting;
    uint64_t told = 0, done = 0;
    Clock seen;                // of the other streams: what is ordered before its next work
    CUgraph captured = nullptr; // null: not in a capture
    bool broken = false;
};

namespace standin {

extern std::recursive_mutex lock;

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
// Ends what a stream has begun.
void run_until(CUstream, uint64_t position);
// Whether it is a stream that somebody made.
bool is_stream(CUstream);
// Makes the capture fail, and says why.
CUresult break_capture(CUstream, const char* why);
bool is_capturing(CUstream);
// The driver's answer to what is wrong.
CUresult refuse(CUresult, const char* why);
// Whether this thread has a context, as nearly everything wants.
bool has_context();

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
    long kernels, libraries, captures, launches, to_device, to_host, allocations;
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
