// The device, what is loaded into it, and kernels.
#include "device.h"
#include "kernels.h"

#include <string>

using namespace standin;

static thread_local CUcontext current;

CUcontext standin::context() { return current; }

// The numbers of those that this process sees, up to the first that there is not.
static const std::vector<int>& visible() {
    static const std::vector<int> numbers = [] {
        const char *how_many = std::getenv("ABN_REHEARSE_DEVICES"), *named = std::getenv("CUDA_VISIBLE_DEVICES");
        const int count = how_many ? std::atoi(how_many) : 1;
        std::vector<int> seen;
        if (!named)
            for (int number = 0; number < count; number++) seen.push_back(number);
        while (named && *named) {
            char* end;
            const long number = std::strtol(named, &end, 10);
            if (end == named || number < 0 || number >= count) break;
            seen.push_back(int(number));
            named = *end == ',' ? end + 1 : "";
        }
        return seen;
    }();
    return numbers;
}

int standin::physical(CUdevice device) { return visible().at(device); }

static CUcontext primary(CUdevice device) {
    static std::vector<CUctx_st> contexts(visible().size());
    contexts.at(device).device = device;
    return &contexts.at(device);
}

API CUresult cuInit(unsigned) { return visible().empty() ? CUDA_ERROR_NO_DEVICE : CUDA_SUCCESS; }
API CUresult cuDriverGetVersion(int* version) { return *version = CUDA_VERSION, CUDA_SUCCESS; }
API CUresult cuDeviceGetCount(int* count) { return *count = int(visible().size()), CUDA_SUCCESS; }
API CUresult cuDeviceGet(CUdevice* device, int ordinal) {
    *device = ordinal;
    return ordinal < 0 || size_t(ordinal) >= visible().size() ? CUDA_ERROR_INVALID_DEVICE : CUDA_SUCCESS;
}
API CUresult cuDeviceGetName(char* name, int length, CUdevice) {
    return std::snprintf(name, length, "no GPU (rehearsal)"), CUDA_SUCCESS;
}
API CUresult cuDeviceGetUuid_v2(CUuuid* uuid, CUdevice device) {
    std::memset(uuid, 0, sizeof *uuid);
    uuid->bytes[sizeof uuid->bytes - 1] = char(physical(device));
    return CUDA_SUCCESS;
}
API CUresult cuDeviceTotalMem(size_t* bytes, CUdevice) { return *bytes = size_t(8) << 30, CUDA_SUCCESS; }
API CUresult cuMemGetInfo(size_t* available, size_t* total) {
    return *available = *total = size_t(8) << 30, CUDA_SUCCESS;
}
API CUresult cuDeviceGetAttribute(int* value, CUdevice_attribute attribute, CUdevice) {
    switch (attribute) {
    case CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR: return *value = 9, CUDA_SUCCESS;
    case CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR: return *value = 0, CUDA_SUCCESS;
    case CU_DEVICE_ATTRIBUTE_MEMORY_POOLS_SUPPORTED: return *value = 1, CUDA_SUCCESS;
    case CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT: return *value = 132, CUDA_SUCCESS;
    default: give_up("attribute %d of the device is asked for", int(attribute));
    }
}

API CUresult cuDevicePrimaryCtxRetain(CUcontext* out, CUdevice device) {
    LOCK;
    return *out = primary(device), CUDA_SUCCESS;
}
API CUresult cuDevicePrimaryCtxRelease(CUdevice) { return CUDA_SUCCESS; }
API CUresult cuCtxSetCurrent(CUcontext context) { return current = context, CUDA_SUCCESS; }
API CUresult cuCtxGetCurrent(CUcontext* context) { return *context = current, CUDA_SUCCESS; }

API CUresult cuGetErrorName(CUresult error, const char** name) {
    static thread_local char text[40];
    std::snprintf(text, sizeof text, "error %d of the rehearsal", int(error));
    switch (error) {
    case CUDA_ERROR_NO_DEVICE: return *name = "CUDA_ERROR_NO_DEVICE", CUDA_SUCCESS;
    case CUDA_ERROR_INVALID_DEVICE: return *name = "CUDA_ERROR_INVALID_DEVICE", CUDA_SUCCESS;
    default: return *name = text, CUDA_SUCCESS;
    }
}
API CUresult cuGetErrorString(CUresult error, const char** name) { return cuGetErrorName(error, name); }

// Modules are told apart by what nvcc made of the kernel `add_bias`, which candle has not.
struct CUmod_st {
    std::string text;
    const Kernel* (*find)(const char*);
};

