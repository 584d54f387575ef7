/* entry.c - every call's way in and out: the lock, the counters, fault rules, GPUs that are lost or
 * poisoned; and the state that a new process would have. */
#include "cudasim/driver/sim_internal.h"

#include <stdio.h>
#include <string.h>

enum { RULES_MAX = SIM_FAULTS_MAX * 2 };

sim_state sim = {.mutex = PTHREAD_MUTEX_INITIALIZER};

static _Thread_local cu_context current;

static uint64_t calls[SIM_CALLS_COUNT], calls_total;
static sim_fault_rule rules[RULES_MAX];
static uint32_t rules_count;
static char fault_text[512];
static bool fault_lines = true;

static const char *const call_names[SIM_CALLS_COUNT] = {
#define CALL_NAME(need, field, symbol, args) #symbol,
    CU_FUNCTIONS(CALL_NAME)
#undef CALL_NAME
};

/* --- state -------------------- */

static void set_up(void) {
    if (sim.ready) return;
    sim.ready = true;
    sim.topology = sim_topology_get();
    sim.random = sim.topology->seed * 0x9e3779b97f4a7c15u + 1;
    sim.devices_count = sim_topology_visible(sim.visible);
    for (uint32_t i = 0; i < sim.topology->gpus_count; i++) {
        sim.devices[i].gpu = &sim.topology->gpus[i];
        sim.devices[i].index = i;
    }
    rules_count = sim.topology->faults_count;
    memcpy(rules, sim.topology->faults, rules_count * sizeof rules[0]);
}

static void tear_down(void) {
    for (uint32_t i = 0; i < SIM_GPUS_MAX; i++) {
        (void)streams_release(&sim.devices[i]);
        (void)graphs_release(&sim.devices[i]);
        (void)modules_release(&sim.devices[i]);
    }
    (void)memory_release(NULL);
    sim_handle_reset();
    account_reset();
    memset(sim.devices, 0, sizeof sim.devices);
    memset(calls, 0, sizeof calls);
    calls_total = 0;
    fault_text[0] = '\0';
    sim.ready = sim.inited = false;
    sim.default_stream_uses = 0;
}

void sim_reset(const char *cudasim) {
    sim_lock();
    tear_down();
    (void)sim_topology_use(cudasim);
    set_up();
    current = NULL;
    sim_unlock();
}

void sim_lock(void) {
    (void)pthread_mutex_lock(&sim.mutex);
    set_up();
}

void sim_unlock(void) { (void)pthread_mutex_unlock(&sim.mutex); }

cu_context sim_current(void) { return current; }

void sim_set_current(cu_context ctx) { current = ctx; }

/* Marsaglia 2003, Vigna 2016: xorshift64*. */
uint64_t sim_random(void) {
    uint64_t x = sim.random;
    x ^= x >> 12;
    x ^= x << 25;
    x ^= x >> 27;
    sim.random = x;
    return x * 0x2545f4914f6cdd1du;
}

/* --- faults -------------------- */

/* CUDA driver API, CUresult: "the process must be terminated and relaunched", and those that leave
 * a device as useless without the reference saying so (710, 214, 220). */
bool sim_result_is_sticky(cu_result result) {
    switch (result) {
    case CU_ECC_UNCORRECTABLE:
    case CU_NVLINK_UNCORRECTABLE:
    case CU_CONTAINED:
    case CU_ILLEGAL_ADDRESS:
    case CU_LAUNCH_TIMEOUT:
    case CU_ASSERT:
    case CU_HARDWARE_STACK_ERROR:
    case CU_ILLEGAL_INSTRUCTION:
    case CU_MISALIGNED_ADDRESS:
    case CU_INVALID_ADDRESS_SPACE:
    case CU_INVALID_PC:
    case CU_LAUNCH_FAILED:
    case 721: /* tensor memory leak */
    case 810: /* MPS client terminated */
    case 911: /* cooperative launch failure */
        return true;
    default:
        return false;
    }
}

void sim_poison(sim_device *device, cu_result result, const char *why) {
    if (device->poison == CU_SUCCESS) device->poison = result;
    (void)snprintf(fault_text, sizeof fault_text, "GPU %u: result %d: %s", device->index, result,
                   why);
    if (fault_lines) (void)fprintf(stderr, "cudasim: %s\n", fault_text);
    queue_discard(device);
}

cu_result sim_status(const sim_device *device) {
    return device->lost ? (cu_result)CU_UNKNOWN : device->poison;
}

static cu_result call_rule(sim_call call) {
    for (uint32_t i = 0; i < rules_count; i++) {
        if (rules[i].at == calls[call] && strcmp(rules[i].call, call_names[call]) == 0)
            return rules[i].result;
    }
    return CU_SUCCESS;
}

