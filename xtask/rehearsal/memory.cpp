// Memory of the device and pinned memory of the host, and copies between them.
#include "device.h"

using namespace standin;

namespace {

// Before and after each block, so that what is written beside it shows.
const size_t AROUND = 256;
const unsigned char UNTOUCHED = 0xa5;

struct Use {
    CUstream stream;
    uint64_t position;
};

struct Block {
    size_t bytes;
    uint64_t id;
    CUgraph graph; // that allocates it; null: none
    CUstream made_on;
    bool freed = false; // in that graph
    std::vector<Use> uses; // the last of each stream
    Use write{};
};
std::map<uintptr_t, Block> blocks;
uint64_t made;

struct Pinned {
    size_t bytes;
    int copies = 0; // that were told and are not done
};
std::map<uintptr_t, Pinned> pinned;

size_t in_use, most_in_use, most_of_graphs;

std::map<uintptr_t, Block>::iterator find(uintptr_t at) {
    auto next = blocks.upper_bound(at);
    if (next == blocks.begin()) return blocks.end();
    --next;
    return at <= next->first + next->second.bytes ? next : blocks.end();
}

void look_around_one(uintptr_t at, size_t bytes) {
    for (size_t i = 0; i < AROUND; i++)
        if (reinterpret_cast<unsigned char*>(at - AROUND)[i] != UNTOUCHED ||
            reinterpret_cast<unsigned char*>(at + bytes)[i] != UNTOUCHED)
            give_up("something wrote beside %zu bytes of memory", bytes);
}

void give_back(uintptr_t at, size_t bytes) {
    look_around_one(at, bytes);
    poison(at, bytes);
    std::free(reinterpret_cast<void*>(at - AROUND));
}

std::map<uintptr_t, Pinned>::iterator find_pinned(const void* at, size_t bytes) {
    uintptr_t start = uintptr_t(at);
    auto next = pinned.upper_bound(start);
    if (next == pinned.begin()) return pinned.end();
    --next;
    return start + bytes <= next->first + next->second.bytes ? next : pinned.end();
}

// A copy between device and host.
CUresult copy(CUstream stream, void* to, const void* from, size_t bytes, bool to_host) {
    if (!bytes) return CUDA_SUCCESS;
    (to_host ? counts.to_host : counts.to_device)++;
    const void* of_host = to_host ? to : from;
    if (is_device_memory(uintptr_t(of_host))) give_up("a copy takes the device's memory for the host's");
    Touch touched = to_host ? reads(from, bytes) : writes(to, bytes);
    auto stays = find_pinned(of_host, bytes);
    if (stays != pinned.end()) {
        if (is_stream(stream) && is_capturing(stream)) return break_capture(stream, "a copy that reads the host each time");
        Pinned* use = &stays->second;
        use->copies++;
        return tell(stream, "a copy", {touched}, [=] {
            std::memcpy(to, from, bytes);
            use->copies--;
        });
    }
    if (is_stream(stream) && is_capturing(stream))
        return break_capture(stream, to_host ? "a copy to the host" : "a copy from the host");
    if (to_host) {
        // Done when the call returns.
        CUresult result = tell(stream, "a copy", {touched}, [=] { std::memcpy(to, from, bytes); });
        return result != CUDA_SUCCESS ? result : cuStreamSynchronize(stream);
    }
    // Pageable memory has been read when the call returns.
    std::vector<char> staged(static_cast<const char*>(from), static_cast<const char*>(from) + bytes);
    return tell(stream, "a copy", {touched}, [to, bytes, staged] { std::memcpy(to, staged.data(), bytes); });
}

} // namespace

// NaN, in every number type. Of what is as large as a workspace, the beginning: more would only take time.
void standin::poison(uintptr_t at, size_t bytes) {
    std::memset(reinterpret_cast<void*>(at), 0xff, std::min(bytes, size_t(16) << 20));
}

