// A stand-in for NVIDIA's driver and libraries on a machine without a GPU: the program with the feature `cuda` runs
// on it as it is. "Device memory" is the host's, kernels are ours compiled for the CPU, and what matters here is
// kept as the driver keeps it: streams run when somebody waits for them and not before, events order them, a stream
// that is captured runs nothing, and memory that a graph allocates is valid while the graph runs.
//
// What a real driver would do silently wrong is an error here: a copy from or to pageable memory in a capture,
// freeing in a capture what was allocated before it, use of freed memory (it is filled with NaN).
//
// ABN_REHEARSE=late (the default): copies run as late as events allow; early: at once.
#include "rehearsal.h"

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

using std::size_t;

namespace {

enum { SUCCESS = 0, INVALID_VALUE = 1, OUT_OF_MEMORY = 2, NOT_FOUND = 500, NOT_READY = 600,
       CAPTURE_UNSUPPORTED = 900, CAPTURE_INVALIDATED = 901 };

std::recursive_mutex lock_;
#define LOCK std::lock_guard<std::recursive_mutex> guard(lock_)

[[noreturn]] void give_up(const std::string& what) {
    std::fprintf(stderr, "rehearsal: %s\n", what.c_str());
    std::abort();
}

struct Graph;
struct Stream;

struct Event {
    Stream* stream = nullptr;
    uint64_t after = 0;
};

struct Stream {
    std::deque<std::function<void()>> waiting;
    uint64_t told = 0, done = 0;
    Graph* captured = nullptr; // null: not capturing
    bool broken = false;
};

// Memory of the device, by where it begins.
struct Block {
    size_t bytes;
    Graph* graph; // that allocates it; null: none
    bool freed_outside = false;
};
std::map<uintptr_t, Block> blocks;
std::map<uintptr_t, size_t> pinned;

struct Graph {
    std::vector<std::function<void()>> nodes;
    std::vector<uintptr_t> memory;
};

std::vector<Stream*> streams;
Stream* first_made = nullptr;

struct Counts {
    long to_device = 0, to_host = 0, kernels = 0, graphs = 0, captures = 0, allocations = 0;
} counts;

void run_until(Stream* stream, uint64_t after) {
    while (stream->done < after) {
        auto work = std::move(stream->waiting.front());
        stream->waiting.pop_front();
        stream->done++;
        work();
    }
}

bool early() {
    static const bool is = [] {
        const char* mode = std::getenv("ABN_REHEARSE");
        return mode && !std::strcmp(mode, "early");
    }();
    return is;
}

int tell(Stream* stream, std::function<void()> work) {
    if (stream->captured) {
        stream->captured->nodes.push_back(std::move(work));
        return SUCCESS;
    }
    stream->waiting.push_back(std::move(work));
    stream->told++;
    // The first stream is the computation's: copies are what comes early or late.
    if ((stream != first_made) == early()) run_until(stream, stream->told);
    return SUCCESS;
}

int break_capture(Stream* stream, const char* what) {
    std::fprintf(stderr, "rehearsal: in a capture: %s\n", what);
    stream->broken = true;
    return CAPTURE_UNSUPPORTED;
}

bool any_captured() {
    for (Stream* stream : streams)
        if (stream->captured) return true;
    return false;
}

void poison(uintptr_t at, size_t bytes) { std::memset(reinterpret_cast<void*>(at), 0xff, bytes); }

uintptr_t allocate(size_t bytes, Graph* graph) {
    void* memory = nullptr;
    if (posix_memalign(&memory, 256, bytes + 256)) return 0;
    uintptr_t at = reinterpret_cast<uintptr_t>(memory);
    poison(at, bytes);
    blocks[at] = {bytes, graph};
    counts.allocations++;
    return at;
}

bool is_pinned(const void* at, size_t bytes) {
    uintptr_t start = reinterpret_cast<uintptr_t>(at);
    auto next = pinned.upper_bound(start);
    if (next == pinned.begin()) return false;
    --next;
    return start + bytes <= next->first + next->second;
}

// A copy between device and host.
int copy(Stream* stream, void* to, const void* from, size_t bytes, const void* host, bool to_host) {
    (to_host ? counts.to_host : counts.to_device)++;
    bool stays = is_pinned(host, bytes);
    if (stream->captured && !stays) return break_capture(stream, to_host ? "a copy to the host" : "a copy from the host");
    if (stays) return tell(stream, [=] { std::memcpy(to, from, bytes); });
    if (to_host) {
        // Done when the call returns.
        run_until(stream, stream->told);
        std::memcpy(to, from, bytes);
        return SUCCESS;
    }
    // Pageable memory has been read when the call returns.
    std::vector<char> staged(static_cast<const char*>(from), static_cast<const char*>(from) + bytes);
    return tell(stream, [=] { std::memcpy(to, staged.data(), bytes); });
}

} // namespace

