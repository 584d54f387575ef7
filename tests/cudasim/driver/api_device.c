/* api_device.c - cuInit, results in words, devices, the primary context, peers. */
#include "cudasim/driver/sim_internal.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SHARED_RESERVED = 1 << 10, REGISTERS = 65536, STACK_BYTES_MAX = 512 << 10 };

/* --- the driver -------------------- */

static cu_result init(unsigned flags) {
    if (flags != 0) return CU_INVALID_VALUE;
    if (sim.topology->init_result != 0) return sim.topology->init_result;
    if (sim.devices_count == 0) return CU_NO_DEVICE;
    sim.inited = true;
    return CU_SUCCESS;
}

cu_result cuInit(unsigned flags) { SIM_ANY(cuInit, init(flags)); }

static cu_result driver_version(int *version) {
    if (version == NULL) return CU_INVALID_VALUE;
    *version = sim.topology->cuda;
    return CU_SUCCESS;
}

cu_result cuDriverGetVersion(int *version) { SIM_ANY(cuDriverGetVersion, driver_version(version)); }

/* --- results in words -------------------- */

enum { RESULT_TEXT_BYTES = 64 };

typedef struct result_words {
    int code;
    const char *name;
    char text[RESULT_TEXT_BYTES]; /* the name's words, made when they are asked for */
} result_words;

static result_words results[] = {
#define RESULT_WORDS(name, number) {number, "CUDA_ERROR_" #name, ""},
    CU_RESULTS(RESULT_WORDS)
#undef RESULT_WORDS
        {SIM_PEER_UNSUPPORTED, "CUDA_ERROR_PEER_ACCESS_UNSUPPORTED", ""},
    {SIM_ILLEGAL_STATE, "CUDA_ERROR_ILLEGAL_STATE", ""},
    {SIM_PEER_NOT_ENABLED, "CUDA_ERROR_PEER_ACCESS_NOT_ENABLED", ""},
    {SIM_CAPTURE_MERGE, "CUDA_ERROR_STREAM_CAPTURE_MERGE", ""},
    {SIM_CAPTURE_UNMATCHED, "CUDA_ERROR_STREAM_CAPTURE_UNMATCHED", ""},
    {SIM_CAPTURE_UNJOINED, "CUDA_ERROR_STREAM_CAPTURE_UNJOINED", ""},
    {SIM_CAPTURE_ISOLATION, "CUDA_ERROR_STREAM_CAPTURE_ISOLATION", ""},
    {SIM_CAPTURED_EVENT, "CUDA_ERROR_CAPTURED_EVENT", ""},
    {SIM_CAPTURE_WRONG_THREAD, "CUDA_ERROR_STREAM_CAPTURE_WRONG_THREAD", ""},
};

static result_words *find_result(cu_result code) {
    for (size_t i = 0; i < sizeof results / sizeof results[0]; i++) {
        if (results[i].code == code) return &results[i];
    }
    return NULL;
}

static cu_result error_name(cu_result code, const char **name) {
    const result_words *words = find_result(code);
    if (name == NULL) return CU_INVALID_VALUE;
    *name = words == NULL ? NULL : words->name;
    if (code == CU_SUCCESS) *name = "CUDA_SUCCESS";
    return words == NULL ? CU_INVALID_VALUE : CU_SUCCESS;
}

cu_result cuGetErrorName(cu_result code, const char **name) {
    SIM_ANY(cuGetErrorName, error_name(code, name));
}

static void make_text(result_words *words) {
    const char *from = words->name + strlen("CUDA_ERROR_");
    char *to = words->text;
    for (; *from != '\0' && to < words->text + RESULT_TEXT_BYTES - 1; from++)
        *to++ = (char)(*from == '_' ? ' ' : tolower((unsigned char)*from));
    *to = '\0';
}

static cu_result error_string(cu_result code, const char **text) {
    result_words *words = find_result(code);
    if (text == NULL) return CU_INVALID_VALUE;
    *text = NULL;
    if (words == NULL) return CU_INVALID_VALUE;
    if (words->text[0] == '\0') make_text(words);
    *text = words->text;
    return CU_SUCCESS;
}

cu_result cuGetErrorString(cu_result code, const char **text) {
    SIM_ANY(cuGetErrorString, error_string(code, text));
}

/* --- devices -------------------- */

static cu_result device_count(int *count) {
    if (count == NULL) return CU_INVALID_VALUE;
    *count = (int)sim.devices_count;
    return CU_SUCCESS;
}

cu_result cuDeviceGetCount(int *count) { SIM_ANY(cuDeviceGetCount, device_count(count)); }

static cu_result device_get(cu_device *out, int ordinal) {
    if (out == NULL) return CU_INVALID_VALUE;
    if (ordinal < 0 || (uint32_t)ordinal >= sim.devices_count) return CU_INVALID_DEVICE;
    *out = ordinal;
    return CU_SUCCESS;
}

cu_result cuDeviceGet(cu_device *out, int ordinal) {
    SIM_ANY(cuDeviceGet, device_get(out, ordinal));
}

