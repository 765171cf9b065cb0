// The CPU in the GPU's place: enough of CUDA to compile and run the kernels for tests. The threads
// of a block that meet are fibers (`emulator.cpp`); blocks come one after the other.
#pragma once

#include <cmath>
#include <cstring>
#include <type_traits>
#include <utility>

using std::exp;
using std::fabs;
using std::fma;
using std::fmaf;
using std::log;
using std::log1p;
using std::sqrt;

struct Place {
    unsigned x, y, z;
};
extern thread_local Place threadIdx, blockIdx, blockDim, gridDim;

#define DEVICE static inline
#define DEVICE_MEMBER inline
#define KERNEL(name) static void name
#define BLOCK_KERNEL(name) static void name
// One OS thread runs a block.
#define SHARED static thread_local
#define WHOLE

// Waits until all threads of the block are here.
void meet();

namespace abn {

struct Entry {
    const char* name;
    void (*call)(void**);
    bool meets;
};

template <class... P, std::size_t... I>
void call_with(void (*kernel)(P...), void** arguments, std::index_sequence<I...>) {
    static_assert(((sizeof(P) % 8 == 0) && ...), "arguments are made of words of eight bytes");
    kernel(*static_cast<P*>(arguments[I])...);
}

template <class... P>
void call_by_type(void (*kernel)(P...), void** arguments) {
    call_with(kernel, arguments, std::index_sequence_for<P...>());
}

// A kernel called as a GPU's driver calls it: by an array of pointers to its arguments.
template <auto kernel>
void call(void** arguments) {
    call_by_type(kernel, arguments);
}

// Runs the kernel of that name; 0 if there is one.
int emulate(const Entry* entries, std::size_t count, const char* name, void** arguments,
            const unsigned* grid, const unsigned* block);

} // namespace abn