typedef void* Handle;
typedef unsigned long long Pointer;
#define API extern "C" __attribute__((visibility("default"))) int
static Stream* of(Handle stream) { return static_cast<Stream*>(stream); }

API cuInit(unsigned) { return SUCCESS; }
API cuDriverGetVersion(int* version) { return *version = 13000, SUCCESS; }
API cuDeviceGet(int* device, int ordinal) { return *device = ordinal, ordinal ? 101 : SUCCESS; }
API cuDeviceGetCount(int* count) { return *count = 1, SUCCESS; }
API cuDeviceGetName(char* name, int length, int) { return std::snprintf(name, length, "no GPU (rehearsal)"), SUCCESS; }
API cuDeviceGetAttribute(int* value, int attribute, int) {
    // Compute capability 9.0, memory pools, and numbers that are large enough for all else.
    *value = attribute == 75 ? 9 : attribute == 76 ? 0 : attribute == 115 ? 1 : 1024;
    return SUCCESS;
}
API cuDeviceTotalMem_v2(size_t* bytes, int) { return *bytes = size_t(8) << 30, SUCCESS; }
API cuMemGetInfo_v2(size_t* available, size_t* total) { return *available = *total = size_t(8) << 30, SUCCESS; }
static int context;
API cuDevicePrimaryCtxRetain(Handle* out, int) { return *out = &context, SUCCESS; }
API cuDevicePrimaryCtxRelease_v2(int) { return SUCCESS; }
static thread_local Handle current;
API cuCtxSetCurrent(Handle it) { return current = it, SUCCESS; }
API cuCtxGetCurrent(Handle* it) { return *it = current, SUCCESS; }
API cuCtxSynchronize() {
    LOCK;
    if (any_captured()) return CAPTURE_UNSUPPORTED;
    for (Stream* stream : streams) run_until(stream, stream->told);
    return SUCCESS;
}
API cuGetErrorName(int error, const char** name) {
    static thread_local char text[32];
    std::snprintf(text, sizeof text, "CUDA_ERROR_%d", error);
    return *name = text, SUCCESS;
}
API cuGetErrorString(int error, const char** name) { return cuGetErrorName(error, name); }

API cuDeviceGetDefaultMemPool(Handle* pool, int) { return *pool = &context, SUCCESS; }
API cuMemPoolSetAttribute(Handle, int, void*) { return SUCCESS; }
API cuMemPoolTrimTo(Handle, size_t) { return SUCCESS; }