API CUresult cuModuleLoadData(CUmodule* out, const void* image) {
    LOCK;
    if (!has_context()) return CUDA_ERROR_INVALID_CONTEXT;
    CUmodule module = new CUmod_st{static_cast<const char*>(image), find_candles};
    size_t start = module->text.find(".entry add_bias(");
    if (start != std::string::npos) {
        std::string body = module->text.substr(start, module->text.find(".entry", start + 1) - start);
        auto has = [&](const char* word) { return body.find(word) != std::string::npos; };
        module->find = has("add.f64") || has("add.rn.f64") ? find_f64
                       : has("ld.global.u16") || has(".b16") || has(".u16") ? find_bf16
                                                                           : find_f32;
    }
    return *out = module, CUDA_SUCCESS;
}
API CUresult cuModuleUnload(CUmodule) { return CUDA_SUCCESS; }

struct CUfunc_st {
    std::string name;
    const Kernel* kernel;
};

API CUresult cuModuleGetFunction(CUfunction* out, CUmodule module, const char* name) {
    LOCK;
    if (module->text.find(std::string(".entry ") + name + "(") == std::string::npos)
        return refuse(CUDA_ERROR_NOT_FOUND, name);
    const Kernel* kernel = module->find(name);
    if (!kernel && module->find != find_candles) give_up("the kernel %s is not among those for the CPU", name);
    return *out = new CUfunc_st{name, kernel}, CUDA_SUCCESS;
}

// The most bytes of arguments, from compute capability 7.0 on.
static const size_t MOST_BYTES = 32764;

API CUresult cuLaunchKernel(CUfunction function, unsigned x, unsigned y, unsigned z, unsigned tx, unsigned ty,
                            unsigned tz, unsigned shared, CUstream stream, void** arguments, void** extra) {
    LOCK;
    const Kernel* kernel = function->kernel;
    const char* name = function->name.c_str();
    if (!kernel) give_up("candle's kernel %s has no stand-in", name);
    if (!x || !y || !z || !tx || !ty || !tz || x > 0x7fffffff || y > 65535 || z > 65535 || tx * ty * tz > 1024 || tz > 64)
        return refuse(CUDA_ERROR_INVALID_VALUE, "a grid that no GPU takes");
    if (shared || extra) give_up("%s is started with shared memory or packed arguments", name);
    counts.kernels++;
    // The driver copies the arguments at once.
    std::vector<std::vector<char>> copies;
    std::vector<Touch> touched;
    size_t bytes = 0;
    for (const Parameter* parameter = kernel->parameters; parameter->bytes; parameter++) {
        const char* argument = static_cast<const char*>(*arguments++);
        copies.emplace_back(argument, argument + parameter->bytes);
        bytes += parameter->bytes;
        for (size_t word = 0; word + 8 <= parameter->bytes; word += 8) {
            uintptr_t at;
            std::memcpy(&at, argument + word, 8);
            // A table may have addresses among its numbers.
            bool is_address = parameter->kind != Parameter::VALUE ? at != 0 : parameter->bytes > 8 && is_device_memory(at);
            if (is_address) touched.push_back({at, parameter->kind != Parameter::READ});
        }
    }
    if (bytes > MOST_BYTES) return refuse(CUDA_ERROR_INVALID_VALUE, "more arguments than a GPU takes");
    return tell(stream, name, touched, [=]() mutable {
        std::vector<void*> pointers;
        for (auto& copy : copies) pointers.push_back(copy.data());
        const unsigned grid[3] = {x, y, z}, block[3] = {tx, ty, tz};
        abn::emulate(&kernel->entry, 1, kernel->entry.name, pointers.data(), grid, block);
    });
}

// cuRAND, of which candle makes a generator that nobody asks for a number; and the runtime, in which candle's library
// of kernels for language models registers itself.
API int curandCreateGenerator(void** out, int) { return *out = current, 0; }
API int curandSetStream(void*, CUstream) { return 0; }
API int curandSetPseudoRandomGeneratorSeed(void*, unsigned long long) { return 0; }
API int curandDestroyGenerator(void*) { return 0; }
API void** __cudaRegisterFatBinary(void*) {
    static void* handle;
    return &handle;
}
API void __cudaRegisterFatBinaryEnd(void**) {}
API void __cudaUnregisterFatBinary(void**) {}
API void __cudaRegisterFunction() {}
API void __cudaRegisterVar() {}
