// Streams, events and graphs.
//
// ABN_REHEARSE=late (unless set): the first stream, the computation's, runs at once, and the others' copies as late as
// events allow. `early`: the other way round. ABN_REHEARSE_COUNT=1: tells of each capture what it is made of.
#include "device.h"

#include <cstdarg>
#include <set>

using namespace standin;

std::recursive_mutex standin::lock;
Counts standin::counts;

static std::set<CUstream> streams;
static CUstream first_made;
// What the host has waited for.
static Clock host;

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

void standin::run_until(CUstream stream, uint64_t position) {
    while (stream->done < position) {
        auto work = std::move(stream->waiting.front());
        stream->waiting.pop_front();
        stream->done++;
        work();
    }
}

static bool early() {
    static const bool is = [] {
        const char* mode = std::getenv("ABN_REHEARSE");
        return mode && !std::strcmp(mode, "early");
    }();
    return is;
}

CUresult standin::tell(CUstream stream, const char* who, std::vector<Touch> touched, std::function<void()> work) {
    if (!has_context()) return refuse(CUDA_ERROR_INVALID_CONTEXT, "this thread has no context");
    if (!is_stream(stream)) return refuse(CUDA_ERROR_INVALID_HANDLE, "not a stream that was made: nothing orders it");
    if (stream->captured && stream->broken) return CUDA_ERROR_STREAM_CAPTURE_INVALIDATED;
    merge(stream->seen, host);
    for (const Touch& one : touched) touch(who, one, stream, stream->told + 1);
    if (stream->captured) {
        CUgraph_st::Part& part = stream->captured->parts[who];
        part.count++;
        for (const Touch& one : touched) part.bytes += bytes_from(one.at);
        stream->captured->nodes.push_back(std::move(work));
        return CUDA_SUCCESS;
    }
    stream->waiting.push_back(std::move(work));
    stream->told++;
    if ((stream != first_made) == early()) run_until(stream, stream->told);
    return CUDA_SUCCESS;
}

// Waits on the host.
static void wait_for(CUstream stream, uint64_t position) {
    run_until(stream, position);
    host[stream] = std::max(host[stream], position);
    merge(host, stream->seen);
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
    for (CUstream stream : streams) wait_for(stream, stream->told);
    look_around();
    return CUDA_SUCCESS;
}

API CUresult cuStreamCreate(CUstream* out, unsigned flags) {
    LOCK;
    if (!has_context()) return CUDA_ERROR_INVALID_CONTEXT;
    if (flags != CU_STREAM_NON_BLOCKING) return refuse(CUDA_ERROR_INVALID_VALUE, "a stream that waits for the default one");
    *out = new CUstream_st;
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
    run_until(event->stream, event->position);
    host[event->stream] = std::max(host[event->stream], event->position);
    merge(host, event->seen);
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
    CUresult result = tell(stream, "a wait", {}, [=] { run_until(event.stream, event.position); });
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
    for (CUstream stream : streams) run_until(stream, stream->told);
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
        if (!counts.kernels) return;
        std::fprintf(stderr,
                     "rehearsal: %ld kernels and %ld library calls told, %ld graphs captured and %ld launched, "
                     "%ld copies to the device and %ld from it, %ld allocations\n",
                     counts.kernels, counts.libraries, counts.captures, counts.launches, counts.to_device,
                     counts.to_host, counts.allocations);
    }
} at_exit;
