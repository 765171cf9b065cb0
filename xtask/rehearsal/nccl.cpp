// NCCL between processes of one host, in shared memory: sums in the order of the ranks.
//
// A sum is work of the stream it is given to, like a kernel: it is done once all ranks' streams have come to it. What
// another rank does is seen nowhere else, so that one that is gone leaves the others' streams waiting for ever, as on
// GPUs. A rank that sums something else than the others ends the program, and so do sums of two communicators that no
// event orders, since the ranks' GPUs may then begin them in different orders and wait for each other.
#include "nccl.h"
#include "device.h"

#include <atomic>
#include <chrono>
#include <string>
#include <thread>
#include <tuple>

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

using namespace standin;

namespace {

const int MOST_RANKS = 16;

// What one rank tells the others; zero before it has come.
struct Seat {
    std::atomic<int> taken, here, looked;
    int ranks, device;
    // Sums that it has brought its numbers to, and that it has the result of.
    std::atomic<uint64_t> brought, had;
    // Of the last that it has brought its numbers to.
    uint64_t count;
    int type;
    std::atomic<uint64_t> capacity;
};
struct Board {
    Seat seats[MOST_RANKS];
};

// A rank's numbers, in a file that grows.
struct Numbers {
    int file = -1;
    void* at = nullptr;
    size_t bytes = 0;

    void see(size_t wanted) {
        if (wanted <= bytes) return;
        if (at) munmap(at, bytes);
        at = mmap(nullptr, wanted, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
        if (at == MAP_FAILED) give_up("no shared memory for %zu bytes", wanted);
        bytes = wanted;
    }
};

thread_local std::string last_error;

ncclResult_t fail(ncclResult_t result, std::string why) {
    last_error = std::move(why);
    return result;
}

std::string path(const std::string& name) { return "/dev/shm/abn-rehearsal-" + name; }

int open_shared(const std::string& name) { return open(path(name).c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600); }

} // namespace

struct ncclComm {
    int rank, ranks;
    CUcontext context;
    Board* board;
    std::vector<Numbers> numbers;
    uint64_t told = 0;
    // The last sum: where it is told.
    CUstream stream = nullptr;
    uint64_t position = 0;
    bool aborted = false;

    Seat& own() { return board->seats[rank]; }

    template <class F>
    bool all(F holds) {
        for (int other = 0; other < ranks; other++)
            if (!holds(board->seats[other])) return false;
        return true;
    }
};

namespace {

std::vector<ncclComm*> communicators;

struct Sum {
    ncclComm* comm;
    uint64_t number, count;
    ncclDataType_t type;
    const void* send;
    void* receive;

    size_t bytes() const { return count * (type == ncclFloat32 ? 4 : 8); }

    void bring() const {
        Seat& own = comm->own();
        Numbers& numbers = comm->numbers[comm->rank];
        if (bytes() > numbers.bytes) {
            if (ftruncate(numbers.file, bytes())) give_up("no shared memory for %zu bytes", bytes());
            numbers.see(bytes());
            own.capacity = bytes();
        }
        std::memcpy(numbers.at, send, bytes());
        own.count = count, own.type = type;
        own.brought = number;
    }

    void compare() const {
        for (int other = 0; other < comm->ranks; other++) {
            const Seat& seat = comm->board->seats[other];
            if (seat.count != count || seat.type != type)
                give_up("rank %d sums %zu numbers of type %d, rank %d %zu of type %d", comm->rank, size_t(count), type, other,
                        size_t(seat.count), seat.type);
        }
    }

    template <class T>
    void add() const {
        T* to = static_cast<T*>(receive);
        for (int rank = 0; rank < comm->ranks; rank++) {
            Numbers& numbers = comm->numbers[rank];
            numbers.see(comm->board->seats[rank].capacity);
            const T* from = static_cast<const T*>(numbers.at);
            for (uint64_t i = 0; i < count; i++) to[i] = rank ? to[i] + from[i] : from[i];
        }
    }

