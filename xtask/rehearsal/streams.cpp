// Streams, events and graphs.
//
// ABN_REHEARSE=late (unless set): the first stream, the computation's, runs at once, and the others' copies as late as
// events allow. `early`: the other way round. ABN_REHEARSE_COUNT=1: tells of each capture what it is made of.
#include "device.h"

#include <chrono>
#include <cstdarg>
#include <set>
#include <thread>

using namespace standin;

Counts standin::counts;

static std::recursive_mutex lock;
static thread_local int turns;
static std::set<CUstream> streams;
// Those that wait for another process.
static std::set<CUstream> held_up;
static CUstream first_made;
// What the host has waited for.
static Clock host;

standin::Turn::Turn() {
    lock.lock();
    turns++;
}

standin::Turn::~Turn() {
    turns--;
    lock.unlock();
}

void standin::pause() {
    const int held = turns;
    for (turns = 0; turns < held; turns++) lock.unlock();
    std::this_thread::sleep_for(std::chrono::microseconds(200));
    for (turns = 0; turns < held; turns++) lock.lock();
}

void standin::wait_until(const char* what, const std::function<bool()>& done) {
    static const int seconds = [] {
        const char* patience = std::getenv("ABN_REHEARSE_PATIENCE");
        return patience ? std::atoi(patience) : 120;
    }();
    const auto start = std::chrono::steady_clock::now();
    while (!done()) {
        if (std::chrono::steady_clock::now() - start > std::chrono::seconds(seconds))
            give_up("%s for %d seconds: a GPU would wait for ever", what, seconds);
        pause();
    }
}

void standin::give_up(const char* format, ...) {
    va_list arguments;
    va_start(arguments, format);
    std::fputs("rehearsal: ", stderr);
    std::vfprintf(stderr, format, arguments);
    std::fputs("\n", stderr);
    std::abort();
}

CUresult standin::refuse(CUresult result, const char* why) {
    std::fprintf(stderr, "rehearsal: error %d: %s\n", int(result), why);
    return result;
}

static void merge(Clock& into, const Clock& other) {
    for (auto& [stream, position] : other) into[stream] = std::max(into[stream], position);
}

bool standin::is_stream(CUstream stream) { return streams.count(stream) != 0; }

bool standin::is_capturing(CUstream stream) { return stream->captured != nullptr; }

CUresult standin::break_capture(CUstream stream, const char* why) {
    stream->broken = true;
    return refuse(CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED, why);
}

bool standin::run_until(CUstream stream, uint64_t position) {
    stream->wanted = std::max(stream->wanted, position);
    while (stream->done < position) {
        if (!stream->waiting.front()()) {
            held_up.insert(stream);
            return false;
        }
        stream->waiting.pop_front();
        stream->done++;
    }
    return true;
}

void standin::go_on() {
    for (CUstream stream : std::vector<CUstream>(held_up.begin(), held_up.end()))
        if (run_until(stream, stream->wanted)) held_up.erase(stream);
}

bool standin::comes_after(CUstream stream, CUstream other, uint64_t position) {
    if (stream == other || host[other] >= position) return true;
    auto seen = stream->seen.find(other);
    return seen != stream->seen.end() && seen->second >= position;
}

void standin::host_has_seen(CUstream stream, uint64_t position) {
    host[stream] = std::max(host[stream], position);
    merge(host, stream->seen);
}

static bool early() {
    static const bool is = [] {
        const char* mode = std::getenv("ABN_REHEARSE");
        return mode && !std::strcmp(mode, "early");
    }();
    return is;
}

// Whether a stream can be given work that touches this memory.
static CUresult look_at(CUstream stream, const char* who, const std::vector<Touch>& touched) {
    if (!has_context()) return refuse(CUDA_ERROR_INVALID_CONTEXT, "this thread has no context");
    if (!is_stream(stream)) return refuse(CUDA_ERROR_INVALID_HANDLE, "not a stream that was made: nothing orders it");
    if (stream->context != context()) return refuse(CUDA_ERROR_INVALID_CONTEXT, "the stream is another GPU's");
    if (stream->captured && stream->broken) return CUDA_ERROR_STREAM_CAPTURE_INVALIDATED;
    merge(stream->seen, host);
    for (const Touch& one : touched) touch(who, one, stream, stream->told + 1);
    return CUDA_SUCCESS;
}

static CUresult push(CUstream stream, std::function<bool()> work) {
    stream->waiting.push_back(std::move(work));
    stream->told++;
    if ((stream != first_made) == early()) run_until(stream, stream->told);
    return CUDA_SUCCESS;
}

