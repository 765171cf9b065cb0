// Runs kernels on the CPU, block after block.
//
// The threads of a block that meet are fibers, each with a stack of its own. From one meeting to the
// next they run one after the other, in order and in reverse order by turns: what a thread
// reads before another has written it, or after, for want of a meeting, differs from the GPU's
// best case and shows in the tests.
#include "cuda/host.h"

#include <csetjmp>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <ucontext.h>

thread_local Place threadIdx, blockIdx, blockDim, gridDim;

namespace {

const std::size_t STACK = 64 << 10;
const unsigned MOST_THREADS = 1024;

enum State { FRESH, WAITING, DONE };

struct Fiber {
    jmp_buf at;
    State state;
};

struct Scheduler {
    std::unique_ptr<char[]> stacks{new char[STACK * MOST_THREADS]};
    Fiber fibers[MOST_THREADS];
    jmp_buf home;
    ucontext_t entry, unused;
    unsigned current, turn;
    bool in_block;
    const abn::Entry* kernel;
    void** arguments;
};

thread_local std::unique_ptr<Scheduler> scheduler;

[[noreturn]] void fail(const char* kernel, const char* what) {
    std::fprintf(stderr, "emulated kernel %s: %s\n", kernel, what);
    std::abort();
}

void place(unsigned thread) {
    threadIdx = {thread % blockDim.x, thread / blockDim.x % blockDim.y,
                 thread / blockDim.x / blockDim.y};
}

void body() {
    Scheduler& s = *scheduler;
    s.kernel->call(s.arguments);
    s.fibers[s.current].state = DONE;
    _longjmp(s.home, 1);
}

// Runs the current fiber until it waits or is done.
void resume(Scheduler& s) {
    if (_setjmp(s.home)) return;
    Fiber& fiber = s.fibers[s.current];
    place(s.current);
    if (fiber.state == WAITING) _longjmp(fiber.at, 1);
    getcontext(&s.entry);
    s.entry.uc_stack.ss_sp = s.stacks.get() + STACK * s.current;
    s.entry.uc_stack.ss_size = STACK;
    s.entry.uc_link = &s.unused;
    makecontext(&s.entry, body, 0);
    setcontext(&s.entry);
}

void run_block(Scheduler& s, unsigned threads) {
    s.in_block = true;
    for (unsigned i = 0; i < threads; i++) s.fibers[i].state = FRESH;
    for (unsigned waiting = threads, phase = 0; waiting; phase++) {
        unsigned before = waiting;
        waiting = 0;
        for (s.turn = 0; s.turn < threads; s.turn++) {
            s.current = phase % 2 ? threads - 1 - s.turn : s.turn;
            resume(s);
            waiting += s.fibers[s.current].state == WAITING;
        }
        if (waiting && waiting != before) fail(s.kernel->name, "some threads meet, others do not");
    }
    s.in_block = false;
}

} // namespace

void meet() {
    if (!scheduler || !scheduler->in_block) fail("", "threads meet in what is no BLOCK_KERNEL");
    Scheduler& s = *scheduler;
    Fiber& fiber = s.fibers[s.current];
    fiber.state = WAITING;
    if (!_setjmp(fiber.at)) _longjmp(s.home, 1);
}

int abn::emulate(const Entry* entries, std::size_t count, const char* name, void** arguments,
                 const unsigned* grid, const unsigned* block) {
    const Entry* kernel = nullptr;
    for (std::size_t i = 0; i < count; i++)
        if (!std::strcmp(entries[i].name, name)) kernel = &entries[i];
    if (!kernel) return 1;
    gridDim = {grid[0], grid[1], grid[2]};
    blockDim = {block[0], block[1], block[2]};
    unsigned threads = block[0] * block[1] * block[2];
    if (!threads || threads > MOST_THREADS) fail(name, "a block has 1 to 1024 threads");
    if (kernel->meets && !scheduler) scheduler.reset(new Scheduler);
    for (unsigned z = 0; z < grid[2]; z++)
        for (unsigned y = 0; y < grid[1]; y++)
            for (unsigned x = 0; x < grid[0]; x++) {
                blockIdx = {x, y, z};
                if (kernel->meets) {
                    scheduler->kernel = kernel;
                    scheduler->arguments = arguments;
                    run_block(*scheduler, threads);
                } else {
                    for (unsigned thread = 0; thread < threads; thread++) {
                        place(thread);
                        kernel->call(arguments);
                    }
                }
            }
    return 0;
}