static cu_result put_text(char *out, int out_bytes, const char *text) {
    if (out == NULL || out_bytes <= 0) return CU_INVALID_VALUE;
    (void)snprintf(out, (size_t)out_bytes, "%s", text);
    return CU_SUCCESS;
}

cu_result cuDeviceGetName(char *name, int name_bytes, cu_device dev) {
    SIM_OF_DEVICE(cuDeviceGetName, dev, put_text(name, name_bytes, device->gpu->name));
}

static int hex_digit(char c) {
    return isdigit((unsigned char)c) != 0 ? c - '0' : tolower((unsigned char)c) - 'a' + 10;
}

/* "GPU-xxxxxxxx-xxxx-...": 32 digits. */
static cu_result device_uuid(const sim_device *device, cu_uuid *out) {
    if (out == NULL) return CU_INVALID_VALUE;
    memset(out, 0, sizeof *out);
    size_t digits = 0;
    for (const char *at = device->gpu->uuid + strlen("GPU-"); *at != '\0' && digits < 32; at++) {
        if (isxdigit((unsigned char)*at) == 0) continue;
        unsigned char *byte = &out->bytes[digits++ / 2];
        *byte = (unsigned char)(*byte << 4 | hex_digit(*at));
    }
    return CU_SUCCESS;
}

cu_result cuDeviceGetUuid(cu_uuid *out, cu_device dev) {
    SIM_OF_DEVICE(cuDeviceGetUuid, dev, device_uuid(device, out));
}

static cu_result device_memory(const sim_device *device, size_t *bytes) {
    if (bytes == NULL) return CU_INVALID_VALUE;
    *bytes = device->gpu->memory_bytes;
    return CU_SUCCESS;
}

cu_result cuDeviceTotalMem_v2(size_t *bytes, cu_device dev) {
    SIM_OF_DEVICE(cuDeviceTotalMem_v2, dev, device_memory(device, bytes));
}

typedef struct pci_address {
    unsigned domain, bus, device;
} pci_address;

static pci_address parse_pci(const sim_gpu *gpu) {
    pci_address p = {0};
    (void)sscanf(gpu->pci, "%x:%x:%x", &p.domain, &p.bus, &p.device);
    return p;
}

/* NVML writes the domain with 8 digits, the driver with 4. */
static cu_result device_pci(const sim_device *device, char *id, int id_bytes) {
    char text[32];
    pci_address p = parse_pci(device->gpu);
    (void)snprintf(text, sizeof text, "%04X:%02X:%02X.0", p.domain, p.bus, p.device);
    return put_text(id, id_bytes, text);
}

cu_result cuDeviceGetPCIBusId(char *id, int id_bytes, cu_device dev) {
    SIM_OF_DEVICE(cuDeviceGetPCIBusId, dev, device_pci(device, id, id_bytes));
}

/* From cc 8.0 on the system keeps 1 KiB of a block's shared memory (CUDA programming guide). */
static uint64_t shared_per_sm(const sim_gpu *gpu) {
    if (gpu->cc_major >= 8) return gpu->shared_optin_bytes + SHARED_RESERVED;
    return gpu->cc_major == 3 ? 112 << 10 : 64 << 10;
}

/* -1: there is no such attribute. */
static int64_t attribute_of(const sim_gpu *gpu, int attribute) {
    switch (attribute) {
    case CU_ATTR_MAX_THREADS_PER_BLOCK:
        return 1024;
    case CU_ATTR_MAX_SHARED_PER_BLOCK:
        return SIM_SHARED_DEFAULT;
    case CU_ATTR_WARP_SIZE:
        return 32;
    case CU_ATTR_MAX_REGISTERS_PER_BLOCK:
        return REGISTERS;
    case CU_ATTR_CLOCK_KHZ:
        return gpu->clock_khz;
    case CU_ATTR_SM_COUNT:
        return gpu->sms;
    case CU_ATTR_INTEGRATED:
        return 0;
    case CU_ATTR_COMPUTE_MODE:
        return gpu->prohibited ? 2 : 0;
    case CU_ATTR_ECC_ENABLED:
        return gpu->ecc;
    case CU_ATTR_PCI_BUS:
        return parse_pci(gpu).bus;
    case CU_ATTR_PCI_DEVICE:
        return parse_pci(gpu).device;
    case CU_ATTR_PCI_DOMAIN:
        return parse_pci(gpu).domain;
    case CU_ATTR_MEMORY_CLOCK_KHZ:
        return gpu->memory_clock_khz;
    case CU_ATTR_MEMORY_BUS_BITS:
        return gpu->memory_bus_bits;
    case CU_ATTR_L2_BYTES:
        return (int64_t)gpu->l2_bytes;
    case CU_ATTR_MAX_THREADS_PER_SM:
        return gpu->threads_per_sm;
    case CU_ATTR_CC_MAJOR:
        return gpu->cc_major;
    case CU_ATTR_CC_MINOR:
        return gpu->cc_minor;
    case CU_ATTR_MAX_SHARED_PER_SM:
        return (int64_t)shared_per_sm(gpu);
    case CU_ATTR_MAX_SHARED_OPTIN:
        return (int64_t)gpu->shared_optin_bytes;
    case CU_ATTR_VMM_SUPPORTED:
        return gpu->cc_major >= 6;
    default:
        return -1;
    }
}

