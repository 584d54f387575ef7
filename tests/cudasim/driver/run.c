/* run.c - what an operation of a stream does when its turn comes.
 *
 * Nobody waits for its result: a mistake poisons the context, and later calls say so. */
#include "cudasim/driver/sim_internal.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Pretended durations.  A host link gives 12 GB/s, memory 200 GB/s: only that they are there
 * matters. */
enum { MARKER_NS = 500, KERNEL_NS = 3000, HOST_BYTES_PER_NS = 12, DEVICE_BYTES_PER_NS = 200 };

/* --- kernels -------------------- */

static cu_result result_of(sim_fault fault) {
    switch (fault) {
    case SIM_OK:
        return CU_SUCCESS;
    case SIM_ILLEGAL_ADDRESS:
        return CU_ILLEGAL_ADDRESS;
    case SIM_MISALIGNED:
        return CU_MISALIGNED_ADDRESS;
    case SIM_DEADLOCK:
        return CU_LAUNCH_TIMEOUT;
    case SIM_TOO_EARLY: /* on a GPU wrong results, sometimes */
    case SIM_BAD_LAUNCH:
        break;
    }
    return CU_LAUNCH_FAILED;
}

static void poison_kernel(sim_device *device, const char *kernel, cu_result result,
                          const char *why) {
    char text[400];
    (void)snprintf(text, sizeof text, "%s: %s", kernel, why);
    sim_poison(device, result, text);
}

static void run_kernel(sim_device *device, const sim_kernel_op *op) {
    const char *name = op->kernel->name;
    uint64_t number = account_launch(name, op->early);
    cu_result ruled = sim_kernel_rule(name, number, false);
    if (ruled != CU_SUCCESS) {
        poison_kernel(device, name, ruled, "a fault rule of this launch");
        return;
    }
    if (sim_handle_get(SIM_MODULE, op->module) == NULL) {
        poison_kernel(device, name, CU_ILLEGAL_ADDRESS, "its module was unloaded");
        return;
    }
    memory_expose(device);
    sim_launch launch = {.kernel = op->kernel,
                         .args = op->args,
                         .shared_bytes = op->shared_bytes,
                         .shared_max = op->shared_max,
                         .early = op->early,
                         .order = (sim_order)sim.topology->threads_order,
                         .seed = sim.topology->seed + number};
    memcpy(launch.grid, op->grid, sizeof launch.grid);
    memcpy(launch.block, op->block, sizeof launch.block);
    sim_counters counters = {0};
    char why[256] = "";
    sim_fault fault = sim_run(&launch, account_is_counting() ? &counters : NULL, why, sizeof why);
    if (account_is_counting()) account_counters(name, &counters);
    if (fault != SIM_OK) poison_kernel(device, name, result_of(fault), why);
    device->clock_ns += KERNEL_NS;
}

/* --- copies -------------------- */

static bool is_there(sim_place place, const void *at, size_t bytes) {
    switch (place) {
    case PLACE_DEVICE:
        return memory_is_device(at, bytes, NULL);
    case PLACE_PINNED:
        return memory_is_pinned(at, bytes);
    case PLACE_PAGEABLE:
        break;
    }
    return true;
}

static void poison_gone(sim_device *device, const char *what, const void *at, size_t bytes) {
    char text[160];
    (void)snprintf(text, sizeof text, "%s %p, %zu bytes, is not there any more", what, at, bytes);
    sim_poison(device, CU_ILLEGAL_ADDRESS, text);
}

/* Some machines let GPUs write to each other and get the bytes wrong ("p2p_corrupts"). */
static void corrupt_peer_copy(const sim_copy_op *op) {
    sim_device *from = NULL, *to = NULL;
    if (!sim.topology->p2p_corrupts || !memory_is_device(op->src, op->bytes, &from) ||
        !memory_is_device(op->dst, op->bytes, &to) || from == to)
        return;
    if (from->peers[to->index] || to->peers[from->index])
        ((unsigned char *)op->dst)[op->bytes - 1] ^= 1;
}

static void run_copy(sim_device *device, const sim_copy_op *op) {
    bool is_staged = op->staged != NULL;
    if (!is_there(op->to, op->dst, op->bytes)) {
        poison_gone(device, "a copy's destination", op->dst, op->bytes);
        return;
    }
    if (!is_staged && !is_there(op->from, op->src, op->bytes)) {
        poison_gone(device, "a copy's source", op->src, op->bytes);
        return;
    }
    memmove(op->dst, is_staged ? op->staged : op->src, op->bytes);
    bool is_local = op->to == PLACE_DEVICE && op->from == PLACE_DEVICE;
    if (is_local) corrupt_peer_copy(op);
    account_copied(op->to, op->from, op->bytes);
    device->clock_ns += op->bytes / (is_local ? DEVICE_BYTES_PER_NS : HOST_BYTES_PER_NS) + 1;
}

static void run_fill(sim_device *device, const sim_fill_op *op) {
    size_t bytes = op->count * op->unit;
    if (!memory_is_device(op->dst, bytes, NULL)) {
        poison_gone(device, "a fill's destination", op->dst, bytes);
        return;
    }
    if (op->unit == 1) memset(op->dst, (int)op->value, bytes);
    for (size_t i = 0; op->unit == 4 && i < op->count; i++) ((uint32_t *)op->dst)[i] = op->value;
    device->clock_ns += bytes / DEVICE_BYTES_PER_NS + 1;
}

/* --- functions of the host -------------------- */

static void *call_on_thread(void *arg) {
    const sim_call_op *op = arg;
    op->fn(op->ctx);
    return NULL;
}

/* On a thread that is not the caller's, as a driver's is; we hold the lock, so that a function that
 * calls the driver, which is forbidden, hangs.  Not in a context that is poisoned. */
static void run_call(const sim_device *device, sim_call_op *op) {
    pthread_t thread;
    if (sim_status(device) != CU_SUCCESS) return;
    if (pthread_create(&thread, NULL, call_on_thread, op) != 0) abort();
    (void)pthread_join(thread, NULL);
}

void op_run(sim_device *device, sim_op *op) {
    switch (op->kind) {
    case OP_KERNEL:
        run_kernel(device, &op->kernel);
        break;
    case OP_COPY:
        run_copy(device, &op->copy);
        break;
    case OP_FILL:
        run_fill(device, &op->fill);
        break;
    case OP_CALL:
        run_call(device, &op->call);
        break;
    case OP_RECORD:
        device->clock_ns += MARKER_NS;
        op->marker->at_ns = device->clock_ns;
        op->marker->done = true;
        op->marker->stream = NULL;
        break;
    case OP_WAIT:
        break;
    }
}