    // Whether it is done.
    bool go_on() const {
        if (comm->aborted) return poison(uintptr_t(receive), bytes()), true;
        // The numbers of the sum before lie where these go.
        if (comm->own().brought < number) {
            if (!comm->all([&](const Seat& seat) { return seat.had + 1 >= number; })) return false;
            bring();
        }
        if (!comm->all([&](const Seat& seat) { return seat.brought >= number; })) return false;
        compare();
        type == ncclFloat32 ? add<float>() : add<double>();
        comm->own().had = number;
        return true;
    }
};

// Streams go on while the host does something else, at the latest when another rank has come to a sum that this one
// was told.
void keep_going() {
    static std::atomic<bool> ended;
    static std::thread thread([] {
        while (!ended) {
            std::this_thread::sleep_for(std::chrono::microseconds(500));
            LOCK;
            if (ended) return;
            go_on();
            for (ncclComm* comm : communicators)
                if (comm->own().had < comm->told && !comm->aborted &&
                    !comm->all([&](const Seat& seat) { return seat.brought <= comm->own().had; }))
                    run_until(comm->stream, comm->position);
        }
    });
    static const bool registered = std::atexit([] {
        {
            LOCK;
            ended = true;
        }
        thread.join();
    });
    (void)registered;
}

} // namespace

ncclResult_t ncclGetUniqueId(ncclUniqueId* id) {
    unsigned long long random[2];
    int source = open("/dev/urandom", O_RDONLY | O_CLOEXEC);
    const bool have = read(source, random, sizeof random) == sizeof random;
    close(source);
    if (!have) return fail(ncclSystemError, "no random numbers");
    std::memset(id, 0, sizeof *id);
    std::snprintf(id->internal, sizeof id->internal, "%016llx%016llx", random[0], random[1]);
    return ncclSuccess;
}

ncclResult_t ncclCommInitRank(ncclComm_t* out, int ranks, ncclUniqueId id, int rank) {
    LOCK;
    if (!has_context()) return fail(ncclUnhandledCudaError, "this thread has no context");
    if (rank < 0 || rank >= ranks || ranks > MOST_RANKS || std::strspn(id.internal, "0123456789abcdef") != 32)
        return fail(ncclInvalidArgument, "no such rank, or no id");
    const std::string name = std::string(id.internal, 32);
    const int file = open_shared(name);
    if (file < 0 || ftruncate(file, sizeof(Board))) return fail(ncclSystemError, "no shared memory");
    void* memory = mmap(nullptr, sizeof(Board), PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    close(file);
    if (memory == MAP_FAILED) return fail(ncclSystemError, "no shared memory");
    ncclComm* comm = new ncclComm{rank, ranks, context(), static_cast<Board*>(memory)};
    comm->numbers.resize(ranks);
    Seat& own = comm->own();
    if (own.taken.exchange(1)) return fail(ncclInvalidUsage, "two processes have the same rank");
    own.ranks = ranks, own.device = physical(context()->device);
    const auto file_of = [&](int other) { return name + "-" + std::to_string(other); };
    if ((comm->numbers[rank].file = open_shared(file_of(rank))) < 0) return fail(ncclSystemError, "no shared memory");
    own.here = 1;
    wait_until("NCCL has waited for all ranks", [=] { return comm->all([](const Seat& seat) { return seat.here.load(); }); });
    for (int other = 0; other < ranks; other++)
        if (other != rank) comm->numbers[other].file = open_shared(file_of(other));
    own.looked = 1;
    wait_until("NCCL has waited for all ranks", [=] { return comm->all([](const Seat& seat) { return seat.looked.load(); }); });
    unlink(path(file_of(rank)).c_str());
    if (!rank) unlink(path(name).c_str());
    for (int other = 0; other < ranks; other++) {
        if (comm->board->seats[other].ranks != ranks) return fail(ncclInvalidArgument, "ranks of different groups");
        for (int before = 0; before < other; before++)
            if (comm->board->seats[before].device == comm->board->seats[other].device)
                return fail(ncclInvalidUsage, "Duplicate GPU detected : rank " + std::to_string(other) + " and rank " +
                                                  std::to_string(before) + " both on CUDA device " +
                                                  std::to_string(comm->board->seats[other].device));
    }
    communicators.push_back(comm);
    keep_going();
    return *out = comm, ncclSuccess;
}

ncclResult_t ncclCommAbort(ncclComm_t comm) {
    LOCK;
    if (!comm || comm->aborted) return fail(ncclInvalidArgument, "no communicator");
    if (comm->own().had < comm->told) std::fprintf(stderr, "rehearsal: a communicator is given up before its sums are done\n");
    comm->aborted = true; // never deleted: streams may still have its sums
    return ncclSuccess;
}

ncclResult_t ncclCommDestroy(ncclComm_t comm) {
    LOCK;
    if (!comm || comm->aborted) return fail(ncclInvalidArgument, "no communicator");
    wait_until("a communicator has waited to be destroyed", [=] { return run_until(comm->stream, comm->position); });
    return ncclCommAbort(comm);
}

ncclResult_t ncclAllReduce(const void* send, void* receive, size_t count, ncclDataType_t type, ncclRedOp_t op,
                           ncclComm_t comm, CUstream stream) {
    LOCK;
    if (!comm || comm->aborted) return fail(ncclInvalidArgument, "no communicator");
    if (op != ncclSum || (type != ncclFloat32 && type != ncclFloat64)) give_up("NCCL is asked for what has no stand-in");
    if (!count) return ncclSuccess;
    if (is_stream(stream) && stream->context != comm->context) give_up("a communicator is used on another GPU than its own");
    const Sum sum{comm, comm->told + 1, count, type, send, receive};
    const size_t bytes = sum.bytes();
    const uintptr_t from = uintptr_t(send), to = uintptr_t(receive);
    if (from != to && from < to + bytes && to < from + bytes) give_up("NCCL sums into a part of what it reads");
    for (ncclComm* other : communicators)
        if (other != comm && other->told && !other->aborted && is_stream(stream) &&
            !comes_after(stream, other->stream, other->position))
            give_up("NCCL sums with two communicators at a time, which the GPUs may begin in different orders");
    // Where it is told, before it may run at once.
    const auto before = std::make_pair(comm->stream, comm->position);
    comm->told++, counts.sums++;
    comm->stream = stream, comm->position = is_stream(stream) ? stream->told + 1 : 0;
    CUresult told = tell_until(stream, "NCCL", {reads(send, bytes), writes(receive, bytes)}, [=] { return sum.go_on(); });
    if (told == CUDA_SUCCESS) return ncclSuccess;
    comm->told--, counts.sums--;
    std::tie(comm->stream, comm->position) = before;
    return fail(ncclUnhandledCudaError, "the driver refuses the sum");
}

const char* ncclGetErrorString(ncclResult_t result) {
    switch (result) {
    case ncclSuccess: return "no error";
    case ncclUnhandledCudaError: return "unhandled cuda error (run with NCCL_DEBUG=INFO for details)";
    case ncclSystemError: return "unhandled system error (run with NCCL_DEBUG=INFO for details)";
    case ncclInvalidArgument: return "invalid argument (run with NCCL_DEBUG=WARN for details)";
    case ncclInvalidUsage: return "invalid usage (run with NCCL_DEBUG=WARN for details)";
    default: return "internal error - please report this issue to the NCCL developers";
    }
}

const char* ncclGetLastError(ncclComm_t) { return last_error.c_str(); }