static cu_result device_attribute(const sim_device *device, int *out, int attribute) {
    int64_t value = attribute_of(device->gpu, attribute);
    if (out == NULL || value < 0) return CU_INVALID_VALUE;
    *out = (int)value;
    return CU_SUCCESS;
}

cu_result cuDeviceGetAttribute(int *out, int attribute, cu_device dev) {
    SIM_OF_DEVICE(cuDeviceGetAttribute, dev, device_attribute(device, out, attribute));
}

/* --- the primary context -------------------- */

static cu_result context_retain(sim_device *device, cu_context *out) {
    if (out == NULL) return CU_INVALID_VALUE;
    if (device->gpu->prohibited) return CU_DEVICE_UNAVAILABLE;
    if (device->poison != CU_SUCCESS) return device->poison;
    if (device->refs++ == 0) {
        device->handle = sim_handle_new(SIM_CONTEXT, device);
        device->default_stream = queue_open(device, true);
    }
    *out = device->handle;
    return CU_SUCCESS;
}

cu_result cuDevicePrimaryCtxRetain(cu_context *out, cu_device dev) {
    SIM_OF_DEVICE(cuDevicePrimaryCtxRetain, dev, context_retain(device, out));
}

/* What the program did not destroy goes with the context, and counts as left behind. */
static void context_end(sim_device *device) {
    queue_drain_device(device);
    sim_handle_drop(device->handle);
    device->handle = NULL;
    account_leaked(streams_release(device) + graphs_release(device) + modules_release(device) +
                   memory_release(device));
    memset(device->peers, 0, sizeof device->peers);
    memory_forget_exposed();
}

static cu_result context_release(sim_device *device) {
    if (device->refs == 0) return CU_INVALID_CONTEXT;
    if (--device->refs == 0) context_end(device);
    return CU_SUCCESS;
}

cu_result cuDevicePrimaryCtxRelease_v2(cu_device dev) {
    SIM_OF_DEVICE(cuDevicePrimaryCtxRelease_v2, dev, context_release(device));
}

static cu_result context_set(cu_context ctx) {
    if (ctx != NULL && sim_handle_get(SIM_CONTEXT, ctx) == NULL) return CU_INVALID_CONTEXT;
    sim_set_current(ctx);
    return CU_SUCCESS;
}

cu_result cuCtxSetCurrent(cu_context ctx) { SIM_ANY(cuCtxSetCurrent, context_set(ctx)); }

static cu_result context_get(cu_context *out) {
    if (out == NULL) return CU_INVALID_VALUE;
    *out = sim_current();
    return CU_SUCCESS;
}

cu_result cuCtxGetCurrent(cu_context *out) { SIM_ANY(cuCtxGetCurrent, context_get(out)); }

static cu_result context_sync(sim_device *device) {
    cu_result unsafe = capture_unsafe();
    if (unsafe != CU_SUCCESS) return unsafe;
    queue_drain_device(device);
    return sim_status(device);
}

cu_result cuCtxSynchronize(void) { SIM_IN_CONTEXT(cuCtxSynchronize, context_sync(device)); }

static cu_result context_limit(int limit, size_t value) {
    if (limit != CU_LIMIT_STACK_BYTES) return CU_INVALID_VALUE;
    return value <= STACK_BYTES_MAX ? CU_SUCCESS : CU_INVALID_VALUE;
}

cu_result cuCtxSetLimit(int limit, size_t value) {
    SIM_IN_CONTEXT(cuCtxSetLimit, context_limit(limit, value));
}

/* --- peers -------------------- */

static cu_result can_access(const sim_device *device, int *can, cu_device peer) {
    if (can == NULL) return CU_INVALID_VALUE;
    if (peer < 0 || (uint32_t)peer >= sim.devices_count) return CU_INVALID_DEVICE;
    *can = sim.topology->p2p[device->index][sim.visible[peer]];
    return CU_SUCCESS;
}

cu_result cuDeviceCanAccessPeer(int *can, cu_device dev, cu_device peer) {
    SIM_OF_DEVICE(cuDeviceCanAccessPeer, dev, can_access(device, can, peer));
}

static cu_result enable_peer(sim_device *device, cu_context peer, unsigned flags) {
    const sim_device *other = sim_handle_get(SIM_CONTEXT, peer);
    if (flags != 0) return CU_INVALID_VALUE;
    if (other == NULL) return CU_INVALID_CONTEXT;
    if (!sim.topology->p2p[device->index][other->index]) return SIM_PEER_UNSUPPORTED;
    if (device->peers[other->index]) return CU_PEER_ACCESS_ALREADY_ENABLED;
    device->peers[other->index] = true;
    memory_forget_exposed();
    return CU_SUCCESS;
}

cu_result cuCtxEnablePeerAccess(cu_context peer, unsigned flags) {
    SIM_IN_CONTEXT(cuCtxEnablePeerAccess, enable_peer(device, peer, flags));
}