API cuStreamCreate(Handle* out, unsigned) {
    LOCK;
    Stream* stream = new Stream;
    if (!first_made) first_made = stream;
    streams.push_back(stream);
    return *out = stream, SUCCESS;
}
API cuStreamDestroy_v2(Handle it) {
    LOCK;
    run_until(of(it), of(it)->told);
    return SUCCESS; // events may still name it
}
API cuStreamSynchronize(Handle it) {
    LOCK;
    if (of(it)->captured) return break_capture(of(it), "waiting for the stream");
    run_until(of(it), of(it)->told);
    return SUCCESS;
}
API cuEventCreate(Handle* out, unsigned) { return *out = new Event, SUCCESS; }
API cuEventDestroy_v2(Handle it) {
    LOCK;
    delete static_cast<Event*>(it);
    return SUCCESS;
}
API cuEventRecord(Handle it, Handle stream) {
    LOCK;
    if (of(stream)->captured) return break_capture(of(stream), "recording an event that others wait for");
    *static_cast<Event*>(it) = {of(stream), of(stream)->told};
    return SUCCESS;
}
API cuEventSynchronize(Handle it) {
    LOCK;
    Event* event = static_cast<Event*>(it);
    if (event->stream) run_until(event->stream, event->after);
    return SUCCESS;
}
API cuEventQuery(Handle it) {
    LOCK;
    Event* event = static_cast<Event*>(it);
    return !event->stream || event->stream->done >= event->after ? SUCCESS : NOT_READY;
}
API cuStreamWaitEvent(Handle stream, Handle it, unsigned) {
    LOCK;
    Event event = *static_cast<Event*>(it);
    if (!event.stream || event.stream == of(stream)) return SUCCESS;
    if (of(stream)->captured) return break_capture(of(stream), "waiting for an event of another stream");
    return tell(of(stream), [=] { run_until(event.stream, event.after); });
}

API cuMemAllocAsync(Pointer* out, size_t bytes, Handle stream) {
    LOCK;
    if (!bytes) return INVALID_VALUE;
    Graph* graph = of(stream)->captured;
    uintptr_t at = allocate(bytes, graph);
    if (graph) {
        graph->memory.push_back(at);
        graph->nodes.push_back([=] { poison(at, bytes); });
    }
    return *out = at, at ? SUCCESS : OUT_OF_MEMORY;
}
API cuMemFreeAsync(Pointer at, Handle stream) {
    LOCK;
    if (!at) return INVALID_VALUE;
    auto block = blocks.find(at);
    if (block == blocks.end()) return INVALID_VALUE;
    Graph* graph = of(stream)->captured;
    if (block->second.graph) {
        if (!graph) return INVALID_VALUE; // a graph's memory that outlives the capture: see `Graph::capture`
        size_t bytes = block->second.bytes;
        graph->nodes.push_back([=] { poison(at, bytes); });
        return SUCCESS;
    }
    if (graph) return break_capture(of(stream), "freeing memory that was allocated before");
    size_t bytes = block->second.bytes;
    blocks.erase(block);
    return tell(of(stream), [=] {
        poison(at, bytes);
        std::free(reinterpret_cast<void*>(at));
    });
}
API cuMemAlloc_v2(Pointer* out, size_t bytes) {
    LOCK;
    return *out = allocate(bytes, nullptr), SUCCESS;
}
API cuMemFree_v2(Pointer at) {
    LOCK;
    for (Stream* stream : streams) run_until(stream, stream->told);
    if (!blocks.erase(at)) return INVALID_VALUE;
    std::free(reinterpret_cast<void*>(at));
    return SUCCESS;
}
API cuMemHostAlloc(void** out, size_t bytes, unsigned) {
    LOCK;
    *out = std::malloc(bytes + 1);
    pinned[reinterpret_cast<uintptr_t>(*out)] = bytes;
    return SUCCESS;
}
API cuMemFreeHost(void* at) {
    LOCK;
    pinned.erase(reinterpret_cast<uintptr_t>(at));
    std::free(at);
    return SUCCESS;
}
API cuMemcpyHtoDAsync_v2(Pointer to, const void* from, size_t bytes, Handle stream) {
    LOCK;
    return copy(of(stream), reinterpret_cast<void*>(to), from, bytes, from, false);
}
API cuMemcpyDtoHAsync_v2(void* to, Pointer from, size_t bytes, Handle stream) {
    LOCK;
    return copy(of(stream), to, reinterpret_cast<void*>(from), bytes, to, true);
}
API cuMemcpyDtoDAsync_v2(Pointer to, Pointer from, size_t bytes, Handle stream) {
    LOCK;
    return tell(of(stream), [=] { std::memcpy(reinterpret_cast<void*>(to), reinterpret_cast<void*>(from), bytes); });
}
API cuMemsetD8Async(Pointer to, unsigned char value, size_t bytes, Handle stream) {
    LOCK;
    return tell(of(stream), [=] { std::memset(reinterpret_cast<void*>(to), value, bytes); });
}