uintptr_t standin::allocate(size_t bytes, CUstream stream, CUgraph graph) {
    void* memory = nullptr;
    if (posix_memalign(&memory, AROUND, bytes + 2 * AROUND)) return 0;
    uintptr_t at = uintptr_t(memory) + AROUND;
    std::memset(memory, UNTOUCHED, AROUND);
    std::memset(reinterpret_cast<void*>(at + bytes), UNTOUCHED, AROUND);
    poison(at, bytes);
    Block block{bytes, ++made, graph, stream};
    if (stream && !graph) block.write = {stream, stream->told};
    blocks[at] = block;
    counts.allocations++;
    in_use += bytes;
    most_in_use = std::max(most_in_use, in_use);
    return at;
}

bool standin::is_device_memory(uintptr_t at) {
    auto block = find(at);
    return block != blocks.end() && at < block->first + block->second.bytes;
}

void standin::touch(const char* who, const Touch& what, CUstream stream, uint64_t position) {
    auto found = find(what.at);
    if (found == blocks.end()) give_up("%s uses %p, which is no memory of the device", who, (void*)what.at);
    auto& [start, block] = *found;
    if (what.at + what.bytes > start + block.bytes) give_up("%s goes past the end of %zu bytes", who, block.bytes);
    if (block.freed) give_up("%s uses memory that the graph has freed", who);
    if (block.made_on && block.made_on->context != stream->context) give_up("%s uses memory of another GPU", who);
    CUgraph captured = stream->captured;
    if (block.graph) {
        if (block.graph != captured) give_up("%s uses memory of a graph outside of it", who);
        return;
    }
    if (captured) {
        captured->outside.push_back(what);
        captured->outside_blocks.push_back(block.id);
        return;
    }
    auto ordered = [&](const Use& use) {
        if (!use.stream || use.stream == stream) return true;
        auto seen = stream->seen.find(use.stream);
        return seen != stream->seen.end() && seen->second >= use.position;
    };
    if (!ordered(block.write)) give_up("%s uses %zu bytes that another stream may be writing", who, block.bytes);
    for (Use& use : block.uses)
        if (what.written && !ordered(use)) give_up("%s writes %zu bytes that another stream may be reading", who, block.bytes);
    if (what.written) {
        block.write = {stream, position};
        block.uses.clear();
        return;
    }
    for (Use& use : block.uses)
        if (use.stream == stream) {
            use.position = position;
            return;
        }
    block.uses.push_back({stream, position});
}

uint64_t standin::block_at(uintptr_t at) {
    auto block = find(at);
    return block == blocks.end() ? 0 : block->second.id;
}

size_t standin::bytes_from(uintptr_t at) {
    auto block = find(at);
    return block == blocks.end() ? 0 : block->first + block->second.bytes - at;
}

void standin::look_around() {
    for (auto& [at, block] : blocks) look_around_one(at, block.bytes);
}

void standin::release_graph_memory(CUgraph graph) {
    for (auto block = blocks.begin(); block != blocks.end();) {
        if (block->second.graph != graph) {
            ++block;
            continue;
        }
        in_use -= block->second.bytes;
        give_back(block->first, block->second.bytes);
        block = blocks.erase(block);
    }
}

API CUresult cuMemAllocAsync(CUdeviceptr* out, size_t bytes, CUstream stream) {
    LOCK;
    if (!bytes) return refuse(CUDA_ERROR_INVALID_VALUE, "an allocation of nothing");
    if (!is_stream(stream)) return refuse(CUDA_ERROR_INVALID_HANDLE, "memory on no stream");
    CUgraph graph = stream->captured;
    uintptr_t at = allocate(bytes, stream, graph);
    if (!at) return CUDA_ERROR_OUT_OF_MEMORY;
    *out = at;
    if (!graph) return CUDA_SUCCESS;
    most_of_graphs += bytes;
    return tell(stream, "an allocation", {}, [=] { poison(at, bytes); });
}

