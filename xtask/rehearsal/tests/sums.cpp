// Sums over two processes: what NCCL would do silently wrong, or wait for for ever, ends a program of the rehearsal.
#include "harness.h"
#include "nccl.h"

static const size_t COUNT = BYTES / sizeof(float);
static ncclComm_t comm, second;

// Does the same as rank 0 and, in another process, as rank 1 on a GPU of its own (`device`). Whether both held.
static bool two(std::function<bool(int rank)> does, int device = 1, int communicators = 1) {
    ncclUniqueId ids[2];
    for (ncclUniqueId& id : ids) ncclGetUniqueId(&id);
    const pid_t child = fork();
    const int rank = child ? 0 : 1;
    if (rank) prepare(device);
    bool held = ncclCommInitRank(&comm, 2, ids[0], rank) == (device ? ncclSuccess : ncclInvalidUsage);
    if (communicators > 1) held &= ncclCommInitRank(&second, 2, ids[1], rank) == ncclSuccess;
    float numbers[COUNT];
    for (size_t i = 0; i < COUNT; i++) numbers[i] = float(i + 10 * (rank + 1));
    held = held && cuMemcpyHtoDAsync(memory, numbers, BYTES, computation) == CUDA_SUCCESS && does(rank);
    if (rank) _exit(held ? 0 : 1);
    int status;
    waitpid(child, &status, 0);
    if (was_ended(status)) std::abort();
    return held && WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

static bool sum(size_t count = COUNT, ncclComm_t by = comm, CUstream stream = copies) {
    return ncclAllReduce((void*)memory, (void*)other, count, ncclFloat32, ncclSum, by, stream) == ncclSuccess;
}

static bool is_sum() {
    float numbers[COUNT];
    cuMemcpyDtoHAsync(numbers, other, BYTES, computation);
    for (size_t i = 0; i < COUNT; i++)
        if (numbers[i] != float(2 * i + 30)) return false;
    return true;
}

static const Case CASES[] = {
    {"sums that events order", false, [] {
         return two([](int) {
             for (int times = 0; times < 3; times++) {
                 order(computation, copies);
                 if (!sum()) return false;
                 order(copies, computation);
                 if (times != 1 && !is_sum()) return false;
                 cuMemsetD8Async(other, 0, BYTES, computation);
             }
             return ncclCommDestroy(comm) == ncclSuccess;
         });
     }},
    {"reading a sum before it is there", true, [] {
         return two([](int) {
             order(computation, copies);
             return sum() && is_sum();
         });
     }},
    {"summing what the computation may be writing", true, [] { return two([](int) { return sum(); }); }},
    {"freeing what NCCL may be reading", true, [] {
         return two([](int) {
             order(computation, copies);
             return sum() && cuMemFreeAsync(memory, computation) == CUDA_SUCCESS;
         });
     }},
    {"freeing it once the computation has waited", false, [] {
         return two([](int) {
             order(computation, copies);
             if (!sum()) return false;
             order(copies, computation);
             return cuMemFreeAsync(memory, computation) == CUDA_SUCCESS && is_sum();
         });
     }},
    {"another length on another rank", true, [] {
         return two([](int rank) {
             order(computation, copies);
             sum(COUNT - rank);
             order(copies, computation);
             return is_sum();
         });
     }},
    {"past the end", true, [] {
         return two([](int) {
             order(computation, copies);
             return sum(COUNT + 1);
         });
     }},
    {"a sum that the other rank never comes to", true, [] {
         return two([](int rank) {
             if (rank) return true;
             order(computation, copies);
             sum();
             order(copies, computation);
             return is_sum();
         });
     }},
    {"doing something else meanwhile, and giving up", false, [] {
         return two([](int rank) {
             if (rank) return true;
             order(computation, copies);
             const bool told = sum();
             order(copies, computation);
             cuMemsetD8Async(memory, 0, BYTES, computation);
             return told && ncclCommAbort(comm) == ncclSuccess && cuStreamSynchronize(computation) == CUDA_SUCCESS;
         });
     }},
    {"two communicators one after the other", false, [] {
         return two([](int) {
             bool held = true;
             for (ncclComm_t by : {comm, second}) {
                 order(computation, copies);
                 held &= sum(COUNT, by);
                 order(copies, computation);
                 held &= is_sum();
             }
             return held;
         }, 1, 2);
     }},
    {"two communicators at a time", true, [] {
         return two([](int) {
             order(computation, copies);
             return sum(COUNT, comm, copies) && sum(COUNT, second, computation);
         }, 1, 2);
     }},
    {"two communicators in another order on another rank", true, [] {
         return two([](int rank) {
             order(computation, copies);
             sum(COUNT, rank ? comm : second);
             sum(COUNT, rank ? second : comm);
             order(copies, computation);
             return is_sum();
         }, 1, 2);
     }},
    {"a stream of another GPU", true, [] {
         return two([](int rank) {
             prepare(1 - rank);
             return sum();
         });
     }},
    {"two ranks on one GPU", false, [] { return two([](int) { return true; }, 0); }},
};

int main() {
    setenv("ABN_REHEARSE_DEVICES", "2", 1);
    setenv("ABN_REHEARSE_PATIENCE", "5", 1);
    return run(CASES);
}