struct Module {
    abn::Type type;
    bool ours;
};
struct Function {
    std::string name;
    const abn::Known* known;
};
API cuModuleLoadData(Handle* out, const void* image) {
    // Which of our files it is, by the type that one kernel adds in; candle's have no such kernel.
    const char* text = static_cast<const char*>(image);
    const char* kernel = std::strstr(text, ".entry add_bias");
    Module* module = new Module{abn::F32, kernel != nullptr};
    if (kernel) {
        const char* end = std::strstr(kernel + 1, ".entry");
        std::string body(kernel, end ? size_t(end - kernel) : std::strlen(kernel));
        bool f64 = body.find("add.f64") != std::string::npos || body.find("add.rn.f64") != std::string::npos;
        bool bf16 = body.find(".u16") != std::string::npos || body.find(".b16") != std::string::npos;
        module->type = f64 ? abn::F64 : bf16 ? abn::BF16 : abn::F32;
    }
    return *out = module, SUCCESS;
}
API cuModuleUnload(Handle) { return SUCCESS; }
API cuModuleGetFunction(Handle* out, Handle it, const char* name) {
    Module* module = static_cast<Module*>(it);
    const abn::Known* known = abn::find(module->ours ? module->type : abn::CANDLE, name);
    if (module->ours && !known) return NOT_FOUND;
    return *out = new Function{name, known}, SUCCESS;
}
API cuFuncGetAttribute(int* value, int, Handle) { return *value = 0, SUCCESS; }
API cuLaunchKernel(Handle it, unsigned x, unsigned y, unsigned z, unsigned tx, unsigned ty, unsigned tz, unsigned,
                   Handle stream, void** arguments, void**) {
    LOCK;
    Function* function = static_cast<Function*>(it);
    if (!function->known) give_up("a kernel of candle's that it does not know: " + function->name);
    counts.kernels++;
    // The driver copies the arguments at once.
    std::vector<std::vector<char>> copies;
    for (const size_t* size = function->known->sizes; *size; size++, arguments++) {
        const char* argument = static_cast<const char*>(*arguments);
        copies.emplace_back(argument, argument + *size);
    }
    const abn::Known* known = function->known;
    return tell(of(stream), [=]() mutable {
        std::vector<void*> pointers;
        for (auto& copy : copies) pointers.push_back(copy.data());
        const unsigned grid[3] = {x, y, z}, block[3] = {tx, ty, tz};
        abn::emulate(&known->entry, 1, known->entry.name, pointers.data(), grid, block);
    });
}

API cuStreamBeginCapture_v2(Handle stream, int) {
    LOCK;
    if (of(stream)->captured) return INVALID_VALUE;
    of(stream)->captured = new Graph;
    of(stream)->broken = false;
    return SUCCESS;
}
API cuStreamIsCapturing(Handle stream, int* status) {
    LOCK;
    return *status = of(stream)->captured != nullptr, SUCCESS;
}
API cuStreamEndCapture(Handle stream, Handle* graph) {
    LOCK;
    Graph* captured = of(stream)->captured;
    of(stream)->captured = nullptr;
    *graph = of(stream)->broken ? nullptr : captured;
    counts.captures += !of(stream)->broken;
    return of(stream)->broken ? CAPTURE_INVALIDATED : SUCCESS;
}
API cuGraphInstantiateWithFlags(Handle* exec, Handle graph, unsigned long long) { return *exec = graph, SUCCESS; }
API cuGraphUpload(Handle, Handle) { return SUCCESS; }
API cuGraphExecDestroy(Handle) { return SUCCESS; }
API cuGraphDestroy(Handle it) {
    LOCK;
    for (Stream* stream : streams) run_until(stream, stream->told);
    Graph* graph = static_cast<Graph*>(it);
    for (uintptr_t at : graph->memory) {
        blocks.erase(at);
        std::free(reinterpret_cast<void*>(at));
    }
    delete graph;
    return SUCCESS;
}
API cuGraphLaunch(Handle it, Handle stream) {
    LOCK;
    counts.graphs++;
    Graph* graph = static_cast<Graph*>(it);
    return tell(of(stream), [=] {
        for (auto& node : graph->nodes) node();
    });
}