API CUresult cuMemFreeAsync(CUdeviceptr at, CUstream stream) {
    LOCK;
    auto found = blocks.find(at);
    if (found == blocks.end()) return refuse(CUDA_ERROR_INVALID_VALUE, "freeing what is no memory of the device");
    if (!is_stream(stream)) return refuse(CUDA_ERROR_INVALID_HANDLE, "freeing on no stream");
    Block& block = found->second;
    CUgraph graph = stream->captured;
    size_t bytes = block.bytes;
    if (block.graph) {
        if (graph != block.graph) give_up("%zu bytes that a capture allocated outlive it", bytes);
        if (block.freed) return refuse(CUDA_ERROR_INVALID_VALUE, "freeing twice");
        block.freed = true;
        return tell(stream, "freeing", {}, [=] { poison(at, bytes); });
    }
    if (graph) return break_capture(stream, "freeing memory that was allocated before");
    CUresult told = tell(stream, "freeing", {{uintptr_t(at), true}}, [=] { give_back(at, bytes); });
    if (told == CUDA_SUCCESS) {
        blocks.erase(at);
        in_use -= bytes;
    }
    return told;
}

API CUresult cuMemHostAlloc(void** out, size_t bytes, unsigned) {
    LOCK;
    if (!has_context()) return CUDA_ERROR_INVALID_CONTEXT;
    if (!bytes) return refuse(CUDA_ERROR_INVALID_VALUE, "pinned memory of no size");
    *out = std::malloc(bytes);
    std::memset(*out, 0xff, bytes);
    pinned[uintptr_t(*out)] = {bytes};
    return CUDA_SUCCESS;
}

API CUresult cuMemFreeHost(void* at) {
    LOCK;
    auto found = pinned.find(uintptr_t(at));
    if (found == pinned.end()) return refuse(CUDA_ERROR_INVALID_VALUE, "freeing what is not pinned");
    if (found->second.copies) give_up("pinned memory is freed under a copy");
    pinned.erase(found);
    std::free(at);
    return CUDA_SUCCESS;
}

API CUresult cuMemcpyHtoDAsync(CUdeviceptr to, const void* from, size_t bytes, CUstream stream) {
    LOCK;
    return copy(stream, reinterpret_cast<void*>(to), from, bytes, false);
}

API CUresult cuMemcpyDtoHAsync(void* to, CUdeviceptr from, size_t bytes, CUstream stream) {
    LOCK;
    return copy(stream, to, reinterpret_cast<void*>(from), bytes, true);
}

API CUresult cuMemcpyDtoDAsync(CUdeviceptr to, CUdeviceptr from, size_t bytes, CUstream stream) {
    LOCK;
    void *there = reinterpret_cast<void*>(to), *here = reinterpret_cast<void*>(from);
    return tell(stream, "a copy", {writes(there, bytes), reads(here, bytes)}, [=] { std::memcpy(there, here, bytes); });
}

API CUresult cuMemsetD8Async(CUdeviceptr to, unsigned char value, size_t bytes, CUstream stream) {
    LOCK;
    void* there = reinterpret_cast<void*>(to);
    return tell(stream, "setting memory", {writes(there, bytes)}, [=] { std::memset(there, value, bytes); });
}

struct CUmemPoolHandle_st {
    char unused;
};
static CUmemPoolHandle_st pool;

API CUresult cuDeviceGetDefaultMemPool(CUmemoryPool* out, CUdevice) { return *out = &pool, CUDA_SUCCESS; }

API CUresult cuMemPoolSetAttribute(CUmemoryPool, CUmemPool_attribute attribute, void*) {
    return attribute == CU_MEMPOOL_ATTR_RELEASE_THRESHOLD ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

API CUresult cuMemPoolGetAttribute(CUmemoryPool, CUmemPool_attribute attribute, void* value) {
    LOCK;
    if (attribute != CU_MEMPOOL_ATTR_RESERVED_MEM_HIGH) return CUDA_ERROR_INVALID_VALUE;
    *static_cast<cuuint64_t*>(value) = most_in_use;
    return CUDA_SUCCESS;
}

API CUresult cuDeviceGetGraphMemAttribute(CUdevice, CUgraphMem_attribute attribute, void* value) {
    LOCK;
    if (attribute != CU_GRAPH_MEM_ATTR_RESERVED_MEM_HIGH) return CUDA_ERROR_INVALID_VALUE;
    *static_cast<cuuint64_t*>(value) = most_of_graphs;
    return CUDA_SUCCESS;
}
