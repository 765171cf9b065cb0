// Cases of what a program may do, each in a process of its own.
#pragma once

#include <cuda.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <sys/wait.h>
#include <unistd.h>

static CUstream computation, copies;
static CUdeviceptr memory, other;
static CUevent event;
static void* pinned;
static const size_t BYTES = 64;

static void prepare(int device) {
    CUcontext context;
    cuInit(0);
    cuDevicePrimaryCtxRetain(&context, device);
    cuCtxSetCurrent(context);
    cuStreamCreate(&computation, CU_STREAM_NON_BLOCKING);
    cuStreamCreate(&copies, CU_STREAM_NON_BLOCKING);
    cuMemAllocAsync(&memory, BYTES, computation);
    cuMemAllocAsync(&other, BYTES, computation);
    cuMemHostAlloc(&pinned, BYTES, 0);
    std::memset(pinned, 1, BYTES);
    cuEventCreate(&event, CU_EVENT_DISABLE_TIMING);
}

static void order(CUstream before, CUstream after) {
    cuEventRecord(event, before);
    cuStreamWaitEvent(after, event, 0);
}

struct Case {
    const char* what;
    bool ends; // the program, by the rehearsal
    std::function<bool()> does;
};

static bool was_ended(int status) { return WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT; }

template <size_t N>
static int run(const Case (&cases)[N]) {
    int wrong = 0;
    for (const Case& one : cases) {
        if (pid_t child = fork()) {
            int status;
            waitpid(child, &status, 0);
            bool held = WIFEXITED(status) && WEXITSTATUS(status) == 0;
            if (one.ends ? !was_ended(status) : !held) wrong++, std::printf("not as it should be: %s\n", one.what);
            continue;
        }
        if (!std::getenv("ABN_SHOW")) std::freopen("/dev/null", "w", stderr);
        prepare(0);
        _exit(one.does() ? 0 : 1);
    }
    return wrong != 0;
}