// What was done so far, for those who find this function: copies to the device, to the host, kernels that
// were told, graphs that were launched and captured, allocations.
extern "C" __attribute__((visibility("default"))) void abn_rehearsal_counts(long* out) {
    LOCK;
    const long all[] = {counts.to_device, counts.to_host, counts.kernels,
                        counts.graphs,    counts.captures, counts.allocations};
    std::memcpy(out, all, sizeof all);
}

// cuRAND: nobody draws.
API curandCreateGenerator(Handle* out, int) { return *out = &context, SUCCESS; }
API curandSetStream(Handle, Handle) { return SUCCESS; }
API curandSetPseudoRandomGeneratorSeed(Handle, unsigned long long) { return SUCCESS; }
API curandDestroyGenerator(Handle) { return SUCCESS; }

// cuDNN: it does not do such convolutions, and our own kernels stand for it.
API cudnnCreate(Handle* out) { return *out = &context, SUCCESS; }
API cudnnDestroy(Handle) { return SUCCESS; }
API cudnnSetStream(Handle, Handle) { return SUCCESS; }
API cudnnCreateTensorDescriptor(Handle*) { return 3000; }

// cuBLAS: the one product that candle asks for.
API cublasCreate_v2(Handle* out) { return *out = new Handle, SUCCESS; }
API cublasDestroy_v2(Handle) { return SUCCESS; }
API cublasSetStream_v2(Handle it, Handle stream) { return *static_cast<Handle*>(it) = stream, SUCCESS; }
API cublasGemmStridedBatchedEx(Handle it, int transa, int transb, int m, int n, int k, const void* alpha, const void* a,
                               int type, int lda, long long stride_a, const void* b, int, int ldb, long long stride_b,
                               const void* beta, void* c, int, int ldc, long long stride_c, int batches, int, int) {
    LOCK;
    // CUDA_R_32F is 0, CUDA_R_64F 1, CUDA_R_16BF 14; scales are f32, or f64 with f64.
    double scale = type == 1 ? *static_cast<const double*>(alpha) : *static_cast<const float*>(alpha);
    double keep = type == 1 ? *static_cast<const double*>(beta) : *static_cast<const float*>(beta);
    if (scale != 1 || keep != 0) give_up("a matrix product that is scaled or added");
    counts.kernels++;
    auto at = [type](const void* base, long long i) -> double {
        if (type == 1) return static_cast<const double*>(base)[i];
        if (type == 0) return static_cast<const float*>(base)[i];
        uint32_t bits = uint32_t(static_cast<const uint16_t*>(base)[i]) << 16;
        float value;
        std::memcpy(&value, &bits, 4);
        return value;
    };
    return tell(of(*static_cast<Handle*>(it)), [=] {
        for (int batch = 0; batch < batches; batch++)
            for (int j = 0; j < n; j++)
                for (int i = 0; i < m; i++) {
                    double sum = 0;
                    for (int l = 0; l < k; l++)
                        sum += at(a, batch * stride_a + (transa ? i * (long long)lda + l : l * (long long)lda + i)) *
                               at(b, batch * stride_b + (transb ? l * (long long)ldb + j : j * (long long)ldb + l));
                    long long to = batch * stride_c + j * (long long)ldc + i;
                    if (type == 1) static_cast<double*>(c)[to] = sum;
                    else if (type == 0) static_cast<float*>(c)[to] = float(sum);
                    else {
                        float value = float(sum);
                        uint32_t bits;
                        std::memcpy(&bits, &value, 4);
                        static_cast<uint16_t*>(c)[to] = uint16_t((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
                    }
                }
    });
}

const abn::Known* find_f32(const char* name);
const abn::Known* find_bf16(const char* name);
const abn::Known* find_f64(const char* name);

const abn::Known* abn::find(Type type, const char* name) {
    switch (type) {
    case F32: return find_f32(name);
    case BF16: return find_bf16(name);
    case F64: return find_f64(name);
    default: return nullptr;
    }
}