CUresult standin::tell(CUstream stream, const char* who, std::vector<Touch> touched, std::function<void()> work) {
    CUresult result = look_at(stream, who, touched);
    if (result != CUDA_SUCCESS) return result;
    if (stream->captured) {
        CUgraph_st::Part& part = stream->captured->parts[who];
        part.count++;
        for (const Touch& one : touched) part.bytes += bytes_from(one.at);
        stream->captured->nodes.push_back(std::move(work));
        return CUDA_SUCCESS;
    }
    return push(stream, [work = std::move(work)] { return work(), true; });
}

CUresult standin::tell_until(CUstream stream, const char* who, std::vector<Touch> touched, std::function<bool()> work) {
    CUresult result = look_at(stream, who, touched);
    if (result != CUDA_SUCCESS) return result;
    if (stream->captured) give_up("%s is captured", who);
    return push(stream, std::move(work));
}

// Waits on the host.
static void wait_for(CUstream stream, uint64_t position) {
    wait_until("the host has waited for a stream", [=] { return run_until(stream, position); });
    host_has_seen(stream, position);
}

static bool any_captured() {
    for (CUstream stream : streams)
        if (stream->captured) return true;
    return false;
}

API CUresult cuCtxSynchronize() {
    LOCK;
    if (!has_context()) return CUDA_ERROR_INVALID_CONTEXT;
    if (any_captured()) return refuse(CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED, "waiting for a device that is captured");
    for (CUstream stream : std::set<CUstream>(streams))
        if (stream->context == context()) wait_for(stream, stream->told);
    look_around();
    return CUDA_SUCCESS;
}

API CUresult cuStreamCreate(CUstream* out, unsigned flags) {
    LOCK;
    if (!has_context()) return CUDA_ERROR_INVALID_CONTEXT;
    if (flags != CU_STREAM_NON_BLOCKING) return refuse(CUDA_ERROR_INVALID_VALUE, "a stream that waits for the default one");
    *out = new CUstream_st;
    (*out)->context = context();
    if (!first_made) first_made = *out;
    streams.insert(*out);
    return CUDA_SUCCESS;
}

API CUresult cuStreamDestroy(CUstream stream) {
    LOCK;
    if (!is_stream(stream)) return refuse(CUDA_ERROR_INVALID_HANDLE, "destroying no stream");
    run_until(stream, stream->told);
    streams.erase(stream); // never deleted: events may still name it
    return CUDA_SUCCESS;
}

API CUresult cuStreamSynchronize(CUstream stream) {
    LOCK;
    if (!is_stream(stream)) return refuse(CUDA_ERROR_INVALID_HANDLE, "waiting for no stream");
    if (stream->captured) return break_capture(stream, "waiting for a stream that is captured");
    wait_for(stream, stream->told);
    look_around();
    return CUDA_SUCCESS;
}

struct CUevent_st {
    CUstream stream;
    uint64_t position;
    Clock seen;
};

API CUresult cuEventCreate(CUevent* out, unsigned) {
    LOCK;
    if (!has_context()) return CUDA_ERROR_INVALID_CONTEXT;
    *out = new CUevent_st{};
    return CUDA_SUCCESS;
}

API CUresult cuEventDestroy(CUevent event) {
    LOCK;
    delete event;
    return CUDA_SUCCESS;
}

API CUresult cuEventRecord(CUevent event, CUstream stream) {
    LOCK;
    if (!is_stream(stream)) return refuse(CUDA_ERROR_INVALID_HANDLE, "an event of no stream");
    if (stream->captured) return break_capture(stream, "an event, for which nobody outside can wait");
    *event = {stream, stream->told, stream->seen};
    merge(event->seen, host);
    return CUDA_SUCCESS;
}

API CUresult cuEventSynchronize(CUevent event) {
    LOCK;
    if (!event->stream) return CUDA_SUCCESS;
    const CUevent_st it = *event;
    wait_until("the host has waited for an event", [&] { return run_until(it.stream, it.position); });
    host[it.stream] = std::max(host[it.stream], it.position);
    merge(host, it.seen);
    return CUDA_SUCCESS;
}

API CUresult cuStreamWaitEvent(CUstream stream, CUevent it, unsigned) {
    LOCK;
    if (!is_stream(stream)) return refuse(CUDA_ERROR_INVALID_HANDLE, "no stream waits");
    CUevent_st event = *it;
    if (!event.stream || event.stream == stream) return CUDA_SUCCESS;
    if (stream->captured) {
        stream->broken = true;
        return refuse(CUDA_ERROR_STREAM_CAPTURE_ISOLATION, "a capture waits for what is not in it");
    }
    CUresult result = tell_until(stream, "a wait", {}, [=] { return run_until(event.stream, event.position); });
    merge(stream->seen, event.seen);
    stream->seen[event.stream] = std::max(stream->seen[event.stream], event.position);
    return result;
}