/* A result that poisons happens when the kernel runs, another one where it is launched. */
cu_result sim_kernel_rule(const char *kernel, uint64_t count, bool asked) {
    for (uint32_t i = 0; i < rules_count; i++) {
        if (rules[i].at == count && strcmp(rules[i].kernel, kernel) == 0 &&
            sim_result_is_sticky(rules[i].result) != asked)
            return rules[i].result;
    }
    return CU_SUCCESS;
}

static uint64_t count_now(const char *call, const char *kernel, int result) {
    if (call == NULL)
        return sim_result_is_sticky(result) ? account_launches(kernel) : account_asked(kernel);
    for (uint32_t i = 0; i < SIM_CALLS_COUNT; i++) {
        if (strcmp(call, call_names[i]) == 0) return calls[i];
    }
    return 0;
}

void sim_fault_add(const char *call, const char *kernel, uint64_t at, int result) {
    sim_lock();
    if (rules_count < RULES_MAX) {
        sim_fault_rule *rule = &rules[rules_count++];
        memset(rule, 0, sizeof *rule);
        (void)snprintf(rule->call, sizeof rule->call, "%s", call != NULL ? call : "");
        (void)snprintf(rule->kernel, sizeof rule->kernel, "%s", kernel != NULL ? kernel : "");
        rule->at = at + count_now(call, kernel, result);
        rule->result = result;
    } else {
        (void)fprintf(stderr, "cudasim: more than %d fault rules, one is dropped\n", RULES_MAX);
    }
    sim_unlock();
}

void sim_fault_clear(void) {
    sim_lock();
    rules_count = 0;
    sim_unlock();
}

static void lose(sim_device *device) {
    device->lost = true;
    queue_discard(device);
}

void sim_lose_gpu(uint32_t gpu) {
    sim_lock();
    if (gpu < sim.topology->gpus_count) lose(&sim.devices[gpu]);
    sim_unlock();
}

const char *sim_fault_text(void) { return fault_text; }

void sim_fault_lines(bool on) {
    sim_lock();
    fault_lines = on;
    sim_unlock();
}

/* --- in and out -------------------- */

static void lose_those_due(void) {
    for (uint32_t i = 0; i < sim.topology->gpus_count; i++) {
        uint64_t at = sim.topology->gpus[i].lost_at_call;
        if (at != 0 && calls_total >= at && !sim.devices[i].lost) lose(&sim.devices[i]);
    }
}

static bool works_before_init(sim_call call) {
    return call == SIM_CALL_cuInit || call == SIM_CALL_cuDriverGetVersion ||
           call == SIM_CALL_cuGetErrorName || call == SIM_CALL_cuGetErrorString;
}

cu_result sim_enter(sim_call call) {
    sim_lock();
    calls[call]++;
    calls_total++;
    lose_those_due();
    if (sim.topology->stub) return CU_STUB_LIBRARY;
    cu_result ruled = call_rule(call);
    if (ruled != CU_SUCCESS) {
        sim_device *device = sim_handle_get(SIM_CONTEXT, current);
        if (device != NULL && sim_result_is_sticky(ruled))
            sim_poison(device, ruled, "a fault rule of this call");
        return ruled;
    }
    return sim.inited || works_before_init(call) ? CU_SUCCESS : CU_NOT_INITIALIZED;
}

cu_result sim_enter_context(sim_call call, sim_device **device) {
    cu_result result = sim_enter(call);
    if (result != CU_SUCCESS) return result;
    *device = sim_handle_get(SIM_CONTEXT, current);
    return *device == NULL ? (cu_result)CU_INVALID_CONTEXT : sim_status(*device);
}

cu_result sim_enter_device(sim_call call, cu_device ordinal, sim_device **device) {
    cu_result result = sim_enter(call);
    if (result != CU_SUCCESS) return result;
    if (ordinal < 0 || (uint32_t)ordinal >= sim.devices_count) return CU_INVALID_DEVICE;
    *device = &sim.devices[sim.visible[ordinal]];
    return (*device)->lost ? CU_UNKNOWN : CU_SUCCESS;
}

cu_result sim_leave(cu_result result) {
    if (sim.topology->streams == SIM_RANDOM) queue_stir();
    queue_reap();
    sim_unlock();
    return result;
}

/* --- counts -------------------- */

uint64_t sim_calls(const char *symbol) {
    uint64_t count = UINT64_MAX;
    sim_lock();
    if (symbol == NULL) count = calls_total;
    for (uint32_t i = 0; symbol != NULL && i < SIM_CALLS_COUNT; i++) {
        if (strcmp(symbol, call_names[i]) == 0) count = calls[i];
    }
    sim_unlock();
    return count;
}

uint64_t entry_calls(uint32_t index, const char **name) {
    if (index >= SIM_CALLS_COUNT) return 0;
    *name = call_names[index];
    return calls[index];
}

uint64_t sim_default_stream_uses(void) {
    sim_lock();
    uint64_t uses = sim.default_stream_uses;
    sim_unlock();
    return uses;
}