API CUresult cuStreamBeginCapture(CUstream stream, CUstreamCaptureMode mode) {
    LOCK;
    if (!is_stream(stream)) return refuse(CUDA_ERROR_INVALID_HANDLE, "capturing no stream");
    if (stream->captured) return refuse(CUDA_ERROR_ILLEGAL_STATE, "a capture in a capture");
    if (mode != CU_STREAM_CAPTURE_MODE_RELAXED) return refuse(CUDA_ERROR_INVALID_VALUE, "other threads allocate meanwhile");
    stream->captured = new CUgraph_st;
    stream->broken = false;
    return CUDA_SUCCESS;
}

API CUresult cuStreamIsCapturing(CUstream stream, CUstreamCaptureStatus* status) {
    LOCK;
    *status = !stream->captured ? CU_STREAM_CAPTURE_STATUS_NONE
              : stream->broken  ? CU_STREAM_CAPTURE_STATUS_INVALIDATED
                                : CU_STREAM_CAPTURE_STATUS_ACTIVE;
    return CUDA_SUCCESS;
}

API CUresult cuStreamEndCapture(CUstream stream, CUgraph* graph) {
    LOCK;
    CUgraph captured = stream->captured;
    if (!captured) return refuse(CUDA_ERROR_ILLEGAL_STATE, "the end of no capture");
    stream->captured = nullptr;
    *graph = stream->broken ? nullptr : captured;
    if (stream->broken) return CUDA_ERROR_STREAM_CAPTURE_INVALIDATED;
    counts.captures++;
    if (std::getenv("ABN_REHEARSE_COUNT"))
        for (auto& [name, part] : captured->parts)
            std::fprintf(stderr, "captured: %6ld × %-24s %12.3f MB\n", part.count, name.c_str(), part.bytes / 1e6);
    return CUDA_SUCCESS;
}

struct CUgraphExec_st {
    CUgraph graph;
};

API CUresult cuGraphInstantiateWithFlags(CUgraphExec* out, CUgraph graph, unsigned long long flags) {
    LOCK;
    if (flags != CUDA_GRAPH_INSTANTIATE_FLAG_AUTO_FREE_ON_LAUNCH) return refuse(CUDA_ERROR_INVALID_VALUE, "other flags");
    // Of a graph with memory of its own there may be one at a time.
    if (graph->has_exec) return refuse(CUDA_ERROR_NOT_SUPPORTED, "a second instance of a graph that allocates");
    graph->has_exec = true;
    *out = new CUgraphExec_st{graph};
    return CUDA_SUCCESS;
}

API CUresult cuGraphUpload(CUgraphExec, CUstream stream) {
    LOCK;
    return is_stream(stream) ? CUDA_SUCCESS : CUDA_ERROR_INVALID_HANDLE;
}

API CUresult cuGraphLaunch(CUgraphExec exec, CUstream stream) {
    LOCK;
    counts.launches++;
    CUgraph graph = exec->graph;
    for (size_t i = 0; i < graph->outside.size(); i++)
        if (block_at(graph->outside[i].at) != graph->outside_blocks[i])
            give_up("a graph is launched whose memory was freed since it was captured");
    return tell(stream, "a graph", graph->outside, [=] {
        for (auto& node : graph->nodes) node();
    });
}

API CUresult cuGraphExecDestroy(CUgraphExec exec) {
    LOCK;
    for (CUstream stream : std::set<CUstream>(streams))
        wait_until("a graph has waited to be destroyed", [=] { return run_until(stream, stream->told); });
    exec->graph->has_exec = false;
    delete exec;
    return CUDA_SUCCESS;
}

API CUresult cuGraphDestroy(CUgraph graph) {
    LOCK;
    release_graph_memory(graph);
    delete graph;
    return CUDA_SUCCESS;
}

static struct AtExit {
    ~AtExit() {
        if (!counts.kernels || std::getenv("ABN_REHEARSE_QUIETLY")) return;
        std::fprintf(stderr,
                     "rehearsal: %ld kernels and %ld library calls told, %ld graphs captured and %ld launched, "
                     "%ld copies to the device and %ld from it, %ld allocations, %ld sums over processes\n",
                     counts.kernels, counts.libraries, counts.captures, counts.launches, counts.to_device,
                     counts.to_host, counts.allocations, counts.sums);
    }
} at_exit;
